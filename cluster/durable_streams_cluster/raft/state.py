"""What one member of a group knows, and the changes of role that more than one role makes."""

from collections.abc import Callable, Iterable
from enum import Enum

import msgspec

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.limits import MAX_ENTRY_BYTES, MIB
from durable_streams_cluster.raft.log import RaftLog
from durable_streams_cluster.raft.membership import Membership, Memberships, ReplicaId, decode
from durable_streams_cluster.raft.messages import Entry, EntryKind, HardState, Message, Outgoing, Room
from durable_streams_cluster.raft.progress import Progress
from durable_streams_cluster.raft.reads import ReadQueue
from durable_streams_cluster.raft.ready import Event, LeaderChanged, MembershipChanged, SteppedDown


class Role(Enum):
    """Thesis 3.3, and 9.6 for the second."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Settings(msgspec.Struct, frozen=True):
    """Times in ticks, whose length is the caller's; sizes in bytes."""

    heartbeat_ticks: int = 3
    election_ticks: int = 30
    """Without a word from the leader for so long, and up to as long again by chance, a follower stands."""
    stall_ticks: int = 60
    """A leader whose disk has not finished a write for so long gives up its lead."""
    message_bytes: int = MAX_ENTRY_BYTES
    """Entries in one message; a larger one travels alone."""
    window_messages: int = 64
    window_bytes: int = 16 * MIB
    """Under way to one follower, at most; the last message may go beyond."""
    apply_bytes: int = 4 * MIB
    """Committed entries handed out at once."""
    cache_bytes: int = 4 * MIB
    """Applied entries kept in memory for followers that are a little late."""

    def __post_init__(self) -> None:
        assert 0 < self.heartbeat_ticks * 3 <= self.election_ticks, "two heartbeats may be lost"


