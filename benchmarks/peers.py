"""python -m benchmarks.peers: the transport between nodes, in two processes: what it carries, and how soon.

The sender keeps the queue filled; the receiver counts. Prints a line of JSON for each figure: payloads a second and MB
a second at several sizes, and the round trip of a small payload, one at a time, alone and beside a bulk transfer.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from random import Random

import uvloop

from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.peers import Backoff, Handlers, Identity, Kind, Peers
from durable_streams_cluster.settings import Address

SENDER, RECEIVER = NodeId("sender"), NodeId("receiver")
ECHO, COUNT, REPORT = b"e", b"c", b"r"
ROUND_TRIPS = 2000


class End:
    """One of the two processes."""

    def __init__(self, name: NodeId, other: NodeId, port: int, other_port: int) -> None:
        self.other = other
        self.open = asyncio.Event()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.counted = 0
        self.streams = 0
        self.peers = Peers(
            Identity("bench", name, 1),
            Address("127.0.0.1", port),
            {other: Address("127.0.0.1", other_port)},
            Handlers(self.on_payload, lambda _: None, self.on_connected),
            metrics=Metrics(),
            clock=SystemClock(),
            backoff=Backoff(Random(1)),
        )

    def on_connected(self, _: NodeId) -> None:
        self.streams += 1
        if self.streams == 2:
            self.open.set()

    def on_payload(self, sender: NodeId, incarnation: int, payload: bytes) -> None:
        word = payload[:1]
        if word == COUNT:
            self.counted += 1
        elif word == ECHO:
            self.peers.send(self.other, b"a" + payload[1:], Kind.RAFT)
        elif word == REPORT:
            self.peers.send(self.other, b"a%d" % self.counted, Kind.RAFT)
            self.counted = 0
        elif not self.answer.done():
            self.answer.set_result(payload[1:])

    async def ask(self, payload: bytes, kind: Kind = Kind.RAFT) -> bytes:
        self.answer = asyncio.get_running_loop().create_future()
        await self.push(payload, kind)
        return await self.answer

    async def push(self, payload: bytes, kind: Kind) -> None:
        """Send, waiting while the queue is full."""
        while not self.peers.send(self.other, payload, kind):  # noqa: ASYNC110  # nothing tells that there is room
            await asyncio.sleep(0.0005)

    async def fill(self, size: int, kind: Kind, until: float) -> int:
        payload, sent = COUNT + bytes(size - 1), 0
        while time.monotonic() < until:
            for _ in range(max(1, min(256, 1_000_000 // size))):
                await self.push(payload, kind)
                sent += 1
            await asyncio.sleep(0)
        return sent


async def throughput(end: End, size: int, kind: Kind, seconds: float) -> None:
    began = time.monotonic()
    sent = await end.fill(size, kind, began + seconds)
    counted = int(await end.ask(REPORT, kind))
    took = time.monotonic() - began
    assert counted == sent, (counted, sent)
    figures = {"payloads_per_s": round(sent / took), "MB_per_s": round(sent * size / took / 1e6, 1)}
    print(json.dumps({"what": "throughput", "bytes": size, "kind": kind.value, **figures}), flush=True)


async def latency(end: End, what: str, kind: Kind) -> None:
    times = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await end.ask(ECHO + bytes(49), kind)
        times.append(time.perf_counter() - began)
    times.sort()
    marks = {f"p{share}_ms": round(times[len(times) * share // 100] * 1000, 3) for share in (50, 99)}
    print(json.dumps({"what": what, "bytes": 50, "kind": kind.value, **marks}), flush=True)


async def send(seconds: float) -> None:
    ports = free_ports()
    command = [sys.executable, "-m", "benchmarks.peers", "--receive", *map(str, ports)]
    receiver = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: ASYNC220
    end = End(SENDER, RECEIVER, ports[1], ports[0])
    try:
        await end.peers.start()
        await end.open.wait()
        await latency(end, "round trip", Kind.RAFT)
        for size, kind in ((50, Kind.RAFT), (200, Kind.RAFT), (100_000, Kind.RAFT), (100_000, Kind.BULK)):
            await throughput(end, size, kind, seconds)
        for busy in (Kind.BULK, Kind.RAFT):
            filling = asyncio.create_task(end.fill(100_000, busy, time.monotonic() + 3600))
            await latency(end, f"round trip beside 100 kB {busy.value} payloads", Kind.HEARTBEAT)
            filling.cancel()
            await asyncio.wait({filling})
    finally:
        await end.peers.stop()
        assert receiver.stdin is not None
        receiver.stdin.close()
        receiver.wait(30)


async def receive(own: int, other: int) -> None:
    end, ended = End(RECEIVER, SENDER, own, other), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await end.peers.start()
    await ended.wait()
    await end.peers.stop()


def free_ports() -> list[int]:
    """Two, the receiver's first."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], two.getsockname()[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput (default %(default)s)")
    parser.add_argument("--receive", type=int, nargs=2, metavar="PORT", help=argparse.SUPPRESS)
    words = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(receive(*words.receive) if words.receive else send(words.seconds))


if __name__ == "__main__":
    main()
