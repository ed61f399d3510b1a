"""What the core wants done, as a value: the order of durability is data, so a test can see it."""

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft.messages import Entry, HardState


class BecameLeader(msgspec.Struct, frozen=True):
    """This node leads from ``term`` on."""

    node: NodeId
    term: Term


class Ready(msgspec.Struct, frozen=True):
    """One hand-over.

    What the caller owes, in this order:

    1. Put ``hard_state`` and ``entries`` into one write batch.
    2. Once that batch is durable, call ``RaftCore.persisted(number)``.
    3. Apply ``committed`` in order, then call ``RaftCore.applied(index)``.

    A second ``ready()`` before ``persisted`` is fine: writes are pipelined, and "number n is durable" means that all
    up to n are. The number names the hand-over, not an entry: an entry's (term, index) can be overwritten and restored
    while an older write is still under way, and its completion would then be taken for the newer one's (ABA).
    """

    number: int
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    committed: tuple[Entry, ...] = ()
    committed_index: Index = Index(0)
    events: tuple[BecameLeader, ...] = ()
