"""python -m benchmarks.producer: a Producer on three nodes beside NATS JetStream R3, in one run.

Records of 100 bytes to one stream, so many under way: each is sent when one before it is acknowledged. Ours
acknowledges what a majority has fsynced; JetStream, by its defaults, what a majority has in its page cache.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.compare import CACHE
from benchmarks.load import SIZE, LoadError
from benchmarks.nats import STREAM, Publisher, running_nats
from durable_streams_client import Client, Producer
from tests.cluster import running_cluster

RECORD = b"x" * SIZE
WINDOWS = (1, 32, 128, 1000)
Take = Callable[[int, float], Awaitable[float]]
"""Records a second, for so many under way and seconds."""


async def produce(producer: Producer, window: int, seconds: float) -> float:
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


async def measure(takes: dict[str, Take], rounds: int, seconds: float) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, list[float]]] = {}
    for take in takes.values():
        await take(128, 2)
    for number in range(rounds):
        for window in WINDOWS:
            names = list(takes)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                rate = await takes[name](window, seconds)
                found.setdefault(window, {}).setdefault(name, []).append(rate)
                print(f"  {window:5} {name:6} {rate:10,.0f}/s", file=sys.stderr, flush=True)
    return {window: {name: statistics.median(rates) for name, rates in rows.items()} for window, rows in found.items()}


def sync_ms(folder: Path) -> float:
    """How long the disk takes to sync one small write: median, milliseconds."""
    times = []
    with (folder / "syncs").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(RECORD)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


async def run(place: Path, rounds: int, seconds: float) -> dict[int, dict[str, float]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=place)))
        print(f"one sync of this disk takes {sync_ms(folder):.2f} ms")
        cluster = stack.enter_context(running_cluster(folder=folder / "ours"))
        nats = stack.enter_context(running_nats(folder / "nats"))
        publisher = await Publisher.connect(nats.ports[0])
        made = await publisher.ask("STREAM.CREATE.BENCH", STREAM)
        leader = made["cluster"]["leader"]
        publisher.close()
        publisher = await Publisher.connect(nats.ports[int(leader.removeprefix("s"))])
        async with Client(cluster.targets) as client:
            stream = client.stream("bench/producer")
            await stream.create(content_type="text/plain")
            async with stream.producer() as producer:
                takes: dict[str, Take] = {
                    "ours": lambda window, seconds: produce(producer, window, seconds),
                    "nats": lambda window, seconds: publisher.publish(RECORD, window, seconds),
                }
                found = await measure(takes, rounds, seconds)
        state = (await publisher.ask("STREAM.INFO.BENCH", {}))["state"]
        if state["messages"] != publisher.stored:
            raise LoadError(f"NATS answered {publisher.stored} records, and holds {state['messages']}")
        publisher.close()
        return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.producer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are taken (default 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each load (default 4)")
    parser.add_argument("--folder", type=Path, default=CACHE, help="on which disk (default that of this checkout)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(run(options.folder, options.rounds, options.seconds))
    print(f"records/s of {SIZE} bytes, three nodes; medians of {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'under way':>10}{'ours':>12}{'NATS':>12}{'ours / NATS':>14}")
    for window, rates in found.items():
        print(f"{window:>10}{rates['ours']:>12,.0f}{rates['nats']:>12,.0f}{rates['ours'] / rates['nats']:>14.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
