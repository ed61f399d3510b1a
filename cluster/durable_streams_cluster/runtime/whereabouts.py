"""Which nodes clients may ask, and who leads: told to each client that wants to know, and again when it changes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from durable_streams_cluster.errors import ShuttingDown
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import BecameLeader, LeaderChanged, MembershipChanged, SteppedDown
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1 import streams_pb2 as pb

LOOK_S = 2.0
"""How often it is looked who has come or gone: of connections nothing is told here."""
NEWS = (BecameLeader, LeaderChanged, MembershipChanged, SteppedDown)


class Whereabouts:
    """Of one cluster, as one node sees it."""

    def __init__(
        self, stored: StoredIdentity, own: str, driver: Driver, others: Callable[[], Mapping[NodeId, str]]
    ) -> None:
        """What is told.

        Args:
            stored: who this node is.
            own: where clients reach it, ``HOST:PORT``.
            driver: knows who belongs, and who leads.
            others: where clients reach those who speak to this node.

        """
        self._stored, self._own, self._driver, self._others = stored, own, driver, others
        self._waiting: set[asyncio.Future[None]] = set()
        self._ended = False
        driver.watchers.append(self._watch)

    def now(self) -> pb.NodesReply:
        """See streams.proto."""
        core = self._driver.replica.group.core
        known = {**self._others(), self._stored.node: self._own}
        nodes = [pb.Node(name=node, target=known[node]) for node in core.membership.nodes if node in known]
        return pb.NodesReply(
            cluster=self._stored.cluster, node=self._stored.node, nodes=nodes, leader=core.leader or ""
        )

    async def follow(self, send: Callable[[pb.NodesReply], Awaitable[None]]) -> None:
        """Tell it, and again whenever it changes. Raises ShuttingDown: this node goes away."""
        told: pb.NodesReply | None = None
        while not self._ended:
            found = self.now()
            if found != told:
                await send(found)
                told = found
                continue  # It may have changed meanwhile.
            await self._news()
        raise ShuttingDown("this node is shutting down: ask another one")

    def end(self) -> None:
        """Nobody is told any more."""
        self._ended = True
        self._wake()

    async def _news(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait({waiting}, timeout=LOOK_S)
        finally:
            self._waiting.discard(waiting)

    def _watch(self, event: object) -> None:
        if isinstance(event, NEWS):
            self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
