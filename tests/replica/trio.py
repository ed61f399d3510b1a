"""Three replicas that hear each other at once, but for whom a test cuts off."""

from collections.abc import Callable

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.exchange import PeerMessage
from durable_streams_cluster.replica.members import Result, Wish
from durable_streams_cluster.runtime import wire
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.streams.commands import Command
from durable_streams_cluster.streams.outcomes import Outcome
from tests.replica.node import Node

NAMES = ("n1", "n2", "n3")


class Trio:
    """Each round: every node takes a turn, what it sends arrives, and its disk syncs."""

    def __init__(self) -> None:
        self.nodes = {name: self._node(name) for name in NAMES}
        self.cut: set[str] = set()
        self.passes: Callable[[str, str, PeerMessage], bool] = lambda sender, to, message: True
        self.happened: list[tuple[str, object]] = []

    def _node(self, name: str, batches: list[WriteBatch] | None = None) -> Node:
        return Node(batches, name=name, voters=NAMES if name in NAMES else ())

    def join(self, name: str) -> None:
        """An empty node starts; nobody knows it."""
        self.nodes[name] = self._node(name)

    def change(self, wish: Wish, at: str | None = None) -> Result:
        """What becomes of a change of the membership, once nothing moves."""
        token = self.ask(wish, at)
        self.settle()
        return self.nodes[at].changes[token] if at is not None else self.leader.changes[token]

    def ask(self, wish: Wish, at: str | None = None) -> object:
        """Ask for a change; its token."""
        token = object()
        (self.leader if at is None else self.nodes[at]).replica.group.change(wish, token)
        return token

    def restart(self, name: str) -> None:
        """It is killed, and its power was cut: what was not synced is gone."""
        node = self.nodes[name]
        self.nodes[name] = self._node(name, node.batches[: node.synced])

    @property
    def leader(self) -> Node:
        """Who leads and is heard."""
        (leader,) = (node for name, node in self.nodes.items() if node.replica.group.can_read and name not in self.cut)
        return leader

    def round(self) -> bool:
        """Whether anything was done."""
        busy = False
        for name, node in self.nodes.items():
            effects = node.turn()
            self.happened += [(name, event) for event in effects.events]
            busy = busy or effects.more or bool(effects.batch or effects.outbox)
            self._send(name, effects)
            while node.unsynced:
                node.sync()
        return busy

    def _send(self, sender: str, effects: Effects) -> None:
        effects.outbox = [each for each in effects.outbox if self.passes(sender, each.to, each.message)]
        for to, _, payload in wire.pack(effects.outbox):
            if not self.cut & {sender, to} and to in self.nodes:
                self.nodes[to].replica.deliver(NodeId(sender), wire.unpack(payload).messages)

    def settle(self) -> None:
        """Rounds until nothing happens."""
        for _ in range(10_000):
            if not self.round():
                return
        raise AssertionError("it never ends")

    def tick(self, count: int = 1) -> None:
        """Time passes for all, and what follows from it."""
        for _ in range(count):
            for node in self.nodes.values():
                node.steady_ms += 50
                node.replica.tick()
            self.settle()

    def boot(self) -> "Trio":
        self.tick(60)
        assert self.leader
        return self

    def done(self, command: Command, at: str | None = None) -> Outcome:
        node = self.leader if at is None else self.nodes[at]
        token = object()
        node.propose(command, token)
        self.settle()
        return node.answers[token]

    def saw(self, kind: type) -> list[str]:
        """At which nodes an event happened."""
        return [name for name, event in self.happened if isinstance(event, kind)]
