"""Small answers that leave together.

Appends that shared a batch are answered in one turn of the loop. If each answer was sent as soon as it is made, each
would wake a client, which takes the processor for a moment and sleeps again before the next answer is ready. So they
are sent one right after the other, when the turn has made them all: measured with 128 clients on the same machine, half
as many changes between processes.
"""

import asyncio


class Cork:
    """Of one listener. Whoever writes to one of its connections otherwise, or closes it, calls ``flush`` before."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send ``data`` in the next turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Send what waits, now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for transport, data in waiting:
                if not transport.is_closing():
                    transport.write(data)
