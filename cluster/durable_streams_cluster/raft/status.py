"""What a core tells of itself, for people and for ``invariants``."""

import msgspec

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft.messages import EntryId, HardState, Room
from durable_streams_cluster.raft.progress import State
from durable_streams_cluster.raft.state import Role


class Follower(msgspec.Struct, frozen=True):
    """What a leader knows of one member."""

    match: Index
    next: Index
    state: State
    active: bool
    """Whether it was heard from since the last count of the quorum but one, or there was none since it is asked."""
    quiet_ticks: int
    """Since it was heard from; very many if it never was, in this term of this leader."""
    room: Room = Room.PLENTY
    """On its disk."""


class Status(msgspec.Struct, frozen=True):
    """A core as it is now, for people and for ``invariants``."""

    role: Role
    hard_state: HardState
    leader: NodeId | None
    last: EntryId
    durable: Index
    committed: Index
    applied: Index
    transferee: NodeId | None
    followers: dict[NodeId, Follower]
