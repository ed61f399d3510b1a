"""The peer listener: takes the streams that peers open, believes none before it was judged, and hands payloads on."""

import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
from grpc.aio import ServicerContext

from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import PEER_CONNECTIONS, PeerLimits
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.greeting import Accept, Identity, Refused, introduce, judge_dialer
from durable_streams_cluster.runtime.grpc_binding import bind
from durable_streams_cluster.runtime.grpc_options import listening
from durable_streams_cluster.runtime.introductions import Asked, said_from_wire, said_to_wire, wish_from_wire
from durable_streams_cluster.runtime.outbox import Lane
from durable_streams_cluster.settings import Address, parse_address
from durable_streams_proto.v1.peer_pb2 import (
    Acknowledgement,
    ChangeReply,
    ChangeRequest,
    Envelope,
    Introduction,
    ReportReply,
    ReportRequest,
)
from durable_streams_proto.v1.peer_pb2_grpc import PeersServicer, add_PeersServicer_to_server

log = logging.getLogger(__name__)

OnPayload = Callable[[NodeId, int, bytes], None]
"""Sender, its incarnation, payload. Called on the loop, in the order of each stream; must neither wait nor raise."""

_Context = ServicerContext[Envelope, Acknowledgement]
_AnyContext = ServicerContext[Any, Any]


class Questions(Protocol):
    """What is asked at the peer listener beside the streams, perhaps by nodes that are not of the cluster yet."""

    def introduced(self, said: Said) -> Said:
        """A node says who it is; answer who this one is."""
        ...

    async def change(self, wish: Asked, cluster: str, *, handed_on: bool) -> ChangeReply:
        """Somebody of ``cluster`` wants another membership; ``handed_on``: another node asks in their place."""
        ...

    def report(self, cluster: str) -> ReportReply:
        """A node of ``cluster`` wants to know how this one is. Raises Unavailable: it is of another, or of none yet."""
        ...


class Listener:
    """Serves ``Peers``. Nothing is queued here: the next envelope is read when the last one was handed on."""

    def __init__(
        self,
        identity: Identity,
        address: Address,
        accept: Accept,
        on_payload: OnPayload,
        questions: Questions,
        limits: PeerLimits,
    ) -> None:
        self.identity = identity
        self._address = address
        self._accept = accept
        self._on_payload = on_payload
        self._questions = questions
        self._limits = limits
        self.on_greeted: Callable[[Identity], None] = lambda _: None
        """A peer was believed, and said where it listens."""
        self._server: grpc.aio.Server | None = None
        self._streams: dict[tuple[NodeId, Lane], tuple[Identity, object]] = {}
        self._complained: dict[str, str] = {}
        self.port = address.port
        """The port asked for; after :meth:`start`, the real one."""
        self.rejected: Counter[str] = Counter()
        """Streams that were refused, by reason."""
        self.received_bytes: defaultdict[NodeId, int] = defaultdict(int)
        """Of payloads, by sender."""

    @property
    def senders(self) -> set[NodeId]:
        """Peers whose Raft stream is open here."""
        return {node for node, lane in self._streams if lane is Lane.RAFT}

    @property
    def places(self) -> dict[NodeId, Address]:
        """Where those listen whose streams are open here, as they say."""
        return {sender.node: parse_address(sender.address) for sender, _ in self._streams.values() if sender.address}

    @property
    def clients(self) -> dict[NodeId, str]:
        """Where clients reach those whose streams are open here, as they say."""
        return {sender.node: sender.clients for sender, _ in self._streams.values() if sender.clients}

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be had."""
        server = grpc.aio.server(options=listening(self._limits), maximum_concurrent_rpcs=PEER_CONNECTIONS)
        add_PeersServicer_to_server(_Service(self._receive, self._questions), server)
        self.port = await bind(server, "peer", self._address)
        self._server = server
        await server.start()

    async def stop(self) -> None:
        """Close the port and every stream; nothing is handed on afterwards."""
        self._streams.clear()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def judge_again(self) -> None:
        """Who belongs has changed: end the streams of those who would not be let in now."""
        for key, (sender, _) in list(self._streams.items()):
            if self._accept(sender) is not None:
                del self._streams[key]

    async def _receive(self, lane: Lane, context: _Context) -> None:
        try:
            sender = judge_dialer(self.identity, self._accept, context.invocation_metadata() or ())
        except Refused as refusal:
            self._complain(_host(context), refusal)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
        key, stream = (sender.node, lane), (sender, object())
        # The newest stream is the one: that of a peer which lost its connection may be older than our knowing of it.
        self._streams[key] = stream
        self._complained.pop(_host(context), None)
        try:
            if sender.address:
                self.on_greeted(sender)
            await context.send_initial_metadata(introduce(self.identity))
            await self._hand_on(key, stream, sender, context)
        finally:
            if self._streams.get(key) is stream:
                del self._streams[key]

    async def _hand_on(self, key: tuple[NodeId, Lane], stream: object, sender: Identity, context: _Context) -> None:
        while True:
            envelope: object = await context.read()
            if not isinstance(envelope, Envelope) or self._streams.get(key) is not stream:
                return
            for payload in envelope.payloads:
                self.received_bytes[sender.node] += len(payload)
                self._on_payload(sender.node, sender.incarnation, payload)

    def _complain(self, host: str, refusal: Refused) -> None:
        """Count a refusal, and say so once: whoever it is tries again every second."""
        self.rejected[refusal.reason.value] += 1
        if self._complained.get(host) == str(refusal):
            return
        if len(self._complained) >= PEER_CONNECTIONS:
            self._complained.clear()
        self._complained[host] = str(refusal)
        log.warning("refused a peer from %s: %s", host, refusal)


class _Service(PeersServicer):
    """The generated service; the streams as coroutines that read until the end."""

    def __init__(self, receive: Callable[[Lane, _Context], Awaitable[None]], questions: Questions) -> None:
        self._receive = receive
        self._questions = questions

    async def Raft(self, request_iterator: object, context: _Context) -> None:  # type: ignore[override]  # noqa: N802
        await self._receive(Lane.RAFT, context)

    async def Bulk(self, request_iterator: object, context: _Context) -> None:  # type: ignore[override]  # noqa: N802
        await self._receive(Lane.BULK, context)

    async def Introduce(self, request: Introduction, context: _AnyContext) -> Introduction:  # noqa: N802
        try:
            return said_to_wire(self._questions.introduced(said_from_wire(request)))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def Change(self, request: ChangeRequest, context: _AnyContext) -> ChangeReply:  # noqa: N802
        try:
            wish = wish_from_wire(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return await self._questions.change(wish, request.cluster, handed_on=request.handed_on)

    async def Report(self, request: ReportRequest, context: _AnyContext) -> ReportReply:  # noqa: N802
        try:
            return self._questions.report(request.cluster)
        except Unavailable as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))


def _host(context: _Context) -> str:
    """Where the dialer is, without its port."""
    return context.peer().rpartition(":")[0]
