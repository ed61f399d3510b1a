"""The generated service ``Streams``: each call to ``runtime.calls``, and what it raises to a status of gRPC."""

from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar, cast

import grpc
from grpc.aio import ServicerContext

from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.errors import ClusterError, ShuttingDown
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_status import STATUS, broken, refused
from durable_streams_cluster.runtime.writing import Failed
from durable_streams_proto.v1 import streams_pb2 as pb
from durable_streams_proto.v1.streams_pb2_grpc import StreamsServicer, add_StreamsServicer_to_server

ERROR = "ds-error-bin"
"""The trailer with the ``Error``."""
MOST_BYTES = "ds-max-append-bytes"
"""Metadata of Write: how large an append may be."""

T = TypeVar("T")
_Context = ServicerContext[Any, Any]


def serve_streams(server: grpc.aio.Server, calls: Calls) -> None:
    """Let ``server`` answer what is asked of streams."""
    add_StreamsServicer_to_server(_Service(calls), server)


class _Service(StreamsServicer):
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Create(self, request: pb.CreateRequest, context: _Context) -> pb.CreateReply:  # noqa: N802
        return cast("pb.CreateReply", await _answer(context, self._calls.operate(request)))

    async def Append(self, request: pb.AppendRequest, context: _Context) -> pb.AppendReply:  # noqa: N802
        return cast("pb.AppendReply", await _answer(context, self._calls.operate(request)))

    async def Delete(self, request: pb.DeleteRequest, context: _Context) -> pb.DeleteReply:  # noqa: N802
        return cast("pb.DeleteReply", await _answer(context, self._calls.operate(request)))

    async def Head(self, request: pb.HeadRequest, context: _Context) -> pb.HeadReply:  # noqa: N802
        return await _answer(context, self._calls.head(request))

    async def List(self, request: pb.ListRequest, context: _Context) -> pb.ListReply:  # noqa: N802
        return await _answer(context, self._calls.list_streams(request))

    async def Read(self, request: pb.ReadRequest, context: _Context) -> pb.Page:  # noqa: N802
        return await _answer(context, self._calls.read(request))

    async def Follow(self, request: pb.FollowRequest, context: _Context) -> None:  # type: ignore[override]  # noqa: N802
        await _answer(context, self._calls.follow(request, context.write))

    async def Nodes(self, request: pb.NodesRequest, context: _Context) -> None:  # type: ignore[override]  # noqa: N802
        await _answer(context, self._calls.nodes(context.write))

    async def Write(self, request_iterator: object, context: _Context) -> None:  # type: ignore[override]  # noqa: N802
        if self._calls.draining:
            await _abort(context, refused(ShuttingDown("this node is shutting down; nothing was stored")))
        # One message that is too large would end the call: clients do not send it.
        await context.send_initial_metadata(((MOST_BYTES, str(self._calls.max_append_bytes)),))
        await _answer(context, self._calls.write(context.read, context.write))


async def _answer(context: _Context, call: Awaitable[T]) -> T:
    try:
        return await call
    except Failed as failed:
        await _abort(context, failed.error)
    except BadRequest as error:
        await _abort(context, broken(error))
    except ClusterError as error:
        await _abort(context, refused(error))


async def _abort(context: _Context, error: pb.Error) -> NoReturn:
    status = getattr(grpc.StatusCode, STATUS[error.code])
    await context.abort(status, error.message, ((ERROR, error.SerializeToString()),))
