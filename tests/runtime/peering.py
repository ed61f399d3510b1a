"""Nodes that are nothing but their transport, on loopback, and a process that is one of them."""

import asyncio
import json
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import PeerLimits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.peers import Backoff, Handlers, Identity, Kind, Lane, Peers
from durable_streams_cluster.settings import Address

NOWHERE = Address("127.0.0.1", 1)
PATIENCE_S = 60.0
"""After so long a test fails; nothing is decided by it."""


def run(
    main: Coroutine[Any, Any, None], *, loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> None:
    """Run a test on the loop that nodes have."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)


class Node:
    """A node that remembers what its transport told it, and waits for it to tell more."""

    def __init__(
        self,
        name: str,
        *peers: str,
        cluster: str = "c1",
        incarnation: int = 1,
        limits: PeerLimits | None = None,
        port: int = 0,
        accept: Callable[[Identity], str | None] | None = None,
    ) -> None:
        self.id = NodeId(name)
        self.identity = Identity(cluster, self.id, incarnation)
        self.received: defaultdict[NodeId, list[bytes]] = defaultdict(list)
        self.incarnations: set[tuple[NodeId, int]] = set()
        self.lost: list[NodeId] = []
        self.connected: list[NodeId] = []
        self.pauses: list[float] = []
        self.metrics = Metrics()
        self._changed = asyncio.Event()
        handlers = Handlers(
            self._on_payload, self._on_lost, self._on_connected, **({"accept": accept} if accept else {})
        )
        self.peers = Peers(
            self.identity,
            Address("127.0.0.1", port),
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

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._changed.set()
        # Long enough that attempts do not fill the machine; that it is short changes nothing but the tests' duration.
        await asyncio.sleep(seconds / 10)


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


async def main(name: str, peer: str, port: int, limits: PeerLimits) -> None:
    """Run a node that answers every payload with the same, until its standard input ends; prints its port first."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    node = Node(name, peer, limits=limits)
    node.peers._handlers  # noqa: B018
    await node.peers.start()
    loop.add_reader(sys.stdin, ended.set)
    print(node.peers.port, flush=True)
    node.peers.readdress(NodeId(peer), Address("127.0.0.1", port))
    await ended.wait()
    await node.peers.stop()


if __name__ == "__main__":
    run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), PeerLimits(**json.loads(sys.argv[4]))))
