"""Over gRPC, a token that is missing, not believed, or allows too little. (Over HTTP: ``test_http``.)"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from durable_streams_client import Client
from durable_streams_client import errors as e
from durable_streams_proto.v1.streams_pb2_grpc import StreamsServicer, add_StreamsServicer_to_server


class Doorkeeper(StreamsServicer):
    """Lets nobody in."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code
        self.tokens: set[Any] = set()

    async def _refuse(self, request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.tokens.add(dict(context.invocation_metadata() or ()).get("authorization"))
        await context.abort(self.code, "this token is not known")

    Head = List = Read = Follow = Write = Nodes = _refuse  # type: ignore[assignment]


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "create": lambda client: client.stream("s").create(),
    "append": lambda client: client.stream("s", content_type="text/plain").append("x"),
    "delete": lambda client: client.stream("s").delete(),
    "head": lambda client: client.stream("s").head(),
    "read": lambda client: client.stream("s").read(),
    "follow": lambda client: anext(client.stream("s").follow()),
    "list": lambda client: anext(client.list()),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, e.AuthenticationError),
        (grpc.StatusCode.PERMISSION_DENIED, e.PermissionDeniedError),
    ],
)
def test_it_is_told_at_once_and_never_tried_again(
    code: grpc.StatusCode, kind: type[e.DurableStreamError], call: str
) -> None:
    async def main() -> None:
        server, door = grpc.aio.server(), Doorkeeper(code)
        add_StreamsServicer_to_server(door, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with asyncio.timeout(20), Client(f"127.0.0.1:{port}", token="abc") as client:
                with pytest.raises(kind, match="this token is not known") as refused:
                    await CALLS[call](client)
                assert (refused.value.retryable, refused.value.maybe_applied) == (False, False)
            assert door.tokens == {"Bearer abc"}
        finally:
            await server.stop(None)

    asyncio.run(main())
