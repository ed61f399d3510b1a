"""Links between nodes, one each way: they delay, and what else a seed lets them do."""

import typing
from collections.abc import Callable
from random import Random
from zlib import crc32

from durable_streams_cluster.ids import GroupId, NodeId
from durable_streams_cluster.raft import Message
from durable_streams_cluster.replica.exchange import Addressed
from durable_streams_cluster.runtime import wire
from durable_streams_cluster.runtime.outbox import Kind
from tests.sim.loop import VirtualLoop, context_of

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


class Port:
    """One life's end of the network: its ``Transport``."""

    def __init__(self, network: "Network", node: NodeId, deliver: Callable[[NodeId, bytes], None]) -> None:
        self.network, self.node, self.deliver = network, node, deliver
        self.open = True
        self.lost: Callable[[NodeId], None]
        self.context = context_of(None)

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        return self.network.send(self, to, payload, kind)


class Network:
    """All links."""

    def __init__(self, loop: VirtualLoop, random: Random, weather: Weather, nodes: tuple[NodeId, ...]) -> None:
        self._loop, self._random, self.weather = loop, random, weather
        self._nodes = nodes
        self._outside = context_of(None)
        self.ports: dict[NodeId, Port] = {}
        self.cut: dict[Link, int] = {}
        """Links through which nothing comes, and how many faults want that."""
        self.slow: dict[Link, float] = {}
        """What more a link delays, seconds."""
        self._broken: dict[Link, Port] = {}
        """Connections that were given up, until somebody dials again."""
        self._last: dict[tuple[NodeId, NodeId, Kind], float] = {}
        self._epoch: dict[Link, int] = {}
        """Counts the connections of a link."""
        self.digest = 0
        self.counts = {"delivered": 0, "lost": 0, "doubled": 0, "late": 0}

    # ------------------------------------------------------------------------------------------------------ processes

    def join(self, port: Port) -> None:
        """A process listens; the others find it within a moment."""
        self.ports[port.node] = port
        for other in self._nodes:
            if other != port.node:
                self._dial((port.node, other))
                self._dial((other, port.node))

    def leave(self, node: NodeId) -> None:
        """A process is gone, and its connections with it; what it sent last may yet arrive."""
        port = self.ports.pop(node)
        port.open = False
        for other in self._nodes:
            if other != node:
                self.break_off((other, node))
                if self._random.random() < 0.5:
                    self._epoch[(node, other)] = self._epoch.get((node, other), 0) + 1

    # ---------------------------------------------------------------------------------------------------------- faults

    def break_off(self, link: Link, after_s: float = 0.001) -> None:
        """The connection ends; what was under way on it is lost, and its sender told."""
        port = self.ports.get(link[0])
        if port is not None and link not in self._broken:
            self._broken[link] = port
            self._epoch[link] = self._epoch.get(link, 0) + 1
            self._tell(port, port.lost, link[1], after_s)
            self._dial(link)

    def _dial(self, link: Link) -> None:
        self._loop.call_later(self._random.uniform(0.02, 0.5), self._dialed, link, context=self._outside)

    def _dialed(self, link: Link) -> None:
        port, there = self.ports.get(link[0]), self.ports.get(link[1])
        if port is None:
            self._broken.pop(link, None)
        elif there is None or link in self.cut or (link[1], link[0]) in self.cut:
            self._broken[link] = port
            self._dial(link)
        else:
            self._broken.pop(link, None)
            self._tell(port, port.lost, link[1], 0.0)

    def _tell(self, port: Port, what: Callable[[NodeId], None], node: NodeId, after_s: float) -> None:
        def tell() -> None:
            if port.open:
                what(node)

        self._loop.call_later(after_s, tell, context=port.context)

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
        """One fault less wants it cut. What did not come is lost, so unless ``silent`` the connection is a new one."""
        left = self.cut.pop(link) - 1
        if left:
            self.cut[link] = left
        elif not silent:
            self.break_off(link)

    # ------------------------------------------------------------------------------------------------------- messages

    def send(self, port: Port, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """Queue a payload; False when there is no connection."""
        link = (port.node, to)
        if link in self._broken:
            return False
        there = self.ports.get(to)
        random, weather = self._random, self.weather
        if there is None or link in self.cut or (weather.loses and random.random() < weather.loses):
            self.counts["lost"] += 1
            return True
        self._carry(link, there, payload, kind)
        if weather.doubles and random.random() < weather.doubles:
            self._double(link, there, payload)
        return True

    def _double(self, link: Link, there: Port, payload: bytes) -> None:
        """What Raft's own messages say may be said twice; the other ones count on a transport that does not."""
        raft = [message for message in wire.unpack(payload).messages if isinstance(message, RAFT)]
        for to, kind, again in wire.pack(Addressed(link[1], GroupId(1), message) for message in raft):
            assert to == link[1]
            self.counts["doubled"] += 1
            self._carry(link, there, again, kind)

    def _carry(self, link: Link, there: Port, payload: bytes, kind: Kind) -> None:
        weather = self.weather
        when = self._loop.now_s + weather.least_s + self._random.random() * weather.spread_s
        when += self.slow.get(link, 0.0)
        if weather.reorders and self._random.random() < weather.reorders:
            when += self._random.random() * 4 * weather.spread_s
            self.counts["late"] += 1
        else:
            lane = (*link, kind)
            when = self._last[lane] = max(when, self._last.get(lane, 0.0) + 1e-7)
        epoch = self._epoch.get(link, 0)
        self._loop.call_at(when, self._arrive, link, there, payload, epoch, context=there.context)

    def _arrive(self, link: Link, there: Port, payload: bytes, epoch: int) -> None:
        if not there.open or link in self.cut or epoch != self._epoch.get(link, 0):
            self.counts["lost"] += 1
            return
        self.counts["delivered"] += 1
        self.digest = crc32(
            payload, crc32(b"%r %s %s" % (self._loop.now_s, link[0].encode(), link[1].encode()), self.digest)
        )
        there.deliver(link[0], payload)
