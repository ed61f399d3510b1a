"""A cluster over gRPC: one channel to each node, reads from one that answers, writes on one call (``grpc_writer``)."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import grpc

from durable_streams_client import _wire, errors
from durable_streams_client._retry import Backoff
from durable_streams_client._routing import Routes
from durable_streams_client.errors import DurableStreamError
from durable_streams_client.grpc_failures import failure_of
from durable_streams_client.grpc_nodes import Finder
from durable_streams_client.grpc_writer import Writer
from durable_streams_client.types import (
    AppendRequest,
    AppendResult,
    CreateRequest,
    CreateResult,
    DeleteRequest,
    HeadResult,
    ListedStream,
    Offset,
    Page,
)
from durable_streams_proto.v1 import streams_pb2 as pb
from durable_streams_proto.v1.streams_pb2_grpc import StreamsStub

if TYPE_CHECKING:
    from durable_streams_proto.v1.streams_pb2_grpc import StreamsAsyncStub

ATTEMPT_S = 20.0
"""One node has so long to answer a read; it waits for a leader itself, some fifteen seconds."""
CONNECT_MS = 2000
"""How long one TCP connection may take."""
MESSAGE_BYTES = 65 * 1024 * 1024
"""The largest append that a server may be told to take, and what is around it."""

OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    # A node that stopped, or a cable that was pulled, is noticed within twenty seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # HTTP_PROXY and its like are for the world outside.
    ("grpc.enable_http_proxy", 0),
    # What may be tried again is decided here; and DNS has no say in it.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

RANDOM = SystemRandom()


class GrpcTransport:
    """See ``transport.Transport``."""

    def __init__(
        self,
        targets: Sequence[str],
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        *,
        waits_for_room: bool = True,
    ) -> None:
        """No connection is made yet.

        Args:
            targets: ``HOST:PORT`` of listeners for clients (``--grpc``); one is enough, several survive.
            token: who this is, if the server asks for that.
            credentials: of TLS; None: not encrypted.
            waits_for_room: try again what is refused because too much is under way; else OverloadedError at once.

        """
        self._waits_for_room = waits_for_room
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._credentials = credentials
        self._routes = Routes(targets, RANDOM.randrange(len(targets)))
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._writer = Writer(self._routes, self._stub, self._metadata, waits_for_room=waits_for_room)
        self._finder = Finder(targets, self._routes, self._stub, self._metadata, self._writer.lead)
        self._closed = False

    # ---------------------------------------------------------------------------------------------------------- writes

    def begin_append(self, request: AppendRequest, timeout_s: float) -> "asyncio.Future[AppendResult]":
        """See ``transport.Transport``."""
        return self._writer.send(request, timeout_s)

    def create(self, request: CreateRequest, timeout_s: float) -> "asyncio.Future[CreateResult]":
        """See ``transport.Transport``; leaves in the order of these calls, among appends, too."""
        return self._writer.send(request, timeout_s)

    def delete(self, path: str, timeout_s: float) -> "asyncio.Future[bool]":
        """See ``transport.Transport``; in its turn, as ``create``."""
        return self._writer.send(DeleteRequest(path), timeout_s)

    # ----------------------------------------------------------------------------------------------------------- reads

    async def head(self, path: str, timeout_s: float) -> HeadResult:
        """See ``transport.Transport``."""
        return _wire.head(await self._ask("Head", pb.HeadRequest(path=path), timeout_s))

    async def list_streams(self, prefix: str, after: str, limit: int, timeout_s: float) -> list[ListedStream]:
        """See ``transport.Transport``."""
        request = pb.ListRequest(prefix=prefix, after=after, limit=limit)
        return _wire.listed(await self._ask("List", request, timeout_s))

    async def read(self, path: str, offset: Offset, max_bytes: int, timeout_s: float) -> Page:
        """See ``transport.Transport``."""
        request = pb.ReadRequest(path=path, offset=offset, max_bytes=max_bytes)
        return _wire.page(await self._ask("Read", request, timeout_s))

    async def follow(self, path: str, offset: Offset, max_bytes: int) -> AsyncGenerator[Page, None]:
        """See ``transport.Transport``."""
        target = self._routes.choose(_now())
        call = self._stub(target).Follow(
            pb.FollowRequest(path=path, offset=offset, max_bytes=max_bytes), metadata=self._metadata
        )
        try:
            async for page in call:
                self._routes.worked(target)
                yield _wire.page(page)
        except grpc.aio.AioRpcError as error:
            raise self._failure(target, error) from None
        except asyncio.CancelledError:
            raise self._called_off() from None
        finally:
            call.cancel()

    async def _ask(self, method: str, request: object, timeout_s: float) -> Any:
        """Ask one node after the other, until one answers or time is up."""
        end, backoff = _now() + timeout_s, Backoff(RANDOM.random)
        while True:
            target = self._routes.choose(_now())
            try:
                ask = getattr(self._stub(target), method)
                reply = await ask(request, timeout=min(ATTEMPT_S, max(end - _now(), 0.001)), metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                failure = self._failure(target, error)
                wait_s = backoff.wait_s(getattr(failure, "retry_after_s", 0.0))
                hurried = isinstance(failure, errors.OverloadedError) and not self._waits_for_room
                if not failure.retryable or hurried or _now() + wait_s >= end:
                    raise failure from None
            except asyncio.CancelledError:
                raise self._called_off() from None
            else:
                self._routes.worked(target)
                return reply
            await asyncio.sleep(wait_s)

    def _called_off(self) -> BaseException:
        """The end of this client ends its calls; so does whoever waits for one, when that is called off itself."""
        return errors.ClientClosedError("this client was closed") if self._closed else asyncio.CancelledError()

    def _failure(self, target: str, error: grpc.aio.AioRpcError) -> DurableStreamError:
        """What to raise for it, of a call that changes nothing."""
        failure = failure_of(target, error)
        if isinstance(failure, errors.UnavailableError):
            self._routes.failed(target, _now())
        return failure

    # -------------------------------------------------------------------------------------------------------- channels

    def _stub(self, target: str) -> "StreamsAsyncStub":
        if self._closed:
            raise errors.ClientClosedError("this client was closed")
        channel = self._channels.get(target)
        if channel is None:
            if self._credentials is not None:
                channel = grpc.aio.secure_channel(target, self._credentials, options=OPTIONS)
            else:
                channel = grpc.aio.insecure_channel(target, options=OPTIONS)
            self._channels[target] = channel
            self._finder.start()
        return StreamsStub(channel)

    async def aclose(self) -> None:
        """See ``transport.Transport``."""
        self._closed = True
        await self._finder.aclose()
        await self._writer.aclose()
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
