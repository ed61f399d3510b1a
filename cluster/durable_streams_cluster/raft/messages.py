"""Values of the Raft core: entries, hard state, membership, and the messages between nodes.

Every message carries the term of its sender when it was made. Who sent it, to which group, in which cluster and from
which incarnation is on the envelope around it (``runtime.peers``); a message from elsewhere never gets here.
"""

from enum import IntEnum
from struct import Struct as Layout
from zlib import crc32

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import KIB
from durable_streams_cluster.raft.membership import Membership


class EntryKind(IntEnum):
    """What an entry holds. The numbers are stored; never reuse one."""

    NOOP = 1
    """A new leader's first entry: committing it commits everything before it (thesis 3.6.2)."""
    COMMANDS = 2
    MEMBERSHIP = 3
    """Who belongs to the group from this entry on (``membership``)."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the log. The core looks into the ``data`` of memberships alone.

    The checksum is made once, and checked on every hop.
    """

    term: Term
    index: Index
    kind: EntryKind
    feature_level: int
    """The features a replica must know to apply this entry."""
    cluster_ms: int
    wall_ms: int
    data: bytes
    crc: int = 0


SCANT_BYTES = 16 * KIB
"""In one message to a follower whose disk is full, at most."""


def grows(entry: Entry) -> bool:
    """Whether an entry takes room on a disk. The others are no more than what an election writes anyway."""
    return entry.kind is EntryKind.COMMANDS


class EntryId(msgspec.Struct, frozen=True, array_like=True):
    """Which entry: two logs that hold the same id are equal up to it (thesis 3.5, log matching)."""

    term: Term
    index: Index


NOTHING = EntryId(Term(0), Index(0))
"""Before the first entry of any log."""


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What must be durable before any answer that depends on it (thesis 3.3)."""

    term: Term = Term(0)
    vote: NodeId | None = None


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot holds: the state after this entry, and who were members then."""

    last: EntryId
    membership: Membership


_SEAL = Layout(">QQIBHQQ")


def entry_crc(group: int, entry: Entry) -> int:
    """CRC-32 over term, index, group, kind, feature level, stamps and data."""
    head = _SEAL.pack(entry.term, entry.index, group, entry.kind, entry.feature_level, entry.cluster_ms, entry.wall_ms)
    return crc32(entry.data, crc32(head))


class Room(IntEnum):
    """How much room there is on a member's disk, in steps that mean something to others; the lowest is the most."""

    PLENTY = 0
    ENOUGH = 1
    """One with plenty had better lead."""
    LOW = 2
    """What only takes room is refused by a leader, and if it is so at a majority."""
    NONE = 3
    """No commands are taken, or few and small ones; only what consensus needs."""


# --------------------------------------------------------------------------------------------------------- messages


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Thesis 3.4, and 9.6 when it only asks whether a vote would be given."""

    term: Term
    """The term that the candidate stands in, or would stand in."""
    last: EntryId
    """The candidate's newest entry."""
    pre: bool = False
    """Whether it only asks: nobody's term or vote changes."""
    transfer: bool = False
    """Whether the leader told it to stand: nobody's loyalty to that leader counts (thesis 4.2.3)."""


class VoteReply(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Answers a ``RequestVote``."""

    term: Term
    """The replier's."""
    asked: Term
    """The term of the request: a late answer to an older one is told by it."""
    granted: bool
    pre: bool = False


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Thesis 3.5; without entries it asks whether ``previous`` is there, and tells the commit index."""

    term: Term
    previous: EntryId
    entries: tuple[Entry, ...]
    commit: Index
    wants_answer: bool = True
    """False: it only tells the commit index, to a follower that has, or is being sent, everything before. Unless it
    lacks that it need not say so: of three messages to each follower for one append, the third costs an answer."""


class AppendReply(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Answers an ``AppendEntries``, once what it tells of is durable."""

    term: Term
    match: Index
    """The log up to here is the leader's, and durable; when rejected, the ``previous.index`` that was not found."""
    rejected: bool = False
    hint: EntryId = NOTHING
    """When rejected: the newest entry of the follower that the leader may have, too."""


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The leader is there. What it tells is known to be in the follower's log."""

    term: Term
    commit: Index
    round: int
    """The newest round of reads that waits to hear that this leader still leads (``reads``)."""
    cluster_ms: int = 0
    """The leader's cluster time: a new leader begins above it (DESIGN: Time)."""
    durable: Index = Index(0)
    """The newest entry of its own term that is durable on the leader's disk: if an older image of that is put back,
    this is how it is found out (``lives``)."""


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Answers a ``Heartbeat``; or, with round 0, an ``AppendEntries`` for whose entries there is no room."""

    term: Term
    round: int
    room: Room = Room.PLENTY
    """On the replier's disk."""


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A snapshot arrived whole, and its checksums are right; it is taken or not (thesis 5.3, without the chunks)."""

    term: Term
    meta: SnapshotMeta


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Stand for election at once (thesis 3.10)."""

    term: Term


Message = (
    RequestVote | VoteReply | AppendEntries | AppendReply | Heartbeat | HeartbeatReply | InstallSnapshot | TimeoutNow
)


class Outgoing(msgspec.Struct, frozen=True):
    """A message and who gets it."""

    to: NodeId
    message: Message
