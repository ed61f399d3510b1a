"""Clients that ask a closed stream again and again at once are slowed down.

The official Python client 0.1.0 does, over a new connection each time (it never reads the 204 to its end), so what is
counted is the host. A host that many readers share, such as a proxy, has their last answers delayed by 2 s at most.
"""

import asyncio

FREE = 4
"""Closed answers to one host about one stream that come at once, as PROTOCOL 5.7 asks."""
STEP_S = 0.25
MAX_S = 2.0
REMEMBERED = 10_000
FORGET_MS = 10_000


class ClosedPacing:
    """Delays "closed" answers to a host that had several about the same stream just before."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def delay_s(self, host: str, path: str, now_ms: int) -> float:
        """Seconds to wait before this closed answer; steady milliseconds in."""
        key = (host, path)
        count, last_ms = self._seen.pop(key, (0, now_ms))
        if now_ms - last_ms > FORGET_MS:
            count = 0
        if len(self._seen) >= REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = (count + 1, now_ms)
        return min(MAX_S, STEP_S * max(0, count + 1 - FREE))

    async def pace(self, host: str, path: str, now_ms: int) -> None:
        """Wait as long as ``delay_s`` says."""
        delay_s = self.delay_s(host, path, now_ms)
        if delay_s:
            await asyncio.sleep(delay_s)
