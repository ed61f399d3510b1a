"""Questions to a peer listener, one call each: before two nodes are of one cluster, to a leader, and how a node is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from durable_streams_cluster.limits import PeerLimits
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.grpc_dialer import knock
from durable_streams_cluster.runtime.grpc_options import dialing
from durable_streams_cluster.runtime.introductions import Asked, said_from_wire, said_to_wire, wish_to_wire
from durable_streams_cluster.settings import parse_address
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ReportReply, ReportRequest
from durable_streams_proto.v1.peer_pb2_grpc import PeersStub

if TYPE_CHECKING:
    from durable_streams_proto.v1.peer_pb2_grpc import PeersAsyncStub

INTRODUCE_S = 2.0
CHANGE_S = 20.0
REPORT_S = 2.0
"""How long an answer is waited for; a change waits for the one under way."""


class Contacts:
    """Asks over gRPC. Whatever goes wrong is a ConnectionError, whose text says what."""

    def __init__(self, limits: PeerLimits) -> None:
        self._limits = limits

    async def introduce(self, address: str, said: Said) -> Said:
        """Say who this is, and learn who listens there."""
        async with self._reach(address) as stub:
            return said_from_wire(await stub.Introduce(said_to_wire(said), timeout=INTRODUCE_S))

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        """Ask for another membership."""
        async with self._reach(address) as stub:
            return await stub.Change(wish_to_wire(wish, cluster, handed_on=handed_on), timeout=CHANGE_S)

    async def report(self, address: str, cluster: str) -> ReportReply:
        """Ask a node of ``cluster`` how it is; ends after ``REPORT_S``, name and connection included."""
        try:
            async with asyncio.timeout(REPORT_S), self._reach(address) as stub:
                return await stub.Report(ReportRequest(cluster=cluster))
        except TimeoutError as error:
            raise ConnectionError(f"{address}: no answer within {REPORT_S:g} s") from error

    @asynccontextmanager
    async def _reach(self, address: str) -> AsyncIterator["PeersAsyncStub"]:
        try:
            await knock(parse_address(address), INTRODUCE_S)
            async with grpc.aio.insecure_channel(address, options=dialing(self._limits)) as channel:
                yield PeersStub(channel)
        except (grpc.RpcError, OSError, ValueError) as error:
            raise ConnectionError(f"{address}: {_words(error)}") from error


def _words(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
