"""How a cluster begins exactly once, from the names that each of its first members was given (DESIGN: Identity).

An empty directory may be one that was wiped: what it promised is forgotten, and if it voted again, an acknowledged
append could be lost. So nobody votes before all have said that they are empty, too, each has put on record which
directories (``incarnation``) that were, and each has said so. Then the cluster is begun. Whoever comes later under a
name of the record with another directory is told that there is a cluster, and may join it like anybody else.

Why two steps: if each began as soon as it has heard all others, n1 and n2 could begin and acknowledge something, n2 be
wiped, and its new directory and n3, which both heard n1 when it had not begun, begin another cluster without it. With
the record on every disk first, n1 begins only after n3 has it, and n3 waits for a record of n1 that never comes.
"""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member


class Said(msgspec.Struct, frozen=True):
    """What a node says of itself to whoever asks."""

    node: NodeId
    incarnation: int
    cluster: str = ""
    """Which it belongs to; empty: to none yet."""
    record: tuple[Member, ...] = ()
    """The first members, as it has put them on record; none of one that joined later, or that is empty."""
    begun: bool = False
    """Whether it knows that all of them have this record: it takes part, or did."""
    initial: tuple[tuple[NodeId, str], ...] = ()
    """The names and addresses that it was given."""
    members: tuple[Member, ...] = ()
    """Who belongs to its cluster, said to one that was taken into it and may not know yet."""


class Wait(msgspec.Struct, frozen=True):
    """Ask again; ``whom`` is missing."""

    whom: tuple[NodeId, ...]


class Record(msgspec.Struct, frozen=True):
    """Put this on record, durably, before anything else is said."""

    members: tuple[Member, ...]


class Begin(msgspec.Struct, frozen=True):
    """All have the record: note that, durably, and take part."""


class JoinInstead(msgspec.Struct, frozen=True):
    """There is a cluster already, and this directory is not part of it."""

    cluster: str
    by: NodeId
    """Who said so."""


class Disagree(msgspec.Struct, frozen=True):
    """This cannot come to an end. The text is for people, and says what to do."""

    text: str


Step = Wait | Record | Begin | JoinInstead | Disagree


def cluster_of(record: tuple[Member, ...]) -> str:
    """The name of the cluster that is begun with this record: no other one has it."""
    text = "\n".join(f"{each.node} {each.incarnation}" for each in record)
    return "c-" + blake2b(text.encode(), digest_size=8).hexdigest()


class Bootstrap:
    """One first member's part, until it is over."""

    def __init__(self, own: Member, initial: Mapping[NodeId, str], record: tuple[Member, ...] = ()) -> None:
        """``initial``: the peer listener of each first member; ``record``: what is on this disk's record."""
        assert own.node in initial
        self._own = own
        self._initial = dict(sorted(initial.items()))
        self._record = record
        self._heard: dict[NodeId, Said] = {}

    @property
    def said(self) -> Said:
        """What to tell the others."""
        cluster = cluster_of(self._record) if self._record else ""
        initial = tuple(self._initial.items())
        return Said(self._own.node, self._own.incarnation, cluster, self._record, begun=False, initial=initial)

    @property
    def others(self) -> dict[NodeId, str]:
        """Whom to ask, and where."""
        return {node: address for node, address in self._initial.items() if node != self._own.node}

    def hear(self, said: Said) -> bool:
        """Another member says this of itself; whether that is news."""
        if said.node not in self.others or self._heard.get(said.node) == said:
            return False
        self._heard[said.node] = said
        return True

    def recorded(self, members: tuple[Member, ...]) -> None:
        """What ``Record`` asked for is durable."""
        self._record = members

    def step(self) -> Step:
        """What to do now."""
        for said in self._heard.values():
            if said.begun:
                return self._late(said)
        for said in self._heard.values():
            if said.initial and said.initial != tuple(self._initial.items()):
                return Disagree(
                    f"{said.node} was given other members ({_listed(said.initial)}) than this node "
                    f"({_listed(tuple(self._initial.items()))}). Next step: give all the same --initial-cluster"
                )
        missing = tuple(node for node in self.others if node not in self._heard)
        if missing:
            return Wait(missing)
        everyone = {self._own.node: self._own.incarnation, **{s.node: s.incarnation for s in self._heard.values()}}
        record = tuple(Member(node, everyone[node], address) for node, address in self._initial.items())
        if len({each.incarnation for each in record}) < len(record):
            return Disagree("two members have the same data directory, or a copy of it. Next step: empty one of them")
        if record != self._record:
            return Record(record)
        waiting = tuple(said.node for said in self._heard.values() if said.record != record)
        return Wait(waiting) if waiting else Begin()

    def _late(self, said: Said) -> Step:
        """Another member has begun. It did so only after each of its record had it, so this one did, if it is of it."""
        if not any(each.node == self._own.node and each.incarnation == self._own.incarnation for each in said.record):
            return JoinInstead(said.cluster, said.node)
        # It may have put another one on record since, with a member that was wiped in between: none has begun with it.
        return Begin() if said.record == self._record else Record(said.record)


def _listed(initial: tuple[tuple[NodeId, str], ...]) -> str:
    return ", ".join(f"{node}={address}" for node, address in initial)
