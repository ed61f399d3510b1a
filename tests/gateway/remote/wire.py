"""A node's service ``Streams`` behind the client SDK, without a network: time is simulated, and a test breaks calls."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any, TypeVar

import grpc
from grpc.aio import AioRpcError, Metadata

from durable_streams_client.errors import ClientClosedError
from durable_streams_client.grpc_transport import GrpcTransport
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.gateway.remote.streams import RemoteStreams
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_status import STATUS, broken, refused
from durable_streams_cluster.runtime.grpc_streams import ERROR, MOST_BYTES
from durable_streams_cluster.runtime.writing import Failed
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.runtime.world import World

T = TypeVar("T")


def status_of(error: pb.Error) -> AioRpcError:
    """What a client is raised for it."""
    trailers = Metadata((ERROR, error.SerializeToString()))
    return AioRpcError(getattr(grpc.StatusCode, STATUS[error.code]), Metadata(), trailers, error.message)


def broken_off() -> AioRpcError:
    return AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "reset")


class Open:
    """One call of Follow or Write: what the node sends, until it ends or is broken off."""

    def __init__(self, node: "Node", name: str, run: Callable[["Open"], Coroutine[Any, Any, None]]) -> None:
        self._node = node
        self._name = name
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._asked: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._run(run))
        node.open.append(self)

    async def _run(self, run: Callable[["Open"], Coroutine[Any, Any, None]]) -> None:
        try:
            await self._node.answer(run(self))
        except AioRpcError as error:
            self._sent.put_nowait(error)
        else:
            self._sent.put_nowait(grpc.aio.EOF)

    async def send(self, message: Any) -> None:
        """Of the node."""
        await asyncio.sleep(self._node.delay_of.get(f"reply to {self._name}", 0))
        await self._node.travel()
        self._sent.put_nowait(message)

    async def asked(self) -> Any:
        """Of the node: what the client writes."""
        return await self._asked.get()

    async def write(self, message: Any) -> None:
        await self._node.travel()
        self._asked.put_nowait(message)

    async def read(self) -> Any:
        found = await self._sent.get()
        if isinstance(found, AioRpcError):
            raise found
        return found

    async def initial_metadata(self) -> Metadata:
        await self._node.travel()
        return Metadata((MOST_BYTES, str(self._node.calls.max_append_bytes)))

    async def __aiter__(self) -> Any:
        while (found := await self.read()) is not grpc.aio.EOF:
            yield found

    def cancel(self) -> None:
        self._task.cancel()
        if self in self._node.open:
            self._node.open.remove(self)

    def break_off(self) -> None:
        """What was sent and has not been read is lost with it."""
        self.cancel()
        while not self._sent.empty():
            self._sent.get_nowait()
        self._sent.put_nowait(broken_off())


class Node:
    """A stub of ``Streams``, and the node behind it."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.asked: Counter[str] = Counter()
        """How often each call was made."""
        self.followed: list[str] = []
        """Where each upstream read began."""
        self.open: list[Open] = []
        self.reaches = True
        """Else every call fails, as if nobody listened."""
        self.delay: Callable[[], float] | None = None
        """How long a message travels, in seconds."""
        self.delay_of: dict[str, float] = {}
        """The same besides, of a request of one kind, or of a reply to it: ``reply to Read``."""

    async def travel(self) -> None:
        if self.delay is not None:
            await asyncio.sleep(self.delay())
        if not self.reaches:
            raise broken_off()

    async def answer(self, call: Awaitable[T]) -> T:
        """As ``runtime.grpc_streams``."""
        try:
            return await call
        except Failed as failed:
            raise status_of(failed.error) from None
        except BadRequest as error:
            raise status_of(broken(error)) from None
        except ClusterError as error:
            raise status_of(refused(error)) from None

    def break_off(self) -> None:
        """End all calls that are open."""
        for each in tuple(self.open):
            each.break_off()

    async def _unary(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.asked[name] += 1
        await asyncio.sleep(self.delay_of.get(name, 0))
        await self.travel()
        reply = await self.answer(call())
        await asyncio.sleep(self.delay_of.get(f"reply to {name}", 0))
        await self.travel()
        return reply

    async def Head(self, request: pb.HeadRequest, **_: Any) -> pb.HeadReply:  # noqa: N802
        return await self._unary("Head", lambda: self.calls.head(request))

    async def List(self, request: pb.ListRequest, **_: Any) -> pb.ListReply:  # noqa: N802
        return await self._unary("List", lambda: self.calls.list_streams(request))

    async def Read(self, request: pb.ReadRequest, **_: Any) -> pb.Page:  # noqa: N802
        return await self._unary("Read", lambda: self.calls.read(request))

    def Follow(self, request: pb.FollowRequest, **_: Any) -> Open:  # noqa: N802
        self.asked["Follow"] += 1
        self.followed.append(request.offset)

        async def run(call: Open) -> None:
            await self.travel()
            await self.calls.follow(request, call.send)

        return Open(self, "Follow", run)

    def Write(self, **_: Any) -> Open:  # noqa: N802
        self.asked["Write"] += 1
        return Open(self, "Write", lambda call: self.calls.write(call.asked, call.send))


def listening(world: World) -> Node:
    """The service of a node."""
    calls = Calls(world.limits, Metrics())
    calls.attach(world.streams, Crowd(world.limits))
    return Node(calls)


def transport_to(node: Node) -> GrpcTransport:
    transport = GrpcTransport(["node:1"], waits_for_room=False)

    def stub(*_: Any) -> Any:
        if transport._closed:
            raise ClientClosedError("this client was closed")
        return node

    transport._stub = transport._writer._stub = stub  # type: ignore[method-assign]
    return transport


class Gateway:
    """A stand-alone gateway in front of one node."""

    def __init__(self, world: World, limits: Limits | None = None) -> None:
        limits = limits or world.limits
        self.world, self.node, self.metrics = world, listening(world), Metrics()
        self.transport = transport_to(self.node)
        self.streams = RemoteStreams(self.transport, limits)
        self.app = GatewayApp(self.streams, limits, world.clock, Random(1), self.metrics)

    async def aclose(self) -> None:
        await self.streams.aclose()
        await self.transport.aclose()
