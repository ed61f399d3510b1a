"""A peer that says what it is told to say, and takes an envelope only when the test does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc.aio import ServicerContext

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import PeerLimits
from durable_streams_cluster.runtime.greeting import Identity, Metadata, introduce
from durable_streams_cluster.runtime.grpc_options import listening
from durable_streams_cluster.runtime.outbox import Lane
from durable_streams_cluster.settings import Address
from durable_streams_proto.v1.peer_pb2 import Acknowledgement, Envelope
from durable_streams_proto.v1.peer_pb2_grpc import PeersServicer, add_PeersServicer_to_server

Context = ServicerContext[Envelope, Acknowledgement]


class Deaf(PeersServicer):
    """n2 of cluster c1, as far as anybody can tell."""

    id = NodeId("n2")

    def __init__(self, says: Metadata | None = None) -> None:
        self.says = introduce(Identity("c1", self.id, 1)) if says is None else says
        self.address = Address("127.0.0.1", 0)
        self._contexts: dict[Lane, asyncio.Future[Context]] = {}

    async def take(self, lane: Lane) -> list[bytes]:
        """The payloads of the next envelope."""
        context = await self._context(lane)
        envelope: object = await context.read()
        assert isinstance(envelope, Envelope), envelope
        return list(envelope.payloads)

    def _context(self, lane: Lane) -> "asyncio.Future[Context]":
        return self._contexts.setdefault(lane, asyncio.get_running_loop().create_future())

    async def _open(self, lane: Lane, context: Context) -> None:
        await context.send_initial_metadata(self.says)
        if not self._context(lane).done():
            self._context(lane).set_result(context)
        await asyncio.get_running_loop().create_future()  # until the stream ends

    async def Raft(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        await self._open(Lane.RAFT, context)

    async def Bulk(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        await self._open(Lane.BULK, context)


@asynccontextmanager
async def deaf_peer(deaf: Deaf | None = None) -> AsyncIterator[Deaf]:
    """Serve it."""
    deaf = deaf or Deaf()
    server = grpc.aio.server(options=listening(PeerLimits()))
    add_PeersServicer_to_server(deaf, server)
    deaf.address = Address("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    try:
        yield deaf
    finally:
        await server.stop(None)
