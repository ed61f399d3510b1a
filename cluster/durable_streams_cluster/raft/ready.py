"""What the core wants done, as a value: the order of durability is data, so a test can see it."""

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft.membership import Membership
from durable_streams_cluster.raft.messages import Entry, HardState, Outgoing, SnapshotMeta


class BecameLeader(msgspec.Struct, frozen=True):
    """This node leads from ``term`` on."""

    node: NodeId
    term: Term


class LeaderChanged(msgspec.Struct, frozen=True):
    """Another node leads, or nobody that is known."""

    leader: NodeId | None
    term: Term


class SteppedDown(msgspec.Struct, frozen=True):
    """This node led in ``term``, and does not any more."""

    term: Term
    reason: str


class Truncated(msgspec.Struct, frozen=True):
    """Entries from ``index`` on were never committed, and another leader's took their place."""

    index: Index


class SnapshotNeeded(msgspec.Struct, frozen=True):
    """``node`` lacks entries that the log has no more; ``RaftCore.snapshot_sent`` tells how sending one ended."""

    node: NodeId


class MembershipChanged(msgspec.Struct, frozen=True):
    """This is in force from now on: an entry with it came into the log, or went."""

    membership: Membership

    def __str__(self) -> str:
        learners = f", and {', '.join(self.membership.learners)} learning" if self.membership.learners else ""
        return f"members are {', '.join(self.membership.voters)}{learners}"


Event = BecameLeader | LeaderChanged | SteppedDown | Truncated | SnapshotNeeded | MembershipChanged


class Ready(msgspec.Struct, frozen=True):
    """One hand-over.

    What the caller owes, in this order:

    1. Put ``hard_state``, ``snapshot`` and ``entries`` into one write batch, in this order. A snapshot replaces the
       state and the whole log. The first of the entries may have an index that is in the log already: it and all
       behind it are replaced, though the entries may be fewer.
    2. Send ``send_now`` at any time: a leader's entries race its own disk (thesis 10.2.1).
    3. Once that batch is durable, call ``RaftCore.persisted(number)``, and only then send ``send_once_durable``.
    4. Apply ``committed`` in order, then call ``RaftCore.applied(index)``.
    5. Answer ``reads`` when everything up to their index is applied and visible; ``failed_reads`` have no answer here.

    A second ``ready()`` before ``persisted`` is fine: writes are pipelined, and "number n is durable" means that all
    up to n are. The number names the hand-over, not an entry: an entry's (term, index) can be overwritten and restored
    while an older write is still under way, and its completion would then be taken for the newer one's (ABA).
    """

    number: int
    hard_state: HardState | None = None
    snapshot: SnapshotMeta | None = None
    entries: tuple[Entry, ...] = ()
    send_now: tuple[Outgoing, ...] = ()
    send_once_durable: tuple[Outgoing, ...] = ()
    committed: tuple[Entry, ...] = ()
    committed_index: Index = Index(0)
    reads: tuple[tuple[object, Index], ...] = ()
    failed_reads: tuple[object, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def must_sync(self) -> bool:
        """Whether something is put into the batch that must be durable."""
        return self.hard_state is not None or self.snapshot is not None or bool(self.entries)
