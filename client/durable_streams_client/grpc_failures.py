"""A status of gRPC as an exception of ours."""

import grpc

from durable_streams_client import _wire, errors
from durable_streams_client.errors import DurableStreamError
from durable_streams_proto.v1 import streams_pb2 as pb

ERROR = "ds-error-bin"
"""The trailer with the server's ``Error``."""


def failure_of(target: str, error: grpc.aio.AioRpcError) -> DurableStreamError:
    """The exception for a status of gRPC, of a call that may be made again without harm."""
    trailers = dict(error.trailing_metadata() or ())
    found = trailers.get(ERROR)
    if isinstance(found, bytes):
        return _wire.error(pb.Error.FromString(found))
    words = f"{target}: {error.details()}"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            return errors.UnavailableError(f"no node answers; the last one asked was {words}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.OverloadedError(words)
        case grpc.StatusCode.UNAUTHENTICATED:
            return errors.AuthenticationError(words)
        case grpc.StatusCode.PERMISSION_DENIED:
            return errors.PermissionDeniedError(words)
        case grpc.StatusCode.UNIMPLEMENTED:
            return DurableStreamError(f"{words}: is this the --grpc address of a node, and no older than this client?")
        case code:
            return DurableStreamError(f"{words} ({code.name})")
