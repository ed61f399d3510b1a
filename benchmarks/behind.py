"""python -m benchmarks.behind: a node that missed gigabytes catches up, while appends go on at a steady pace.

Three nodes with default settings. First all take appends of 100 bytes at the pace, and some large ones: that shows what
is normal. Then one is killed, so many megabytes are appended without it, and it is started again. From then until it
has everything, the longest time without an acknowledgement and the receiver's memory are measured. Prints a row a
second, then a line of JSON; exit code 1 when a bound is broken.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.many import resident_mib
from tests.system.chaos import members
from tests.system.chaos.cluster import START_LIMIT, Cluster, Node
from tests.system.chaos.worlds import World
from tests.system.kill.wire import Connection

PREFIX = "/v1/stream/behind/"
LARGE_BYTES = 1 << 20
FILLERS, STREAMS, CONNECTIONS = 8, 64, 64
WARM_MIB = 128
WARM_S = 10.0
STALL_S, ABOVE_MIB = 0.5, 256.0
"""The longest time without an acknowledged append, and a receiver's memory above what it had before."""
LOOK_S = 0.2
KIND = {"content-type": "application/octet-stream"}


class Pace:
    """Appends of 100 bytes to one node, so many a second whatever becomes of them, while the block lasts."""

    def __init__(self, node: Node, rate: float) -> None:
        self._node = node
        self._rate = rate
        self._due: asyncio.Queue[int] = asyncio.Queue()
        self.acked = 0
        self.begin()

    def begin(self) -> None:
        """What is measured counts from now on."""
        self.last = time.monotonic()
        self.stall_s = 0.0
        self.taken_ms: list[float] = []

    @property
    def stalled_s(self) -> float:
        """The longest time without an acknowledgement, also one that is not over."""
        return max(self.stall_s, time.monotonic() - self.last)

    async def _send(self) -> None:
        connection = Connection("127.0.0.1", self._node.ports["http"])
        while True:
            number = await self._due.get()
            begun = time.monotonic()
            answer = await connection.request("POST", f"{PREFIX}small/{number % STREAMS}", KIND, b"x" * 100)
            if answer.status != 204:
                raise RuntimeError(f"an append was answered {answer.status}: {answer.body[:200]!r}")
            now = time.monotonic()
            self.taken_ms.append((now - begun) * 1000)
            self.stall_s, self.last = max(self.stall_s, now - self.last), now
            self.acked += 1

    async def _ticks(self) -> None:
        begun, sent = time.monotonic(), 0
        while True:
            await asyncio.sleep(0.005)
            for number in range(sent, int((time.monotonic() - begun) * self._rate)):
                self._due.put_nowait(number)
                sent = number + 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send()) for _ in range(CONNECTIONS)]
            tasks.append(group.create_task(self._ticks()))
            yield
            for each in tasks:
                each.cancel()


async def fill(node: Node, mebibytes: int, name: str) -> None:
    """So much in large appends, over a few connections."""
    left = iter(range(mebibytes))
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        connection = Connection("127.0.0.1", node.ports["http"])
        await connection.request("PUT", f"{PREFIX}{name}/{number}", KIND)
        for _ in left:
            status = 429
            while status == 429:
                answer = await connection.request("POST", f"{PREFIX}{name}/{number}", KIND, b"x" * LARGE_BYTES)
                status = answer.status
                if status == 429:
                    await asyncio.sleep(0.05)
            if status != 204:
                raise RuntimeError(f"a large append was answered {status}: {answer.body[:200]!r}")
            done += 1
            if done % 256 == 0:
                print(f"{name}: {done} of {mebibytes} MiB", flush=True)
        connection.close()

    await asyncio.gather(*(client(number) for number in range(FILLERS)))


async def measure(folder: Path, mebibytes: int, rate: float) -> dict[str, float]:
    """The whole course; the figures by name."""
    world = World(folder, 3)
    cluster = Cluster(world.nodes, time.monotonic)
    try:
        await cluster.start()
        leader = await cluster.leader()
        away = await cluster.follower(lambda nodes: nodes[0])
        for number in range(STREAMS):
            connection = Connection("127.0.0.1", leader.ports["http"])
            await connection.request("PUT", f"{PREFIX}small/{number}", KIND)
            connection.close()
        pace = Pace(leader, rate)
        async with pace.running():
            await fill(leader, WARM_MIB, "warm")
            pace.begin()
            await asyncio.sleep(WARM_S)
            found = {f"before_{name}": value for name, value in figures(pace).items()}
            found["normal_mib"] = resident(away)
            away.kill()
            await fill(leader, mebibytes, "missed")
            found |= await catch_up(cluster, leader, away, pace)
        found["leader_changed"] = float(await cluster.leader() is not leader)
    finally:
        cluster.end()
    return found


async def catch_up(cluster: Cluster, leader: Node, away: Node, pace: Pace) -> dict[str, float]:
    """Start it again and wait until it has everything."""
    begun = time.monotonic()
    pace.begin()
    await asyncio.to_thread(away.start, START_LIMIT)
    most, shown = 0.0, 0.0
    while True:
        await asyncio.sleep(LOOK_S)
        most = max(most, resident(away))
        reports = await lag(cluster, away)
        took = time.monotonic() - begun
        if took - shown >= 1:
            shown = took
            memory = f"receiver {resident(away):.0f} MiB, leader {resident(leader):.0f} MiB"
            load = f"{pace.acked} appends, longest stall {pace.stalled_s * 1000:.0f} ms"
            print(f"{took:.0f} s: {reports or 'no leader'}; {memory}; {load}", flush=True)
        if reports == "has all":
            return {"caught_up_s": took, "receiver_most_mib": most, **figures(pace)}


async def lag(cluster: Cluster, away: Node) -> str:
    """How far behind it is, for people; empty while that is not known."""
    reply = await members.status(cluster)
    if reply is None:
        return ""
    reports = {each.member.node: each.report for each in reply.members if each.reachable}
    if away.name not in reports or reply.leader not in reports:
        return ""
    behind = reports[reply.leader].applied_index - reports[away.name].applied_index
    return "has all" if behind < 100 else f"{behind} entries behind"


def resident(node: Node) -> float:
    assert node.process is not None
    return resident_mib(node.process.pid)


def figures(pace: Pace) -> dict[str, float]:
    taken = sorted(pace.taken_ms) or [0.0]
    return {
        "stall_ms": pace.stalled_s * 1000,
        "p50_ms": statistics.median(taken),
        "p99_ms": taken[len(taken) * 99 // 100],
        "slowest_ms": taken[-1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.behind", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2048, help="MiB that it misses (default 2048)")
    parser.add_argument("--rate", type=float, default=1000, help="appends a second that go on (default 1000)")
    parser.add_argument("--folder", type=Path, help="where the data is, and stays (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="behind-") as scratch:
        found = asyncio.run(measure(options.folder or Path(scratch), options.megabytes, options.rate))
    found["above_normal_mib"] = found["receiver_most_mib"] - found["normal_mib"]
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))
    broken = [
        f"no append was acknowledged for {found['stall_ms']:.0f} ms" if found["stall_ms"] >= STALL_S * 1000 else "",
        f"{found['above_normal_mib']:.0f} MiB above normal" if found["above_normal_mib"] >= ABOVE_MIB else "",
        "another node leads now" if found["leader_changed"] else "",
    ]
    print("KEPT" if not any(broken) else f"BROKEN: {'; '.join(filter(None, broken))}")
    return int(any(broken))


if __name__ == "__main__":
    sys.exit(main())
