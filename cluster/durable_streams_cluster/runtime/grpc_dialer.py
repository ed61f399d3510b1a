"""One stream to one peer: dials, makes sure who answers, writes what waits, and begins again when that ends."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from grpc.aio import StreamStreamCall

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import PeerLimits
from durable_streams_cluster.runtime.greeting import (
    Accept,
    Identity,
    Reason,
    Refused,
    introduce,
    introduces_itself,
    judge_listener,
    reason_in,
)
from durable_streams_cluster.runtime.grpc_options import dialing
from durable_streams_cluster.runtime.outbox import Kind, Lane, Outbox
from durable_streams_cluster.settings import Address
from durable_streams_proto.v1.peer_pb2 import Acknowledgement, Envelope
from durable_streams_proto.v1.peer_pb2_grpc import PeersStub

log = logging.getLogger(__name__)

MAX_SAID = 16
"""Different troubles of one stream that are logged, until it has been open for a while."""

Call = StreamStreamCall[Envelope, Acknowledgement]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How attempts are spread."""

    rng: Random = field(default_factory=Random)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits for so many seconds."""


@dataclass(frozen=True, slots=True)
class Dialing:
    """What all dialers of a node share."""

    identity: Identity
    accept: Accept
    limits: PeerLimits
    clock: Clock
    backoff: Backoff
    lost: Callable[[NodeId], None]
    connected: Callable[[NodeId], None]
    told_old: Callable[[NodeId, str], None]
    """A peer refuses this node's life: its data directory is an older image of itself."""
    told_removed: Callable[[NodeId], None]
    """A peer refuses this node's directory: it was removed from the cluster."""


