"""Nodes that are nothing but their transport, on loopback, and a process that is one of them."""

import asyncio
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvloop

from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import PeerLimits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.grpc_listener import Questions
from durable_streams_cluster.runtime.peers import (
    Accept,
    Backoff,
    FirstIncarnation,
    Handlers,
    Identity,
    Kind,
    Lane,
    NoQuestions,
    Peers,
)
from durable_streams_cluster.settings import Address
from tests.server import ROOT

NOWHERE = Address("127.0.0.1", 1)
PATIENCE_S = 20.0
"""After so long a test fails; nothing is decided by it."""


Loop = Callable[[], asyncio.AbstractEventLoop]


def run(test: Coroutine[Any, Any, None], loop: Loop = uvloop.new_event_loop) -> None:
    """Run a test on the loop that nodes have; nothing may be left of it."""

    async def alone() -> None:
        async with asyncio.timeout(2 * PATIENCE_S):
            await test
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others or not (await asyncio.wait(others, timeout=PATIENCE_S))[1]

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(alone())


class Node:
    """A node that remembers what its transport told it, and waits for it to tell more."""

    def __init__(
        self,
        name: str,
        *peers: str,
        cluster: str = "c1",
        incarnation: int = 1,
        limits: PeerLimits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        accept: Accept | None = None,
        questions: Questions | None = None,
    ) -> None:
        self.id = NodeId(name)
        self.identity = Identity(cluster, self.id, incarnation)
        self.received: defaultdict[NodeId, list[bytes]] = defaultdict(list)
        self.incarnations: set[tuple[NodeId, int]] = set()
        self.lost: list[NodeId] = []
        self.connected: list[NodeId] = []
        self.moved: list[tuple[NodeId, str]] = []
        self.told_old: list[tuple[NodeId, str]] = []
        self.told_removed: list[NodeId] = []
        self.pauses: list[float] = []
        self.metrics = Metrics()
        self._changed = asyncio.Event()
        handlers = Handlers(
            self._on_payload,
            self._on_lost,
            self._on_connected,
            accept or FirstIncarnation(),
            self._on_moved,
            questions or NoQuestions(),
            self._on_told_old,
            self._on_told_removed,
        )
        self.peers = Peers(
            self.identity,
            Address(host, port),
            {NodeId(peer): NOWHERE for peer in peers},
            handlers,
            metrics=self.metrics,
            clock=SystemClock(),
            backoff=Backoff(random.Random(name), self._pause),
            limits=limits,
        )

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.peers.port)

    def send(self, to: "Node", payload: bytes, kind: Kind = Kind.RAFT) -> bool:
        return self.peers.send(to.id, payload, kind)

    def dials(self, other: "Node") -> None:
        self.peers.readdress(other.id, other.address)

    def belong(self, *others: "Node", cluster: str = "c1") -> None:
        """It is of a cluster now, with these, and says where it listens."""
        identity = Identity(cluster, self.id, self.identity.incarnation, str(self.address))
        self.peers.belong(identity, {other.id: other.address for other in others})

    def error(self, other: str, lane: Lane = Lane.RAFT) -> str:
        return self.peers.status()[NodeId(other)][lane].last_error

    def is_connected(self, other: "Node") -> bool:
        return all(lane.connected for lane in self.peers.status()[other.id].values())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; looks whenever the transport says anything."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _on_payload(self, sender: NodeId, incarnation: int, payload: bytes) -> None:
        self.received[sender].append(payload)
        self.incarnations.add((sender, incarnation))
        self._changed.set()

    def _on_lost(self, peer: NodeId) -> None:
        self.lost.append(peer)
        self._changed.set()

    def _on_connected(self, peer: NodeId) -> None:
        self.connected.append(peer)
        self._changed.set()

    def _on_moved(self, peer: NodeId, address: str) -> None:
        self.moved.append((peer, address))
        self._changed.set()

    def _on_told_old(self, peer: NodeId, why: str) -> None:
        self.told_old.append((peer, why))
        self._changed.set()

    def _on_told_removed(self, peer: NodeId) -> None:
        self.told_removed.append(peer)
        self._changed.set()

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._changed.set()
        # Long enough that attempts do not fill the machine; that it is short changes nothing but the tests' duration.
        await asyncio.sleep(seconds / 50)


@asynccontextmanager
async def started(*nodes: Node) -> AsyncIterator[None]:
    """Start the nodes, and introduce those that know each other's names."""
    try:
        for node in nodes:
            await node.peers.start()
        for node in nodes:
            for other in nodes:
                if other.id in node.peers.status():
                    node.dials(other)
        yield
    finally:
        for node in nodes:
            await node.peers.stop()


@asynccontextmanager
async def connected(*nodes: Node) -> AsyncIterator[None]:
    """Start the nodes, and wait until all streams are open."""
    async with started(*nodes):
        for node in nodes:
            for other in nodes:
                if other is not node:
                    await node.until(lambda node=node, other=other: node.is_connected(other))  # type: ignore[misc]
        yield


async def main(peer: Address, limits: PeerLimits) -> None:
    """Be n2, peer of n1, until standard input ends; prints its port."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    node = Node("n2", "n1", limits=limits)
    async with started(node):
        node.peers.readdress(NodeId("n1"), peer)
        print(node.peers.port, flush=True)
        await ended.wait()


@contextmanager
def process(peer: Address, limits: dict[str, float]) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """Run ``main`` as a process; answers it, and where it is."""
    # Not by the loop: uvloop forks, and a fork amid the threads of gRPC is to be avoided.
    command = [sys.executable, "-m", __name__, str(peer.port), json.dumps(limits)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, Address("127.0.0.1", int(child.stdout.readline()))
        finally:
            child.kill()


if __name__ == "__main__":
    run(main(Address("127.0.0.1", int(sys.argv[1])), PeerLimits(**json.loads(sys.argv[2]))))
