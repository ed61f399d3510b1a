"""The Raft core: a machine without clock, disk or network (thesis chapter 3).

This build runs groups of one voter: an election is one durable vote for oneself, and an entry commits when this node's
own disk holds it. What is here stays as it is when groups grow: messages between nodes then come in by ``step`` and
leave with ``Ready``.
"""

from enum import Enum

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import quorum
from durable_streams_cluster.raft.log import LogReader, RaftLog
from durable_streams_cluster.raft.messages import Entry, EntryId, EntryKind, HardState, Membership, entry_crc
from durable_streams_cluster.raft.ready import BecameLeader, Ready

FEATURE_LEVEL = 2
"""What this build may write into the log. 2: Trim, If-Match and what a prefix gives; an older build stops there."""


class Role(Enum):
    """Thesis 3.3."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class RaftCore:
    """One group's consensus on this node.

    The loop: ``tick`` or ``propose``; then ``ready()`` and what it asks for (see ``Ready``); ``persisted`` when its
    batch is durable; ``applied`` when its committed entries are.
    """

    def __init__(
        self,
        group: GroupId,
        node: NodeId,
        membership: Membership,
        hard_state: HardState,
        reader: LogReader,
        applied: Index,
    ) -> None:
        assert membership.voters == (node,), "this build runs groups of one voter"
        self._group = group
        self._node = node
        self._membership = membership
        self._hard_state = hard_state
        self._hard_state_handed = hard_state
        self.log = RaftLog(reader, applied)
        self.role = Role.FOLLOWER
        self._number = 0
        self._outstanding: dict[int, tuple[Index, HardState]] = {}
        self._durable_vote = hard_state
        self._first_of_term: Index | None = None
        self._events: list[BecameLeader] = []

    @property
    def term(self) -> Term:
        """The current term."""
        return self._hard_state.term

    @property
    def can_read(self) -> bool:
        """Whether a leader's state answers linearizable reads: it leads, and an entry of its own term is applied.

        Before that it may not know yet what its predecessors committed (thesis 6.4).
        """
        return self.role is Role.LEADER and self._first_of_term is not None and self.log.applied >= self._first_of_term

    def tick(self) -> None:
        """Time passed without a leader: stand for election. A group of one asks nobody and waits for nothing."""
        if self.role is Role.FOLLOWER:
            self._hard_state = HardState(term=Term(self.term + 1), vote=self._node)
            self.role = Role.CANDIDATE

    def propose(self, kind: EntryKind, data: bytes, cluster_ms: int, wall_ms: int) -> EntryId:
        """Append an entry of this leader's term; it is committed once ``Ready.committed`` holds it."""
        assert self.role is Role.LEADER, "only a leader proposes"
        bare = Entry(self.term, Index(self.log.last + 1), kind, FEATURE_LEVEL, cluster_ms, wall_ms, data)
        entry = Entry(
            bare.term, bare.index, kind, FEATURE_LEVEL, cluster_ms, wall_ms, data, entry_crc(self._group, bare)
        )
        self.log.append(entry)
        return EntryId(entry.term, entry.index)

    def ready(self) -> Ready | None:
        """What must be done now, or None."""
        hard_state = self._hard_state if self._hard_state != self._hard_state_handed else None
        entries = self.log.hand_out()
        committed = self.log.hand_out_committed()
        events, self._events = tuple(self._events), []
        if hard_state is None and not entries and not committed and not events:
            return None
        if hard_state is not None or entries:
            self._number += 1
            self._hard_state_handed = self._hard_state
            self._outstanding[self._number] = (self.log.handed, self._hard_state)
        return Ready(self._number, hard_state, entries, committed, self.log.committed, events)

    def persisted(self, number: int) -> None:
        """Every hand-over up to ``number`` is durable."""
        for done in [each for each in self._outstanding if each <= number]:
            index, self._durable_vote = self._outstanding.pop(done)
            self.log.durable = max(self.log.durable, index)
        if self.role is Role.CANDIDATE and self._durable_vote == self._hard_state:
            self._count_votes()
        if self.role is Role.LEADER:
            self._advance_commit()

    def applied(self, index: Index) -> None:
        """The caller's state holds everything up to ``index``."""
        self.log.mark_applied(index)

    def _count_votes(self) -> None:
        # The vote for oneself counts once it is durable: a node that crashed between voting and writing could
        # otherwise vote for another in the same term.
        if quorum.won([self._node], self._membership.voters):
            self.role = Role.LEADER
            self._first_of_term = Index(self.log.last + 1)
            self._events.append(BecameLeader(self._node, self.term))

    def _advance_commit(self) -> None:
        # Only an entry of the own term commits by counting (thesis 3.6.2, figure 3.7); older ones commit with it.
        # A leader counts itself only for what its own disk holds.
        index = quorum.committed_index({self._node: self.log.durable}, self._membership.voters)
        if index > self.log.committed and self.log.term_at(index) == self.term:
            self.log.committed = index
