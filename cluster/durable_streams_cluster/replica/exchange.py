"""What replicas of a group tell each other beside Raft's own messages: writes and reads for the leader, and answers."""

from enum import IntEnum

import msgspec

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import AppendReply, EntryId, HeartbeatReply, Message, VoteReply
from durable_streams_cluster.replica.divergence import Hashed
from durable_streams_cluster.storage.codecs import Proposal
from durable_streams_cluster.storage.export import Pair


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Commands for the leader, in the order of their sequence numbers. What became of them is in the log."""

    proposals: tuple[Proposal, ...]


class Reason(IntEnum):
    """Why a command was not proposed; it is certainly not in the log for this sending of it."""

    NOT_LEADER = 1
    OVERLOADED = 2
    FULL = 3


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Sequence numbers of forwarded commands that were not proposed."""

    reason: Reason
    sequences: tuple[int, ...]


class AskRead(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """Asks from which index on a read is linearizable."""

    number: int
    """Names the question; of the asker's."""
    renewed: tuple[str, ...] = ()
    """Streams read that have a sliding window: the leader ends those whose time is up, and renews the others."""
    seen: tuple[str, ...] = ()
    """Streams that are looked at, and have a deadline: the leader ends those whose time is up."""


class ReadAnswer(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Answers an ``AskRead``; without an index: not a leader, or not any more."""

    number: int
    index: Index | None


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """A piece of the sender's state, for a follower that lacks what the log has no more (thesis 5.3)."""

    term: Term
    attempt: int
    """Of this sender in this term: grows with each time it begins anew."""
    number: int
    """0 is the first of the attempt; each is taken only behind the one before."""
    last: EntryId
    """The state is the one after this entry."""
    pairs: tuple[Pair, ...]
    crc: int
    """``export.pairs_crc`` of ``pairs``."""
    final: bool = False


class ChunkTaken(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """Answers a chunk once it is written; the final one once the snapshot is installed, or is not needed.

    Number -1: nothing is there of this attempt, and it has to begin anew.
    """

    attempt: int
    number: int


class StateHash(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """What the commands of some entries did at the leader (``divergence``)."""

    build: str
    """Another one may encode it in another way: then it is not compared."""
    hashed: Hashed


PeerMessage = Message | Forward | Refused | AskRead | ReadAnswer | SnapshotChunk | ChunkTaken | StateHash


PROMISES = (VoteReply, AppendReply, HeartbeatReply, ChunkTaken, Forward, AskRead)
"""What counts by who says it: that something is durable there, or that it follows."""


class Addressed(msgspec.Struct, frozen=True):
    """A message, and who gets it."""

    to: NodeId
    group: GroupId
    message: PeerMessage
