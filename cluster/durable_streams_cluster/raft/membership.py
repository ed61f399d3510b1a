"""Who belongs to a group, and the steps from one membership to the next (thesis chapter 4).

One voter is added or removed at a time, so that any majority before a step and any after it share a member; joint
consensus is not supported. A learner is sent everything and counts for nothing. A membership is in force from the
moment that its entry is in a log, committed or not, and goes again if the entry is truncated (thesis 4.1).
"""

from enum import Enum
from typing import NamedTuple

import msgspec

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.limits import MAX_MEMBERS

REMEMBERED = 64
"""Members that were removed, by their incarnation: they are told so when they come back."""
_FORMAT = 1


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One replica, as all members know it."""

    node: NodeId
    incarnation: int = 0
    """Of its data directory. A directory that was wiped has another one: it is not this member."""
    address: str = ""
    """``HOST:PORT`` of its peer listener."""
    voter: bool = True
    rises: bool = False
    """A learner that becomes a voter as soon as it has caught up."""


class ReplicaId(NamedTuple):
    """Who a replica is: a name, and the number of its data directory (DESIGN: Identity)."""

    node: NodeId
    incarnation: int = 0
    """As of ``Member``; a member of the same name with another one is not this replica."""


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """Who is sent the log, and who of them counts for a quorum.

    Invariants: members are in the order of their names, which differ; no member's incarnation is among ``removed``.
    """

    members: tuple[Member, ...] = ()
    removed: tuple[int, ...] = ()
    """Incarnations of former members, the newest last."""

    @classmethod
    def of(cls, *voters: str) -> "Membership":
        """These voters, of whom nothing else is known."""
        return cls(tuple(Member(NodeId(name)) for name in sorted(voters)))

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """All members."""
        return tuple(each.node for each in self.members)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Who counts."""
        return tuple(each.node for each in self.members if each.voter)

    @property
    def learners(self) -> tuple[NodeId, ...]:
        """Who does not."""
        return tuple(each.node for each in self.members if not each.voter)

    def member(self, node: NodeId) -> Member | None:
        """The member of this name."""
        return next((each for each in self.members if each.node == node), None)

    def _with(self, member: Member) -> "Membership":
        others = [each for each in self.members if each.node != member.node]
        return Membership(tuple(sorted([*others, member], key=lambda each: each.node)), self.removed)


# ------------------------------------------------------------------------------------------------------------ changes


class AddLearner(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Send everything to a new member."""

    member: Member


class Promote(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Let a learner count."""

    node: NodeId


class Remove(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Let a member count no more, and send it nothing."""

    node: NodeId


class Readdress(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A member listens elsewhere."""

    node: NodeId
    address: str


Change = AddLearner | Promote | Remove | Readdress


class Objection(Enum):
    """Why a membership is not changed now. The values are for people."""

    NOT_LEADER = "this node does not lead"
    NEW_TERM = "the leader is new, and its term has no committed entry yet"
    IN_FLIGHT = "another change is under way"
    TRANSFER = "leadership is being handed over"
    NOTHING = "it is so already"
    NAME = "another member has this name"
    REMOVED = "this data directory was a member, and was removed: an empty one may join"
    COPY = "another member has this data directory: it was copied, and an empty one may join"
    FULL = f"there are {MAX_MEMBERS} members, and no more are supported"
    UNKNOWN = "no member has this name"
    LAST = "it is the last voter"
    BEHIND = "it has not caught up"
    QUORUM = "too few of the voters are heard from for that"


def changed(now: Membership, change: Change) -> Membership | Objection:
    """The membership that follows from ``now``, or why there is none."""
    match change:
        case AddLearner(member):
            known = now.member(member.node)
            if known is not None:
                return Objection.NOTHING if known.incarnation == member.incarnation else Objection.NAME
            if member.incarnation and member.incarnation in now.removed:
                return Objection.REMOVED
            if member.incarnation and any(each.incarnation == member.incarnation for each in now.members):
                return Objection.COPY
            if len(now.members) >= MAX_MEMBERS:
                return Objection.FULL
            return now._with(msgspec.structs.replace(member, voter=False))
        case Promote(node):
            known = now.member(node)
            if known is None or known.voter:
                return Objection.UNKNOWN if known is None else Objection.NOTHING
            return now._with(msgspec.structs.replace(known, voter=True, rises=False))
        case Remove(node):
            known = now.member(node)
            if known is None or now.voters == (node,):
                return Objection.UNKNOWN if known is None else Objection.LAST
            removed = (*now.removed, known.incarnation) if known.incarnation else now.removed
            left = tuple(each for each in now.members if each.node != node)
            return Membership(left, removed[-REMEMBERED:])
        case Readdress(node, address):
            known = now.member(node)
            if known is None or known.address == address:
                return Objection.UNKNOWN if known is None else Objection.NOTHING
            return now._with(msgspec.structs.replace(known, address=address))


def voters_apart(one: Membership, other: Membership) -> int:
    """How many voters one of the two has and the other has not."""
    return len(set(one.voters) ^ set(other.voters))


# ---------------------------------------------------------------------------------------------------- in the log

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, Membership])


def encode(membership: Membership) -> bytes:
    """What an entry holds."""
    return _encoder.encode((_FORMAT, membership))


def decode(data: bytes) -> Membership:
    """See :func:`encode`; raises ValueError (``msgspec.DecodeError`` is one) for what this build does not know."""
    format_, membership = _decoder.decode(data)
    if format_ != _FORMAT:
        raise ValueError(f"a membership of format {format_}, this build knows {_FORMAT}")
    return membership


class Memberships:
    """Which membership holds at which entry of a log: the applied one, and those behind it."""

    def __init__(self, base: Membership) -> None:
        self._base = base
        self._later: list[tuple[Index, Membership]] = []

    @property
    def newest(self) -> Membership:
        """What is in force."""
        return self._later[-1][1] if self._later else self._base

    @property
    def newest_index(self) -> Index:
        """The entry that brought it; 0: one that is applied."""
        return self._later[-1][0] if self._later else Index(0)

    @property
    def applied(self) -> Membership:
        """As of the last entry that is applied."""
        return self._base

    def append(self, index: Index, membership: Membership) -> None:
        """The log has an entry with a membership."""
        assert index > self.newest_index
        self._later.append((index, membership))

    def truncate(self, index: Index) -> None:
        """The entries from ``index`` on are gone."""
        while self._later and self._later[-1][0] >= index:
            self._later.pop()

    def mark_applied(self, index: Index) -> None:
        """Everything up to ``index`` is in the state."""
        while self._later and self._later[0][0] <= index:
            self._base = self._later.pop(0)[1]

    def restore(self, membership: Membership) -> None:
        """A snapshot brought this one, and the log is empty."""
        self._base = membership
        self._later.clear()

    def at(self, index: Index) -> Membership:
        """As of an entry that is not older than the applied state."""
        found = self._base
        for place, membership in self._later:
            if place <= index:
                found = membership
        return found
