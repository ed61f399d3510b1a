"""Transport between nodes: carries opaque payloads to each peer, in order, without ever making the sender wait.

Each node dials each peer twice (``grpc_dialer``) and takes what its peers open (``grpc_listener``). What the caller may
rely on:

* Payloads of one kind that arrive, arrive in the order sent, each at most once, from the incarnation that is named.
* Nothing says that a payload arrived. After ``on_lost`` anything sent before may be gone: that of a stream that broke,
  or of a queue that ran full. While no stream is open, ``send`` answers False: what is old when the peer comes back
  would only be in the way.
* Memory is bounded whatever a peer does (``PeerLimits``): by the queues here, one envelope under way for each stream,
  and the windows of HTTP/2 and TCP.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import MAX_PEERS, PeerLimits
from durable_streams_cluster.observe.metrics import Metrics, PeerFigures
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.greeting import Accept, FirstIncarnation, Identity
from durable_streams_cluster.runtime.grpc_dialer import Backoff, Dialer, Dialing
from durable_streams_cluster.runtime.grpc_listener import Listener, OnPayload, Questions
from durable_streams_cluster.runtime.introductions import Asked
from durable_streams_cluster.runtime.outbox import Kind, Lane
from durable_streams_cluster.settings import Address, parse_address
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ReportReply

__all__ = [
    "Accept",
    "Backoff",
    "FirstIncarnation",
    "Handlers",
    "Identity",
    "Kind",
    "Lane",
    "LaneStatus",
    "Peers",
]


class LaneStatus(msgspec.Struct, frozen=True):
    """How one of the two streams to a peer is doing."""

    address: str
    connected: bool
    queued_bytes: int
    dropped: int
    """Payloads that were given to ``send`` and not sent, since the start."""
    last_error: str
    """Why there is no stream; empty while there is one."""


def _ignore(_: NodeId) -> None:
    """Of no interest."""


def _ignore_words(_: NodeId, __: str) -> None:
    """Of no interest."""


class NoQuestions:
    """For a transport alone: nobody is answered."""

    def introduced(self, said: Said) -> Said:
        """See ``grpc_listener.Questions``."""
        raise ValueError("nobody answers here")

    async def change(self, wish: Asked, cluster: str, *, handed_on: bool) -> ChangeReply:
        """See ``grpc_listener.Questions``."""
        return ChangeReply(result=ChangeReply.NO_LEADER, text="nobody answers here")

    def report(self, cluster: str) -> ReportReply:
        """See ``grpc_listener.Questions``."""
        raise Unavailable("nobody answers here")


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a node does about its peers. All are called on the loop, and must neither wait nor raise."""

    on_payload: OnPayload
    """Something arrived."""
    on_lost: Callable[[NodeId], None]
    """What was sent to this peer may be lost. Called with the next turn of the loop, never from within ``send``."""
    on_connected: Callable[[NodeId], None] = _ignore
    """A stream to this peer is open: what ``send`` refused may be sent now."""
    accept: Accept = field(default_factory=FirstIncarnation)
    """Whether an incarnation is the right one, asked of those who dial and of those who answer."""
    on_moved: Callable[[NodeId, str], None] = _ignore_words
    """A peer says that it listens elsewhere than where it was dialed, or was never dialed."""
    questions: Questions = field(default_factory=NoQuestions)
    on_told_old: Callable[[NodeId, str], None] = _ignore_words
    """A peer refuses to speak with this node, for it has seen more of its data directory than is in it; in words."""
    on_told_removed: Callable[[NodeId], None] = _ignore
    """A peer refuses to speak with this node, for it was removed from the cluster, with its data directory."""


