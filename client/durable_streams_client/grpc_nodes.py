"""Finds the other nodes of a cluster, and who leads, from what one of them tells.

What a node calls itself may be something else on this machine, another cluster perhaps: an address that somebody told
is asked first, over a call of its own, whether it is that node of that cluster.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import TYPE_CHECKING

import grpc

from durable_streams_client._retry import Backoff
from durable_streams_client._routing import Routes
from durable_streams_proto.v1 import streams_pb2 as pb

if TYPE_CHECKING:
    from durable_streams_proto.v1.streams_pb2_grpc import StreamsAsyncStub

BEGIN_S = 0.5
"""A client that lives no longer asks for nothing of this."""
ANSWER_S = 2.5
"""Whoever is asked who it is has so long."""
AGAIN_S = 60.0
"""Whoever was another one than was told is asked again after so long."""
MOST = 16
"""So many are asked who they are within that time; a cluster has fewer nodes."""

Stub = Callable[[str], "StreamsAsyncStub"]
Metadata = tuple[tuple[str, str], ...]


class Finder:
    """Keeps the routes of one client up to date."""

    def __init__(
        self, named: Sequence[str], routes: Routes, stub: Stub, metadata: Metadata, on_leader: Callable[[str], None]
    ) -> None:
        """No call is made yet.

        Args:
            named: targets that the user gave.
            routes: get those that are found.
            stub: gives that of a node, by its target.
            metadata: goes with each call.
            on_leader: called with the target of the node that leads, whenever that is another one.

        """
        self._named = tuple(named)
        self._routes, self._stub, self._metadata, self._on_leader = routes, stub, metadata, on_leader
        self._cluster = ""
        self._targets: dict[str, str] = {}
        """Where each node is reached, by its name: those that have said so themselves."""
        self._asked: dict[str, float] = {}
        """When each target was asked who it is."""
        self._asking: dict[str, asyncio.Task[None]] = {}
        """By target."""
        self._last: pb.NodesReply | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if that was not done before."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="durable-streams-nodes")

    async def aclose(self) -> None:
        """Ask no more."""
        tasks = [*self._asking.values(), *([self._running] if self._running is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        backoff = Backoff(SystemRandom().random)
        await asyncio.sleep(BEGIN_S)
        while True:
            target = self._routes.choose(now())
            call = self._stub(target).Nodes(pb.NodesRequest(), metadata=self._metadata)
            try:
                async for reply in call:
                    backoff.reset()
                    self._told(target, reply)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return  # A server from before there was this.
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    self._routes.failed(target, now())
            finally:
                call.cancel()
            await asyncio.sleep(backoff.wait_s())

    def _told(self, target: str, reply: pb.NodesReply) -> None:
        """A node that is believed says who there is."""
        self._cluster = self._cluster or reply.cluster
        if reply.cluster != self._cluster:
            return
        self._believe(target, reply)
        self._last = reply
        unknown = [each for each in self._named if each not in self._targets.values()]
        told = [node.target for node in reply.nodes if self._is_news(node)]
        # Those that were named first: a node that is reached so is not dialed by another name, too.
        for each in unknown:
            self._ask(each)
        if not any(each in self._asking for each in unknown):
            for each in told:
                self._ask(each)
        self._follow_leader()

    def _is_news(self, node: pb.Node) -> bool:
        known = self._targets.get(node.name)
        return known != node.target and known not in self._named

    def _believe(self, target: str, reply: pb.NodesReply) -> None:
        known = self._targets.get(reply.node)
        if known not in self._named or target in self._named:
            self._targets[reply.node] = target
        self._routes.add(self._targets[reply.node])

    def _follow_leader(self) -> None:
        leader = self._targets.get(self._last.leader) if self._last is not None else None
        if leader is not None and leader != self._routes.leader:
            self._on_leader(leader)
        self._routes.leader = leader

    def _ask(self, target: str) -> None:
        now = asyncio.get_running_loop().time()
        self._asked = {each: asked_s for each, asked_s in self._asked.items() if now - asked_s < AGAIN_S}
        if target in self._asked or len(self._asked) >= MOST:
            return
        self._asked[target] = now
        self._asking[target] = asyncio.get_running_loop().create_task(self._learn(target), name="durable-streams-node")

    async def _learn(self, target: str) -> None:
        """Ask a target who it is, and what it knows."""
        call = self._stub(target).Nodes(pb.NodesRequest(), metadata=self._metadata)
        reply: object = None
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await call.read()
        except (grpc.aio.AioRpcError, TimeoutError):
            pass
        finally:
            call.cancel()
            del self._asking[target]
        assert self._last is not None
        if isinstance(reply, pb.NodesReply) and reply.cluster == self._cluster:
            expected = {node.target: node.name for node in self._last.nodes}
            if target in self._named or expected.get(target) == reply.node:
                self._believe(target, reply)
        self._told(self._targets[self._last.node], self._last)
