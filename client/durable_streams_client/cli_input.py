"""What comes on standard input, or in a file, in blocks: read by a thread that holds nobody up.

A thread of the event loop's own would be waited for at the end: an interrupt while nothing comes would do nothing.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

BLOCK_BYTES = 256 * 1024
AHEAD = 4
"""Blocks that are read before they are asked for."""


async def blocks(descriptor: int) -> AsyncIterator[bytes]:
    """Until there are no more. Raises OSError."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)

    def read() -> None:
        found: bytes | OSError = b"?"
        while found and not isinstance(found, OSError):
            room.acquire()
            try:
                found = os.read(descriptor, BLOCK_BYTES)
            except OSError as error:
                found = error
            try:
                loop.call_soon_threadsafe(queue.put_nowait, found)
            except RuntimeError:
                return  # The loop is closed: nobody asks any more.

    threading.Thread(target=read, name="input", daemon=True).start()
    while True:
        block = await queue.get()
        room.release()
        if isinstance(block, OSError):
            raise block
        if not block:
            return
        yield block