class Dialer:
    """Keeps one stream open. All of it runs on the loop, in one task."""

    def __init__(self, peer: NodeId, lane: Lane, address: Address, shared: Dialing) -> None:
        self.peer = peer
        self.lane = lane
        self.connected = False
        """The peer accepted the stream, and it has not ended."""
        self.sent_bytes = 0
        """Of payloads handed to gRPC."""
        self.sent_payloads = 0
        self.last_error = ""
        """Why the last attempt or stream ended; empty once the next is open."""
        self._address = address
        self._shared = shared
        self._outbox = Outbox(lane, shared.limits)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        """The one that dials; before it, those that it waits for."""
        self._said: set[str] = set()
        self._since_ms = 0
        self._refused = False
        self._attempts = 0

    @property
    def queued_bytes(self) -> int:
        """What waits, in bytes."""
        return self._outbox.queued_bytes

    @property
    def dropped(self) -> int:
        """Payloads that were given and not sent."""
        return self._outbox.dropped

    def start(self) -> None:
        """Begin to dial."""
        before = [task for task in self._tasks if not task.done()]
        task = asyncio.get_running_loop().create_task(self._run(before), name=f"{self.lane.value} {self.peer}")
        self._tasks = [*before, task]

    def redial(self, address: Address) -> None:
        """Give up the stream, if there is one, and dial another address at once."""
        self._address = address
        self._attempts = 0
        self._said.clear()
        if self._tasks:
            self.start()

    async def stop(self) -> None:
        """Close the stream."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            await _end(task)

    def send(self, payload: bytes, kind: Kind) -> bool:
        """See ``Peers.send``."""
        outbox = self._outbox
        if not self.connected:
            outbox.check(payload, kind)
            outbox.dropped += 1
            return False
        was_full = outbox.full
        taken = outbox.put(payload, kind)
        if outbox.full and not was_full:
            self._shared.lost(self.peer)
        self._wake.set()
        return taken

    async def _run(self, before: list[asyncio.Task[None]]) -> None:
        for task in before:
            await _end(task)
        limits, backoff = self._shared.limits, self._shared.backoff
        while True:
            try:
                self.last_error = await self._session()
            except Exception as error:
                # A mistake of ours or of a handler's; a task that ended would leave the peer without a word for ever.
                log.exception("peer %s (%s)", self.peer, self.lane.value)
                self.last_error = f"{type(error).__name__}: {error}"
            self._say(self.last_error)
            longest = limits.refused_backoff_s if self._refused else limits.last_backoff_s
            delay = min(limits.first_backoff_s * 2 ** min(self._attempts, 16), longest)
            self._attempts += 1
            # Half of it at random, or all nodes would come back in step.
            await backoff.pause(delay * (1 + backoff.rng.random()) / 2)

    async def _session(self) -> str:
        """Dial once, and write until the stream ends; returns why it ended."""
        self._refused = False
        try:
            await knock(self._address, self._shared.limits.greeting_timeout_s)
        except (OSError, UnicodeError) as error:
            return f"{grpc.StatusCode.UNAVAILABLE.name}: {str(error) or 'no connection in time'}"
        channel = grpc.aio.insecure_channel(str(self._address), options=dialing(self._shared.limits))
        try:
            stub = PeersStub(channel)
            method = stub.Raft if self.lane is Lane.RAFT else stub.Bulk
            call: Call = method(metadata=introduce(self._shared.identity, self.peer))
            # Its one reader: tasks that read responses and are cancelled make channels leak (grpc/grpc#42125).
            ended = asyncio.ensure_future(call.code())
            ended.add_done_callback(lambda _: self._wake.set())
            try:
                await self._greet(call, ended)
                self._up()
                await self._write(call)
            except Refused as refusal:
                self._refused = True
                return str(refusal)
            except TimeoutError as error:
                return str(error)
            except (grpc.RpcError, asyncio.InvalidStateError):
                pass  # the call says better why it ended
            finally:
                self._down()
                call.cancel()
                await _end(ended)
            code, details = await call.code(), await call.details() or ""
            self._refused = code is grpc.StatusCode.FAILED_PRECONDITION
            if self._refused:
                self._act_on(*reason_in(details))
            return f"{code.name}: {details}"
        finally:
            await channel.close()

    def _act_on(self, reason: Reason | None, why: str) -> None:
        if reason is Reason.IMAGE:
            self._shared.told_old(self.peer, why)
        elif reason is Reason.REMOVED:
            self._shared.told_removed(self.peer)

    async def _greet(self, call: Call, ended: asyncio.Future[grpc.StatusCode]) -> None:
        """Wait until the peer said who it is. Raises TimeoutError, Refused; InvalidStateError if the call ends."""
        timeout_s = self._shared.limits.greeting_timeout_s
        greeting = asyncio.ensure_future(call.initial_metadata())
        try:
            either: set[asyncio.Future[Any]] = {greeting, ended}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            said = list(greeting.result()) if greeting.done() else []
            if not introduces_itself(said):
                # Empty is the greeting of a stream that was refused, too: then its end follows at once.
                await asyncio.wait({ended}, timeout=timeout_s if greeting.done() else 0)
        finally:
            await _end(greeting)
        if introduces_itself(said):
            judge_listener(self._shared.identity, self.peer, self._shared.accept, said)
        elif ended.done():
            raise asyncio.InvalidStateError
        else:
            raise TimeoutError(f"no answer within {timeout_s:g} s")

    async def _write(self, call: Call) -> None:
        """Write what waits, as long as the call lives. Raises RpcError or InvalidStateError when it ends in a write."""
        while not call.done():
            batch = self._outbox.take()
            if batch:
                # Waits while the peer does not take what was written before: then the outbox fills, and nothing else.
                await call.write(Envelope(payloads=batch))
                self.sent_payloads += len(batch)
                self.sent_bytes += sum(map(len, batch))
            else:
                self._wake.clear()
                await self._wake.wait()

    def _up(self) -> None:
        self.connected = True
        self.last_error = ""
        self._since_ms = self._shared.clock.steady_ms()
        log.info("peer %s (%s): connected to %s", self.peer, self.lane.value, self._address)
        self._shared.connected(self.peer)

    def _down(self) -> None:
        if not self.connected:
            return
        self.connected = False
        self._outbox.clear()
        if self._shared.clock.steady_ms() - self._since_ms >= 1000 * self._shared.limits.last_backoff_s:
            # It lived: what comes now is a new trouble, and not one of somebody who ends every stream at once.
            self._attempts = 0
            self._said.clear()
        self._shared.lost(self.peer)

    def _say(self, why: str) -> None:
        """Log why there is no stream: once, not with every attempt; what gRPC says of one status varies."""
        head = why.partition(":")[0]
        if head == grpc.StatusCode.FAILED_PRECONDITION.name:
            head = why
        if head not in self._said and len(self._said) < MAX_SAID:
            self._said.add(head)
            log.warning("peer %s (%s) at %s: %s", self.peer, self.lane.value, self._address, why)


async def knock(address: Address, timeout_s: float) -> None:
    """See whether anybody listens. Raises OSError.

    gRPC would find out by itself, but leaks 600 bytes with every call that fails, metadata above all (measured with
    1.85: of a peer that is down for a day, 100 MB).
    """
    loop = asyncio.get_running_loop()
    failure = OSError("the name stands for no address")
    # Without a limit: a lookup cannot be called off, and many of them would fill the threads that make them.
    for family, kind, protocol, _, at in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setblocking(False)
            try:
                async with asyncio.timeout(timeout_s):
                    return await loop.sock_connect(probe, at)
            except OSError as error:
                failure = error
    raise failure


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel and wait until it is gone; whatever it had to say is of no interest any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