class Peers:
    """The other nodes. Everything runs on the loop of ``start``.

    Args:
        identity: Who this node is.
        listen: Where peers reach it.
        addresses: Its peers, without itself.
        handlers: What to do about them.
        metrics: Gets its series of peers here.
        clock: Steady time, to tell a stream that lived from one that did not.
        backoff: How attempts are spread.
        limits: Bounds.

    """

    def __init__(
        self,
        identity: Identity,
        listen: Address,
        addresses: Mapping[NodeId, Address],
        handlers: Handlers,
        *,
        metrics: Metrics,
        clock: Clock,
        backoff: Backoff | None = None,
        limits: PeerLimits | None = None,
    ) -> None:
        assert identity.node not in addresses, "a node is no peer of itself"
        limits, backoff = limits or PeerLimits(), backoff or Backoff()
        self._addresses = dict(addresses)
        self._handlers = handlers
        self._reports: dict[NodeId, asyncio.Handle] = {}
        self._stopped = False
        self._listener = Listener(identity, listen, handlers.accept, handlers.on_payload, handlers.questions, limits)
        self._listener.on_greeted = self.found
        self._dialing = Dialing(
            identity,
            handlers.accept,
            limits,
            clock,
            backoff,
            self._lost,
            self._connected,
            self._told_old,
            self._told_removed,
        )
        self._dialers: dict[tuple[NodeId, Lane], Dialer] = {}
        self._running = False
        self._ending: set[asyncio.Task[None]] = set()
        """Dialers of former peers."""
        self._set(self._addresses)
        metrics.peers = self._figures
        metrics.peer_rejected = self._listener.rejected
        metrics.peer_received_bytes = self._listener.received_bytes

    @property
    def port(self) -> int:
        """Where peers reach this node; the real port after :meth:`start`."""
        return self._listener.port

    async def start(self) -> None:
        """Listen and dial. Raises ConfigError when the address cannot be had."""
        await self._listener.start()
        self._running = True
        if self._dialing.identity.cluster_id:
            for dialer in self._dialers.values():
                dialer.start()

    def belong(self, identity: Identity, addresses: Mapping[NodeId, Address]) -> None:
        """This node is of a cluster now, whose other members are at these addresses: dial them, and let them in."""
        assert not self._dialers, "nobody is a peer of a node of no cluster"
        self._listener.identity = identity
        self._dialing = replace(self._dialing, identity=identity)
        self.set_members(addresses)

    def set_members(self, addresses: Mapping[NodeId, Address]) -> None:
        """Dial these from now on, and those who speak to this node; who is not to be believed any more does not.

        The latter where they say, and if they are in no membership that this node has come to: who joins learns of the
        memberships one after the other, and the leader that sends them, and wants answers, may be in none but the last.
        """
        assert self._dialing.identity.node not in addresses, "a node is no peer of itself"
        assert len(addresses) <= MAX_PEERS
        if self._stopped:
            return
        self._listener.judge_again()
        places = self.places
        known = {node: places.get(node, address) for node, address in addresses.items()}
        others = [each for each in places.items() if each[0] not in known]
        self._set({**known, **dict(others[: MAX_PEERS - len(known)])})

    def _set(self, addresses: dict[NodeId, Address]) -> None:
        for node in [node for node in self._addresses if node not in addresses]:
            for lane in Lane:
                task = asyncio.get_running_loop().create_task(self._dialers.pop((node, lane)).stop())
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        before, self._addresses = self._addresses, addresses
        for node, address in addresses.items():
            if node in before and (node, Lane.RAFT) in self._dialers:
                self._addresses[node] = before[node]
                self.readdress(node, address)
                continue
            for lane in Lane:
                dialer = self._dialers[node, lane] = Dialer(node, lane, address, self._dialing)
                if self._running and self._dialing.identity.cluster_id:
                    dialer.start()

    def found(self, peer: Identity) -> None:
        """A peer that is believed says where it listens: one that was not heard of gets its answers, too."""
        address = parse_address(peer.address)
        if self._stopped or self._addresses.get(peer.node) == address:
            return
        if peer.node in self._addresses:
            self.readdress(peer.node, address)
        elif len(self._addresses) < MAX_PEERS:
            self._set(self._addresses | {peer.node: address})
        self._handlers.on_moved(peer.node, peer.address)

    async def stop(self) -> None:
        """End all streams, release the port. No callback is called from now on."""
        self._stopped = True
        ending = [*self._ending, *(dialer.stop() for dialer in self._dialers.values())]
        await asyncio.gather(self._listener.stop(), *ending)
        for report in self._reports.values():
            report.cancel()
        self._reports.clear()

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """Queue a payload; returns at once.

        Returns:
            Whether it was taken. False: there is no such peer, no stream is open, or the queue is full (then
            ``on_lost`` follows, once until it has drained).

        Raises:
            ValueError: The payload is larger than ``PeerLimits`` lets one of its kind be.

        """
        dialer = self._dialers.get((to, kind.lane))
        return dialer is not None and dialer.send(payload, kind)

    def readdress(self, node: NodeId, address: Address) -> None:
        """Dial ``node`` elsewhere from now on. Raises KeyError when there is no such peer."""
        if self._addresses[node] != address:
            self._addresses[node] = address
            for lane in Lane:
                self._dialers[node, lane].redial(address)

    @property
    def addresses(self) -> Mapping[NodeId, Address]:
        """Where each peer is dialed."""
        return dict(self._addresses)

    @property
    def places(self) -> Mapping[NodeId, Address]:
        """Where those listen who speak to this node, as they say themselves."""
        return self._listener.places

    @property
    def clients(self) -> Mapping[NodeId, str]:
        """Where clients reach those who speak to this node, as they say themselves."""
        return self._listener.clients

    def is_connected(self, node: NodeId) -> bool:
        """Whether messages of Raft reach this peer."""
        return (node, Lane.RAFT) in self._dialers and self._dialers[node, Lane.RAFT].connected

    def status(self) -> dict[NodeId, dict[Lane, LaneStatus]]:
        """How the streams to each peer are doing."""
        return {node: {lane: self._lane_status(node, lane) for lane in Lane} for node in self._addresses}

    def _lane_status(self, node: NodeId, lane: Lane) -> LaneStatus:
        dialer = self._dialers[node, lane]
        address = str(self._addresses[node])
        return LaneStatus(address, dialer.connected, dialer.queued_bytes, dialer.dropped, dialer.last_error)

    def _figures(self) -> dict[tuple[str, str], PeerFigures]:
        return {
            (node, lane.value): PeerFigures(
                int(dialer.connected), dialer.queued_bytes, dialer.sent_bytes, dialer.sent_payloads, dialer.dropped
            )
            for (node, lane), dialer in self._dialers.items()
        }

    def _lost(self, node: NodeId) -> None:
        """Report it with the next turn of the loop: whoever sends is in the midst of something, and may send more."""
        if node not in self._reports and not self._stopped:
            self._reports[node] = asyncio.get_running_loop().call_soon(self._report, node)

    def _report(self, node: NodeId) -> None:
        del self._reports[node]
        self._handlers.on_lost(node)

    def _told_old(self, node: NodeId, why: str) -> None:
        if not self._stopped:
            self._handlers.on_told_old(node, why)

    def _told_removed(self, node: NodeId) -> None:
        if not self._stopped:
            self._handlers.on_told_removed(node)

    def _connected(self, node: NodeId) -> None:
        if not self._stopped:
            self._handlers.on_connected(node)
