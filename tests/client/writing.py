"""Nodes that take what a writer sends, and answer as a test says."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc.aio import AioRpcError, Metadata

from durable_streams_client._routing import Routes
from durable_streams_client.grpc_writer import BATCH_BYTES, Writer
from durable_streams_client.types import AppendRequest, AppendResult, ProducerBatch
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.client.fake import settle
from tests.runtime.world import simulate


class Call:
    """One call of Write at a node."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.got: list[pb.WriteRequest] = []
        self.messages = 0
        self.connected = asyncio.Event()
        self.cancelled = False
        self._replies: asyncio.Queue[Any] = asyncio.Queue()

    async def initial_metadata(self) -> Metadata:
        await self.connected.wait()
        return Metadata(("ds-max-append-bytes", str(BATCH_BYTES + 1)))

    async def write(self, requests: pb.WriteRequests) -> None:
        self.messages += 1
        self.got += requests.requests

    async def read(self) -> Any:
        found = await self._replies.get()
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self) -> None:
        self.cancelled = True

    @property
    def bodies(self) -> list[bytes]:
        return [each.append.body for each in self.got]

    def answer(self, body: bytes, **result: Any) -> None:
        """To the newest request with this body."""
        number = next(each.number for each in reversed(self.got) if each.append.body == body)
        self._replies.put_nowait(pb.WriteReplies(replies=[pb.WriteReply(number=number, **result)]))

    def store(self, body: bytes, *, duplicate: bool = False) -> None:
        self.answer(body, append=pb.AppendReply(next_offset=body.decode(), duplicate=duplicate))

    def refuse(self, body: bytes, code: "pb.Error.Code.ValueType", **more: Any) -> None:
        self.answer(body, error=pb.Error(code=code, message=pb.Error.Code.Name(code).lower(), **more))

    def end(self) -> None:
        self._replies.put_nowait(grpc.aio.EOF)

    def break_off(self) -> None:
        self._replies.put_nowait(AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "reset"))


class Nodes:
    """Those of a cluster; all calls are connected at once, unless a test says otherwise."""

    def __init__(self, *names: str) -> None:
        self.calls: list[Call] = []
        self.connects = True
        self._made: asyncio.Future[None] | None = None
        self.routes = Routes(names)
        self.writer = Writer(self.routes, self._stub, ())  # type: ignore[arg-type]

    def _stub(self, node: str) -> Any:
        class Stub:
            @staticmethod
            def Write(metadata: object) -> Call:  # noqa: N802
                call = Call(node)
                if self.connects:
                    call.connected.set()
                self.calls.append(call)
                if self._made is not None and not self._made.done():
                    self._made.set_result(None)
                return call

        return Stub

    def send(self, body: bytes, seq: int | None = None, timeout_s: float = 30.0) -> "asyncio.Future[AppendResult]":
        batch = ProducerBatch("me", 0, seq) if seq is not None else None
        return self.writer.send(AppendRequest("s", body, "text/plain", producer=batch), timeout_s)

    async def next_call(self) -> Call:
        """The one after the last that was made, whenever that is."""
        self._made = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(20):
            await self._made
        await settle()
        return self.calls[-1]


def play(script: Callable[[Nodes], Any], *names: str) -> Nodes:
    async def main() -> Nodes:
        nodes = Nodes(*(names or ("a", "b", "c")))
        await script(nodes)
        await nodes.writer.aclose()
        return nodes

    return simulate(main)
