"""One node's groups as one machine. No await, no clock, no disk: ``turn`` takes the time and returns ``Effects``."""

from durable_streams_cluster.ids import GroupId, NodeId
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.group import Group, Now
from durable_streams_cluster.storage.kv import KvView, WriteBatch
from durable_streams_cluster.streams.commands import Command

ONLY_GROUP = GroupId(1)
"""Every slot is on this group until placement moves some (DESIGN: Partitions)."""


class Replica:
    """The groups of this node; today one."""

    def __init__(self, node: NodeId, kv: KvView, now: Now) -> None:
        self.group = Group(ONLY_GROUP, node, kv, now)

    def tick(self) -> None:
        """Time passed: elections."""
        self.group.core.tick()

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
        self.group.core.persisted(ticket)

    def turn(self, now: Now) -> Effects:
        """Do everything that follows from what was noted since the last turn."""
        effects = Effects(WriteBatch(), completions=[], wakes=[], events=[])
        self.group.turn(effects, now)
        return effects

    def written(self) -> None:
        """The turn's batch is in the store: readers may see it."""
        self.group.written()