class RaftState:
    """See the package. ``random`` gives a number below its argument."""

    def __init__(
        self,
        group: GroupId,
        own: ReplicaId,
        membership: Membership,
        hard_state: HardState,
        log: RaftLog,
        settings: Settings,
        random: Callable[[int], int],
    ) -> None:
        self.group = group
        self.node, self._incarnation = own
        self.memberships = Memberships(membership)
        self.voters: tuple[NodeId, ...]
        """Who counts for a quorum."""
        self.peers: tuple[NodeId, ...]
        """The other members, learners among them."""
        self.hard_state = hard_state
        self.log = log
        self.settings = settings
        self._random = random
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self._led_in = Term(0)
        """The term in which ``leader`` leads: the same node may lead anew."""
        self.elapsed = 0
        """Ticks since the leader was heard from, an election began, or a leader counted its quorum."""
        self.timeout = self.new_timeout()
        self.votes: dict[NodeId, bool] = {}
        self.room = Room.PLENTY
        """On this node's disk, as the caller says."""
        self.doubted = False
        """The connection to the leader broke, and nothing was heard from it since."""
        # A leader's.
        self.progress: dict[NodeId, Progress] = {}
        self.reads = ReadQueue()
        self.first_of_term = Index(0)
        """The first entry of the leader's own term."""
        self.heartbeat_elapsed = 0
        self.transferee: NodeId | None = None
        self.transfer_elapsed = 0
        self.cluster_ms = 0
        """The newest cluster time that is known: a leader's caller sets it, heartbeats carry it."""
        # What the next hand-over takes.
        self.send_now: list[Outgoing] = []
        self.send_once_durable: list[Outgoing] = []
        self.events: list[Event] = []
        self.failed_reads: list[object] = []
        self._read(log.unapplied())
        self._know_members()

    @property
    def term(self) -> Term:
        """The current term."""
        return self.hard_state.term

    @property
    def membership(self) -> Membership:
        """What is in force."""
        return self.memberships.newest

    @property
    def other_voters(self) -> tuple[NodeId, ...]:
        """Who else counts."""
        return tuple(voter for voter in self.voters if voter != self.node)

    @property
    def may_stand(self) -> bool:
        """Whether this node may call an election: a voter may, and one whose removal is not known to be committed.

        Without the latter (thesis 4.2.2): the leader of two, n2, removes itself, and ends before n1 has the entry. Then
        n1 needs the vote of n2, whose log is newer; and n2, which alone could lead, counts itself out.
        """
        return self._counts_in(self.membership) or self._counts_in(self.memberships.at(self.log.committed))

    @property
    def alone(self) -> bool:
        """Whether this node is a majority by itself."""
        return self.voters == (self.node,) and self._counts_in(self.membership)

    def _counts_in(self, membership: Membership) -> bool:
        """Whether a voter has this node's name, and its data directory.

        Without the latter: n1 begins a cluster, others join, its disk is wiped and it joins anew. On its way through
        the log it comes to the membership with which n1 was alone, and leads at once, by its own vote.
        """
        own = membership.member(self.node)
        return own is not None and own.voter and own.incarnation in (0, self._incarnation)

    @property
    def hears_leader(self) -> bool:
        """Whether there is a leader, as of the shortest time in which anybody could think otherwise."""
        if self.leader is None or self.role is Role.LEADER:
            return self.leader is not None
        return self.elapsed < self.settings.election_ticks and not self.doubted

    def send(self, to: NodeId, message: Message) -> None:
        """Send at any time: nothing that is not durable yet is told."""
        self.send_now.append(Outgoing(to, message))

    def send_durable(self, to: NodeId, message: Message) -> None:
        """Send once everything that was changed up to now is durable."""
        self.send_once_durable.append(Outgoing(to, message))

    def new_timeout(self) -> int:
        """Ticks of the next election timeout: by chance, so that two seldom stand at once (thesis 3.4)."""
        return self.settings.election_ticks + self._random(self.settings.election_ticks)

    def doubt_leader(self) -> None:
        """The connection to the leader broke. One that lives is heard again with its next heartbeat.

        If not, this node asks around without waiting for the whole timeout, and says "yes" to who asks: the process is
        gone. Only a majority that has lost its connections, too, elects another; who is cut off alone asks in vain.
        """
        if self.role is Role.FOLLOWER and self.leader is not None and not self.doubted:
            self.doubted = True
            spread = self._random(self.settings.election_ticks // 3)
            self.timeout = min(self.timeout, self.elapsed + self.settings.heartbeat_ticks + 1 + spread)

    def hear_leader(self) -> None:
        """A sign of life."""
        self.elapsed = 0
        if self.doubted:
            self.doubted = False
            self.timeout = self.new_timeout()

    # ---------------------------------------------------------------------------------------------------- membership

    def note_memberships(self, entries: Iterable[Entry]) -> None:
        """These are in the log now; perhaps they were before."""
        if self._read(entries):
            self._change_members()

    def forget_memberships(self, cut: Index) -> None:
        """The entries from ``cut`` on are gone, and with them what they said (thesis 4.1)."""
        if self.memberships.newest_index >= cut:
            self.memberships.truncate(cut)
            self._change_members()

    def restore_membership(self, membership: Membership) -> None:
        """A snapshot brought it."""
        self.memberships.restore(membership)
        self._change_members()

    def _read(self, entries: Iterable[Entry]) -> bool:
        before = self.memberships.newest_index
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP and entry.index > self.memberships.newest_index:
                self.memberships.append(entry.index, decode(entry.data))
        return self.memberships.newest_index > before

    def _know_members(self) -> None:
        self._known = self.membership
        self.voters = self.membership.voters
        self.peers = tuple(node for node in self.membership.nodes if node != self.node)

    def _change_members(self) -> None:
        if self.membership != self._known:
            self._know_members()
            self.events.append(MembershipChanged(self.membership))

    # ---------------------------------------------------------------------------------------------------------- roles

    def become_follower(self, term: Term, leader: NodeId | None, reason: str) -> None:
        """Follow in ``term``, under ``leader`` if it is known."""
        assert term >= self.term
        if self.role is Role.LEADER:
            self.events.append(SteppedDown(self.term, reason))
            self.failed_reads += self.reads.drop()
            self.progress = {}
            self.transferee = None
        if term > self.term:
            self.hard_state = HardState(term)
        self.role = Role.FOLLOWER
        self.votes = {}
        self.doubted = False
        self.elapsed = 0
        self.timeout = self.new_timeout()
        self.know_leader(leader)

    def know_leader(self, leader: NodeId | None) -> None:
        """``leader`` leads in this term, or nobody that is known."""
        self.doubted = self.doubted and leader == self.leader
        if leader != self.leader or (leader is not None and self._led_in != self.term):
            self.leader, self._led_in = leader, self.term
            self.events.append(LeaderChanged(leader, self.term))
