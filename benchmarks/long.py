"""python -m benchmarks.long: ten million appends to three nodes; logs and disks must stay bounded, restarts be short.

100 bytes each, to many streams of which each keeps its last bytes (``retain-bytes``, as an operator would set it); the
rest is the defaults. Clients pipeline over many connections to all nodes. Prints a row every 10 s; then each node is
ended and started again, once asked and once killed; then a line of JSON. Exit code 1 when a bound is broken.
"""

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.many import resident_mib
from benchmarks.soak import disk_mib
from tests.system.chaos import members
from tests.system.chaos.cluster import START_LIMIT, Cluster, Node
from tests.system.chaos.worlds import World
from tests.system.kill.wire import Connection

PREFIX = "/v1/stream/long/"
KEPT_KIB = 64
STREAMS, CONNECTIONS, PIPELINED = 1000, 384, 16
RESTART_S, LOG_MIB, DISK_MIB = 5.0, 64.0, 2048.0
"""Bounds: until a node is ready again; of its Raft log (twice what is kept: ``replica.compaction``); of its disk."""
ROW_S = 10.0
DONE = b"HTTP/1.1 204"
Row = dict[str, float]


def batches(node: Node, count: int) -> Iterator[list[bytes]]:
    """Requests that travel together; in all ``count``, to every stream in turn."""
    kind = "content-type: application/octet-stream\r\ncontent-length: 100"
    body = b"x" * 100
    every = [
        f"POST {PREFIX}{number} HTTP/1.1\r\nhost: 127.0.0.1:{node.ports['http']}\r\n{kind}\r\n\r\n".encode() + body
        for number in range(STREAMS)
    ]
    turn = itertools.cycle(every)
    for done in range(0, count, PIPELINED):
        yield list(itertools.islice(turn, min(PIPELINED, count - done)))


class Progress:
    """How many appends were acknowledged, and by whom."""

    def __init__(self) -> None:
        self.acked = 0
        self.refused = 0


async def client(node: Node, share: Iterator[list[bytes]], progress: Progress) -> None:
    """Send batches of a share until it is used up; what is refused as too much (429) is sent again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.ports["http"])
    for requests in share:
        left = requests
        while left:
            writer.write(b"".join(left))
            refused = [each for each in left if not await accepted(reader)]
            progress.acked += len(left) - len(refused)
            progress.refused += len(refused)
            left = refused
    writer.close()


async def accepted(reader: asyncio.StreamReader) -> bool:
    """Read an answer: whether it is an acknowledgement; else it is a refusal for now."""
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(DONE):
        return True
    if not head.startswith(b"HTTP/1.1 429"):
        raise RuntimeError(f"an append was answered {head[:200]!r}")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return False


async def look(cluster: Cluster, progress: Progress, begun: float) -> Row:
    """A row: of all nodes the largest."""
    reply = await members.status(cluster)
    reports = [each.report for each in reply.members if each.reachable] if reply is not None else []
    disks = [await asyncio.to_thread(disk_mib, node.data) for node in cluster.nodes]
    files = [each.stat().st_size for node in cluster.nodes for each in node.data.glob("db/*.log") if each.exists()]
    # Nodes tell how many entries they have: the bodies in them are as many bytes as in the average entry.
    logs = [(each.last_index - each.first_index + 1) / max(1, each.last_index) for each in reports]
    return {
        "s": time.monotonic() - begun,
        "appends": float(progress.acked),
        "rate": progress.acked / (time.monotonic() - begun),
        "log_mib": max(logs, default=0.0) * progress.acked * 100 / 2**20,
        "wal_mib": sum(files) / len(cluster.nodes) / 2**20,
        "disk_mib": max(each["disk"] for each in disks),
        "resident_mib": max(resident_mib(node.process.pid) for node in cluster.nodes if node.process is not None),
        "refused": float(progress.refused),
    }


async def restarts(cluster: Cluster) -> Row:
    """Seconds until each node is ready again, at most."""
    found = {"ready_after_stop_s": 0.0, "ready_after_kill_s": 0.0}
    for node in cluster.nodes:
        for name, number in (("ready_after_stop_s", signal.SIGTERM), ("ready_after_kill_s", signal.SIGKILL)):
            node.signal(number)
            assert node.process is not None
            await asyncio.to_thread(node.process.wait)
            begun = time.monotonic()
            await asyncio.to_thread(node.start, START_LIMIT)
            took = time.monotonic() - begun
            print(f"{node.name} was ready {took:.2f} s after it was started ({number.name})", flush=True)
            found[name] = max(found[name], took)
            await members.settled(cluster)
    return found


async def measure(folder: Path, appends: int) -> tuple[Sequence[Row], Row]:
    """The rows of the load, and what the restarts took."""
    world = World(folder, 3)
    for node in world.nodes:
        node.extra = {"DURABLE_STREAMS_PREFIXES": f"long/ retain-bytes={KEPT_KIB}KiB"}
    cluster = Cluster(world.nodes, time.monotonic)
    progress, rows = Progress(), list[Row]()
    try:
        await cluster.start()
        maker = Connection("127.0.0.1", (await cluster.leader()).ports["http"])
        for number in range(STREAMS):
            await maker.request("PUT", f"{PREFIX}{number}", {"content-type": "application/octet-stream"})
        maker.close()
        begun = time.monotonic()
        shares = [batches(node, appends // len(world.nodes)) for node in world.nodes]
        clients = [
            asyncio.create_task(client(node, share, progress))
            for node, share in zip(world.nodes, shares, strict=True)
            for _ in range(CONNECTIONS // len(world.nodes))
        ]
        pending: set[asyncio.Task[None]] = set(clients)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=ROW_S)
            for each in done:
                each.result()
            rows.append(await look(cluster, progress, begun))
            print(" ".join(f"{name}={value:.1f}" for name, value in rows[-1].items()), flush=True)
        return rows, await restarts(cluster)
    finally:
        cluster.end()


def verdict(rows: Sequence[Row], restarted: Row) -> tuple[Row, list[str]]:
    """What grew, by medians of the second fifth and the last; and which bounds are broken."""
    fifth = max(1, len(rows) // 5)
    parts = rows[fifth : 2 * fifth] or rows, rows[-fifth:]
    found: Row = {"appends": rows[-1]["appends"], "rate": rows[-1]["rate"], **restarted}
    for name in ("log_mib", "wal_mib", "disk_mib", "resident_mib"):
        first, last = (statistics.median(row[name] for row in part) for part in parts)
        found |= {f"{name}_first": first, f"{name}_last": last, f"{name}_most": max(row[name] for row in rows)}
    broken = [f"{name}: {took:.1f} s" for name, took in restarted.items() if took >= RESTART_S]
    for name, most in (("log_mib", LOG_MIB), ("disk_mib", DISK_MIB)):
        broken += [f"{name}: {found[f'{name}_most']:.0f}"] if found[f"{name}_most"] >= most else []
    return found, broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long", description=__doc__)
    parser.add_argument("--appends", type=int, default=10_000_000, help="in all (default 10000000)")
    parser.add_argument("--folder", type=Path, help="where the data is, and stays (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="long-") as scratch:
        rows, restarted = asyncio.run(measure(options.folder or Path(scratch), options.appends))
    found, broken = verdict(rows, restarted)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))
    print("KEPT" if not broken else f"BROKEN: {'; '.join(broken)}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
