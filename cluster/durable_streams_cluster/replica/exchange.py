"""What replicas of a group tell each other beside Raft's own messages: writes and reads for the leader, and answers."""

from enum import IntEnum

import msgspec

from durable_streams_cluster.ids import GroupId, Index, NodeId
from durable_streams_cluster.raft import Message
from durable_streams_cluster.storage.codecs import Proposal


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


PeerMessage = Message | Forward | Refused | AskRead | ReadAnswer


class Addressed(msgspec.Struct, frozen=True):
    """A message, and who gets it."""

    to: NodeId
    group: GroupId
    message: PeerMessage
