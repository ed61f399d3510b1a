"""The generated service ``Admin``: what operators ask."""

from typing import Any, Protocol

import grpc
from grpc.aio import ServicerContext

from durable_streams_cluster.errors import Unavailable
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


def serve_admin(server: grpc.aio.Server, operations: Operations) -> None:
    """Let ``server`` answer what operators ask."""
    add_AdminServicer_to_server(_Service(operations), server)


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
