"""One node's groups as one machine. No await, no clock, no disk: ``turn`` takes the time and returns ``Effects``."""

from collections.abc import Callable

from durable_streams_cluster.ids import GroupId, NodeId
from durable_streams_cluster.raft import Settings
from durable_streams_cluster.replica.barriers import Barrier
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.exchange import PeerMessage
from durable_streams_cluster.replica.group import Group, Place
from durable_streams_cluster.storage.kv import KvView, WriteBatch
from durable_streams_cluster.streams.commands import Command

ONLY_GROUP = GroupId(1)
"""Every slot is on this group until placement moves some (DESIGN: Partitions)."""


class Replica:
    """The groups of this node; today one."""

    def __init__(
        self,
        place: Place,
        kv: KvView,
        now: Now,
        *,
        random: Callable[[int], int],
        settings: Settings | None = None,
    ) -> None:
        self.group = Group(ONLY_GROUP, place, kv, now, random=random, settings=settings)

    def tick(self) -> None:
        """Time passed: elections, heartbeats."""
        self.group.tick()

    def deliver(self, sender: NodeId, messages: list[PeerMessage]) -> None:
        """Messages came from another node."""
        for message in messages:
            self.group.deliver(sender, message)

    def lost(self, peer: NodeId) -> bool:
        """What was sent to ``peer`` may be lost; whether it was being handed over to."""
        return self.group.lost(peer)

    def read(self, barrier: Barrier) -> None:
        """Queue a read; ``written`` gives its token back when it may look."""
        self.group.read(barrier)

    def answer_read(self, sender: NodeId, number: int) -> None:
        """What an ``Effects.asked`` asked for is done."""
        self.group.answer_read(sender, number)

    def propose(self, command: Command, token: object, steady_ms: int) -> None:
        """Queue a command; ``token`` comes back with its outcome."""
        self.group.propose(command, token, steady_ms)

    def stamp(self, now: Now, *, counts: bool = False) -> bool:
        """Ask for an entry that only keeps the time; False when neither ``counts`` nor a stream counts on it."""
        return self.group.stamp(now, counts=counts)

    def give_up(self, before_ms: int) -> tuple[list[object], list[object]]:
        """Forget who has waited too long: ``(withdrawn, unknown)``, see ``Group.give_up``."""
        return self.group.give_up(before_ms)

    def durable(self, ticket: int) -> None:
        """Everything handed over up to ``ticket`` is durable."""
        self.group.durable(ticket)

    @property
    def holds(self) -> bool:
        """Whether a turn would leave what is proposed now to a later one: see ``Lead.holds``."""
        return self.group.lead.holds

    def turn(self, now: Now, *, syncing: bool = False) -> Effects:
        """Do everything that follows from what was noted since the last turn; ``syncing``: a sync is under way."""
        effects = Effects(WriteBatch())
        self.group.turn(effects, now, syncing=syncing)
        return effects

    def urgent(self) -> Effects:
        """In place of a turn while the store takes no write: only what must not wait, and nothing to be written."""
        effects = Effects(WriteBatch())
        self.group.urgent(effects)
        return effects

    def written(self) -> list[object]:
        """The turn's batch is in the store: readers may see it. Tokens of the reads that may look now."""
        return self.group.written()
