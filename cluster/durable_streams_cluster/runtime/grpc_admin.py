"""The listener for clients (``--grpc``), with what operators ask: status, and changes of the membership."""

from typing import Any, Protocol

import grpc
from grpc.aio import ServicerContext

from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.limits import GRPC_CONNECTIONS, GrpcLimits
from durable_streams_cluster.runtime.grpc_binding import bind
from durable_streams_cluster.runtime.grpc_options import serving
from durable_streams_cluster.settings import Address
from durable_streams_proto.v1.admin_pb2 import StatusReply, StatusRequest
from durable_streams_proto.v1.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest

_Context = ServicerContext[Any, Any]


class Operations(Protocol):
    """Who answers (``operating`` is the real one)."""

    async def status(self, *, members_only: bool) -> StatusReply:
        """Who belongs, and how they are, in bounded time. Raises Unavailable: this node is of no cluster yet."""
        ...

    async def change(self, request: ChangeRequest) -> ChangeReply:
        """Change the membership, in bounded time. Raises ValueError: nobody can mean that."""
        ...


class AdminListener:
    """Serves ``Admin``, from before the node is of a cluster until it ends."""

    def __init__(self, address: Address, operations: Operations, limits: GrpcLimits | None = None) -> None:
        self._address = address
        self._operations = operations
        self._limits = limits or GrpcLimits()
        self._server: grpc.aio.Server | None = None
        self.port = address.port
        """The port asked for; after :meth:`start`, the real one."""

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be had."""
        server = grpc.aio.server(options=serving(self._limits), maximum_concurrent_rpcs=GRPC_CONNECTIONS)
        add_AdminServicer_to_server(_Service(self._operations), server)
        self.port = await bind(server, "grpc", self._address)
        self._server = server
        await server.start()

    async def stop(self) -> None:
        """Close the port. Whoever waits for an answer gets none: a change may yet happen."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


class _Service(AdminServicer):
    """The generated service."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def Status(self, request: StatusRequest, context: _Context) -> StatusReply:  # noqa: N802
        try:
            return await self._operations.status(members_only=request.members_only)
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def Change(self, request: ChangeRequest, context: _Context) -> ChangeReply:  # noqa: N802
        try:
            return await self._operations.change(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
