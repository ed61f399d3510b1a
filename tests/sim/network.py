"""Streams between nodes, one each way: they delay, and what else a seed lets them do."""

import typing
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING
from zlib import crc32

from durable_streams_cluster.ids import GroupId, NodeId
from durable_streams_cluster.raft import Message
from durable_streams_cluster.replica.exchange import Addressed
from durable_streams_cluster.runtime import wire
from durable_streams_cluster.runtime.greeting import Reason
from durable_streams_cluster.runtime.outbox import Kind
from durable_streams_cluster.runtime.peers import Handlers, Identity
from durable_streams_cluster.settings import Address, parse_address
from tests.sim.loop import VirtualLoop, context_of

if TYPE_CHECKING:
    from tests.sim.node import Life

Link = tuple[NodeId, NodeId]
RAFT = typing.get_args(Message)
NOTICED_S = (1.0, 2.5)
"""After so long a connection without a sign of life is given up, and both ends are told."""


class Weather:
    """What links do, by the seed."""

    def __init__(self, random: Random, *, wild: bool) -> None:
        self.least_s = random.choice((0.0001, 0.0005, 0.002))
        self.spread_s = random.choice((0.0003, 0.002, 0.02, 0.06))
        self.loses = random.choice((0.0, 0.02, 0.05, 0.2)) if wild else 0.0
        self.doubles = random.choice((0.0, 0.05, 0.3)) if wild else 0.0
        self.reorders = random.choice((0.0, 0.1, 1.0)) if wild else 0.0


class Stream:
    """What a node opened to another one."""

    def __init__(self, dialer: "Port", listener: "Port") -> None:
        self.dialer, self.listener = dialer, listener
        self.sender = dialer.identity
        self.arrives = True
        """Whether what is under way on it comes to its end."""


class Port:
    """One life's end of the network: in place of ``runtime.peers.Peers``."""

    def __init__(self, life: "Life", address: Address, identity: Identity, handlers: Handlers) -> None:
        self.life, self.address, self.identity, self.handlers = life, address, identity, handlers
        self.network = life.node.world.network
        self.open = False
        self.addresses: Mapping[NodeId, Address] = {}

    @property
    def node(self) -> NodeId:
        return self.identity.node

    @property
    def port(self) -> int:
        return self.address.port

    async def start(self) -> None:
        self.open = True
        self.network.ports[self.node] = self

    async def stop(self) -> None:
        raise AssertionError("a process ends as a whole")

    def belong(self, identity: Identity, addresses: Mapping[NodeId, Address]) -> None:
        self.identity = identity
        self.set_members(addresses)

    def set_members(self, addresses: Mapping[NodeId, Address]) -> None:
        self.network.judge_again(self)
        self._dial({**addresses, **self.places})

    def found(self, peer: Identity) -> None:
        address = parse_address(peer.address)
        if self.addresses.get(peer.node) != address:
            self._dial({**self.addresses, peer.node: address})
            self.handlers.on_moved(peer.node, peer.address)

    def _dial(self, addresses: Mapping[NodeId, Address]) -> None:
        before, self.addresses = self.addresses, dict(addresses)
        for node in before | self.addresses:
            if before.get(node) == self.addresses.get(node):
                continue
            self.network.hang_up((self.node, node))
            if node in self.addresses:
                self.network.dial(self, node)

    @property
    def places(self) -> Mapping[NodeId, Address]:
        streams = self.network.streams.items()
        return {node: parse_address(each.sender.address) for (node, _), each in streams if each.listener is self}

    @property
    def clients(self) -> Mapping[NodeId, str]:
        return {}

    def is_connected(self, node: NodeId) -> bool:
        return (self.node, node) in self.network.streams

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        return self.network.send(self, to, payload, kind)


