"""A Producer at work: so many records under way, each sent when one before it is acknowledged."""

import asyncio
import time

from benchmarks.load import SIZE
from durable_streams_client import Producer

RECORD = b"x" * SIZE


async def produce(producer: Producer, window: int, seconds: float) -> float:
    """Records a second; every one is acknowledged at the end."""
    under_way = stored = 0
    room = asyncio.Event()

    def acknowledged(_: object) -> None:
        nonlocal under_way, stored
        under_way -= 1
        stored += 1
        room.set()

    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        while under_way < window:
            (await producer.append(RECORD)).add_done_callback(acknowledged)
            under_way += 1
        room.clear()
        await room.wait()
    await producer.flush()
    return stored / (time.perf_counter() - begun)