class Network:
    """All links."""

    def __init__(self, loop: VirtualLoop, random: Random, weather: Weather) -> None:
        self._loop, self._random, self.weather = loop, random, weather
        self._outside = context_of(None)
        self.ports: dict[NodeId, Port] = {}
        self.streams: dict[Link, Stream] = {}
        """Those that are open; a cut link may have one, until that is noticed."""
        self.cut: dict[Link, int] = {}
        """Links through which nothing comes, and how many faults want that."""
        self.slow: dict[Link, float] = {}
        """What more a link delays, seconds."""
        self._last: dict[tuple[NodeId, NodeId, Kind], float] = {}
        self.digest = 0
        self.counts = {"delivered": 0, "lost": 0, "doubled": 0, "late": 0, "refused": 0}

    # ------------------------------------------------------------------------------------------------------ processes

    def leave(self, node: NodeId) -> None:
        """A process is gone, and its streams with it; what it sent last may yet arrive."""
        port = self.ports.pop(node, None)
        if port is None:
            return
        port.open = False
        for link in list(self.streams):
            if link[1] == node:
                self.break_off(link)
            elif link[0] == node:
                self.streams.pop(link).arrives = self._random.random() < 0.5

    def dial(self, port: Port, to: NodeId) -> None:
        """Open a stream; try again until there is one."""
        self._loop.call_later(self._random.uniform(0.02, 0.5), self._dialed, port, to, context=self._outside)

    def _dialed(self, port: Port, to: NodeId) -> None:
        link = (port.node, to)
        if not port.open or to not in port.addresses or link in self.streams:
            return
        there = self.at(port.addresses[to], port.node)
        if there is None or port.life.paused or there.life.paused or self._objections(port, there):
            self.dial(port, to)
            return
        self.streams[link] = Stream(port, there)
        there.life.context.run(there.found, port.identity)
        self._tell(port, port.handlers.on_connected, to, 0.0)

    def _objections(self, port: Port, there: Port) -> bool:
        """Whether one does not believe who the other is (``runtime.greeting``)."""
        one, other = port.identity, there.identity
        if one.cluster_id != other.cluster_id or not one.cluster_id:
            return True
        refusal = there.handlers.accept(one)
        if refusal is not None and refusal.reason is Reason.IMAGE:
            self._tell(port, lambda node: port.handlers.on_told_old(node, str(refusal)), there.node, 0.0)
        objects = refusal is not None or port.handlers.accept(other) is not None
        self.counts["refused"] += objects
        return objects

    def at(self, address: Address, asker: NodeId) -> Port | None:
        """Who listens at an address, if anybody hears the asker there."""
        there = self.ports.get(NodeId(address.host))
        if there is None or there.address != address:
            return None
        link = (asker, there.node)
        return None if link in self.cut or (link[1], link[0]) in self.cut else there

    # ---------------------------------------------------------------------------------------------------------- faults

    def break_off(self, link: Link, after_s: float = 0.001) -> None:
        """The stream ends; what was under way on it is lost, and its sender told."""
        stream = self.hang_up(link)
        if stream is not None:
            self._tell(stream.dialer, stream.dialer.handlers.on_lost, link[1], after_s)
            self.dial(stream.dialer, link[1])

    def hang_up(self, link: Link) -> Stream | None:
        """Its dialer wants the stream no more, or has none."""
        stream = self.streams.pop(link, None)
        if stream is not None:
            stream.arrives = False
        return stream

    def judge_again(self, port: Port) -> None:
        """Streams of those whom this process would not let in now are ended."""
        for link, stream in list(self.streams.items()):
            if stream.listener is port and port.handlers.accept(stream.sender) is not None:
                self.break_off(link)

    def _tell(self, port: Port, what: Callable[[NodeId], None], node: NodeId, after_s: float) -> None:
        def tell() -> None:
            if port.open:
                what(node)

        self._loop.call_later(after_s, tell, context=port.life.context)

    def block(self, link: Link, *, silent: bool) -> None:
        """Nothing comes through ``link`` any more. Unless ``silent``, that is noticed after a while."""
        self.cut[link] = self.cut.get(link, 0) + 1
        if not silent:
            self._loop.call_later(self._random.uniform(*NOTICED_S), self._notice, link, context=self._outside)

    def _notice(self, link: Link) -> None:
        if link in self.cut:
            self.break_off(link)
            self.break_off((link[1], link[0]))

    def unblock(self, link: Link, *, silent: bool) -> None:
        """One fault less wants it cut. What did not come is lost, so unless ``silent`` the stream is a new one."""
        left = self.cut.pop(link) - 1
        if left:
            self.cut[link] = left
        elif not silent:
            self.break_off(link)

    # ------------------------------------------------------------------------------------------------------- messages

    def send(self, port: Port, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """Queue a payload; False when there is no stream."""
        link = (port.node, to)
        stream = self.streams.get(link)
        if stream is None:
            return False
        random, weather = self._random, self.weather
        if link in self.cut or (weather.loses and random.random() < weather.loses):
            self.counts["lost"] += 1
            return True
        self._carry(link, stream, payload, kind)
        if weather.doubles and random.random() < weather.doubles:
            self._double(link, stream, payload)
        return True

    def _double(self, link: Link, stream: Stream, payload: bytes) -> None:
        """What Raft's own messages say may be said twice; the other ones count on a transport that does not."""
        raft = [message for message in wire.unpack(payload).messages if isinstance(message, RAFT)]
        for to, kind, again in wire.pack(Addressed(link[1], GroupId(1), message) for message in raft):
            assert to == link[1]
            self.counts["doubled"] += 1
            self._carry(link, stream, again, kind)

    def _carry(self, link: Link, stream: Stream, payload: bytes, kind: Kind) -> None:
        weather = self.weather
        when = self._loop.now_s + weather.least_s + self._random.random() * weather.spread_s
        when += self.slow.get(link, 0.0)
        if weather.reorders and self._random.random() < weather.reorders:
            when += self._random.random() * 4 * weather.spread_s
            self.counts["late"] += 1
        else:
            lane = (*link, kind)
            when = self._last[lane] = max(when, self._last.get(lane, 0.0) + 1e-7)
        self._loop.call_at(when, self._arrive, link, stream, payload, context=stream.listener.life.context)

    def _arrive(self, link: Link, stream: Stream, payload: bytes) -> None:
        if not stream.arrives or not stream.listener.open or link in self.cut:
            self.counts["lost"] += 1
            return
        self.counts["delivered"] += 1
        self.digest = crc32(
            payload, crc32(b"%r %s %s" % (self._loop.now_s, link[0].encode(), link[1].encode()), self.digest)
        )
        stream.listener.handlers.on_payload(link[0], stream.sender.incarnation, payload)
