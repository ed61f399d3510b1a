"""The Raft core: a machine without clock, disk or network (thesis chapter 3; etcd's raft is its nearest relative).

What each role does is in ``follower``, ``candidate`` and ``leader``; here is what all share: terms, hand-overs, and
what is durable.
"""

from collections import deque
from collections.abc import Callable

import msgspec

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import candidate, follower, leader
from durable_streams_cluster.raft import membership as members
from durable_streams_cluster.raft.lives import Lives
from durable_streams_cluster.raft.log import LogReader, RaftLog
from durable_streams_cluster.raft.membership import Membership, Objection, ReplicaId
from durable_streams_cluster.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    EntryId,
    EntryKind,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    Outgoing,
    RequestVote,
    Room,
    SnapshotMeta,
    TimeoutNow,
    VoteReply,
    entry_crc,
)
from durable_streams_cluster.raft.progress import State
from durable_streams_cluster.raft.ready import Ready
from durable_streams_cluster.raft.state import RaftState, Role, Settings
from durable_streams_cluster.raft.status import Follower, Status

FEATURE_LEVEL = 5
"""What this build may write into the log; an older build stops there. 2: Trim, If-Match and what a prefix gives.
3: sessions, so that a command that is in the log twice is applied once. 4: membership.
5: what an unsafe recovery leaves behind in the group's state."""


class _HandedOver(msgspec.Struct, frozen=True):
    number: int
    hard_state: HardState
    tick: int


class RaftCore:
    """One group's consensus on this node.

    The loop: ``tick``, ``step``, ``propose`` or ``read_index``; then ``ready()`` and what it asks for (see ``Ready``);
    ``persisted`` when its batch is durable; ``applied`` when its committed entries are.
    """

    def __init__(
        self,
        group: GroupId,
        own: ReplicaId,
        membership: Membership,
        hard_state: HardState,
        reader: LogReader,
        applied: EntryId,
        *,
        random: Callable[[int], int],
        settings: Settings | None = None,
    ) -> None:
        """A node's core, as it starts.

        Args:
            group: Which group.
            own: Who this replica is.
            membership: As of what is applied.
            hard_state: As of the disk.
            reader: The log on the disk.
            applied: What the caller's state holds.
            random: Gives a number from 0 to below its argument.
            settings: Times and sizes.

        """
        settings = settings or Settings()
        self.log = RaftLog(reader, applied, settings.cache_bytes)
        self._state = RaftState(group, own, membership, hard_state, self.log, settings, random)
        self.lives = Lives()
        """What other members showed: whoever connects them asks it (``Lives.objection``)."""
        self._handed = hard_state
        self._durable_hard_state = hard_state
        self._number = 0
        self._outstanding: deque[_HandedOver] = deque()
        self._snapshot: SnapshotMeta | None = None
        self._ticks = 0

    # -------------------------------------------------------------------------------------------------------- status

    @property
    def role(self) -> Role:
        """What this node is in its group."""
        return self._state.role

    @property
    def node(self) -> NodeId:
        """Who this is."""
        return self._state.node

    @property
    def term(self) -> Term:
        """The current term."""
        return self._state.term

    @property
    def leader(self) -> NodeId | None:
        """Who leads in this term, as far as is known here."""
        return self._state.leader

    @property
    def may_propose(self) -> bool:
        """Whether this node leads and is not handing over."""
        return self._state.role is Role.LEADER and self._state.transferee is None

    @property
    def room(self) -> Room:
        """On this node's disk, as ``know_room`` said."""
        return self._state.room

    @property
    def lacks_room(self) -> bool:
        """Whether too few voters have room on their disks (``leader.lacks_room``); False of a node that follows."""
        return leader.lacks_room(self._state)

    @property
    def has_uncommitted(self) -> bool:
        """Whether entries of the log are not known to be committed."""
        return self.log.committed < self.log.last

    @property
    def cluster_ms(self) -> int:
        """The newest cluster time that was heard of."""
        return self._state.cluster_ms

    def is_up_to_date_at(self, applied: Index) -> bool:
        """Whether a leader whose state holds everything up to ``applied`` knows all that was ever committed."""
        return self._state.role is Role.LEADER and applied >= self._state.first_of_term

    def status(self) -> Status:
        """As it is now."""
        state = self._state
        return Status(
            state.role,
            state.hard_state,
            state.leader,
            self.log.newest,
            self.log.durable,
            self.log.committed,
            self.log.applied,
            state.transferee,
            {
                peer: Follower(
                    each.match, each.next, each.state, each.active or each.was_active, each.quiet_ticks, each.room
                )
                for peer, each in state.progress.items()
            },
        )

    @property
    def alone(self) -> bool:
        """Whether this node is the only voter."""
        return self._state.alone

    @property
    def membership(self) -> Membership:
        """Who belongs to the group, as the newest entry in the log says."""
        return self._state.membership

    @property
    def applied_membership(self) -> Membership:
        """Who belonged to the group as of the last entry that is applied: that is not taken back."""
        return self._state.memberships.applied

    @property
    def wanted(self) -> Index | None:
        """The oldest of the newest entries that followers have: of those that are heard from, and catch up by the log.

        None: nobody wants any.
        """
        return min(
            (
                each.match
                for each in self._state.progress.values()
                if (each.active or each.was_active) and each.state is not State.SNAPSHOT
            ),
            default=None,
        )

    # -------------------------------------------------------------------------------------------------------- events

    def tick(self) -> None:
        """Time passed."""
        self._ticks += 1
        state = self._state
        if state.role is Role.LEADER:
            if not state.alone and self._is_disk_stalled():
                leader.resign(state, "the disk does not finish what was written")
                return
            leader.tick(state)
            return
        state.elapsed += 1
        if not state.may_stand:
            if state.leader is not None and state.elapsed >= state.timeout:
                state.become_follower(state.term, None, "")  # Nobody says so to a member that elects nobody.
            return
        # Not while a vote is on its way to the disk: it decides nothing yet, and the next one would not be faster.
        if (state.alone or state.elapsed >= state.timeout) and state.hard_state == self._durable_hard_state:
            candidate.ask_around(state)

    def step(self, sender: NodeId, message: Message) -> None:
        """A message came from ``sender``."""
        # From whomever: a member may not know yet, or not any more, that the sender is one (thesis 4.1).
        state = self._state
        leads = state.role is Role.LEADER and message.term == state.term
        own_entry = leads and isinstance(message, AppendReply) and message.match >= state.first_of_term
        self.lives.heard(sender, message, own_entry=own_entry)
        if message.term < state.term:
            self._answer_the_past(sender, message)
            return
        if message.term > state.term and not self._come_to(sender, message):
            return
        match message:
            case AppendEntries():
                follower.on_append(state, sender, message)
            case AppendReply() if state.role is Role.LEADER:
                leader.on_append_reply(state, sender, message)
            case Heartbeat():
                follower.on_heartbeat(state, sender, message)
            case HeartbeatReply() if state.role is Role.LEADER:
                leader.on_heartbeat_reply(state, sender, message)
            case RequestVote():
                candidate.on_request_vote(state, sender, message)
            case VoteReply():
                candidate.on_vote_reply(state, sender, message)
            case InstallSnapshot():
                self._snapshot = follower.on_snapshot(state, sender, message) or self._snapshot
            case TimeoutNow():
                follower.on_timeout_now(state, sender)
            case _:
                pass  # An answer to what this node was.

    def _answer_the_past(self, sender: NodeId, message: Message) -> None:
        """Tell the sender of an older term that it is over; what answers an older term counts for nothing."""
        state = self._state
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                state.send_durable(sender, AppendReply(state.term, Index(0), rejected=True))
            case RequestVote():
                state.send_durable(sender, VoteReply(state.term, message.term, granted=False, pre=message.pre))
            case VoteReply(pre=True):
                # From a member that is behind. Which question it answers is told by the term that was asked about.
                candidate.on_vote_reply(state, sender, message)
            case _:
                pass

    def _come_to(self, sender: NodeId, message: Message) -> bool:
        """Take a later term from a message; False when the message is to be ignored with its term."""
        state = self._state
        match message:
            case RequestVote(pre=True):
                return True  # Nobody's term changes: it only asks.
            case RequestVote(transfer=False) if state.hears_leader:
                # Thesis 4.2.3: who was cut off, or was removed, cannot depose a leader that the others hear.
                return False
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                state.become_follower(message.term, sender, f"{sender} leads in term {message.term}")
            case _:
                state.become_follower(message.term, None, f"{sender} is in term {message.term}")
        return True

    def propose(self, kind: EntryKind, data: bytes, cluster_ms: int, wall_ms: int) -> EntryId:
        """Append an entry of this leader's term; it is committed once ``Ready.committed`` holds it."""
        assert self.may_propose, "only a leader that stays proposes"
        assert kind is not EntryKind.MEMBERSHIP
        return self._append(kind, data, cluster_ms, wall_ms)

    def objection(self) -> Objection | None:
        """Why this node may not change the membership now (thesis 4.1, and Ongaro's correction of 2015).

        Of two changes under way, the second would begin from a membership that may yet be truncated. And without an
        entry of its own term that is committed, a new leader may still have a change of a former leader in its log that
        no majority has, while another member has another change: their majorities need not share a member.
        """
        state = self._state
        if state.role is not Role.LEADER:
            return Objection.NOT_LEADER
        if state.transferee is not None:
            return Objection.TRANSFER
        if state.log.committed < state.first_of_term:
            return Objection.NEW_TERM
        if state.log.committed < state.memberships.newest_index:
            return Objection.IN_FLIGHT
        return None

    def propose_membership(self, membership: Membership, cluster_ms: int, wall_ms: int) -> EntryId:
        """Append an entry with another membership, which is in force at once; there is no ``objection``."""
        assert self.objection() is None
        assert members.voters_apart(self._state.membership, membership) <= 1, "one voter at a time"
        made = self._append(EntryKind.MEMBERSHIP, members.encode(membership), cluster_ms, wall_ms)
        self._state.note_memberships(self.log.unapplied()[-1:])
        leader.know_members(self._state)
        return made

    def _append(self, kind: EntryKind, data: bytes, cluster_ms: int, wall_ms: int) -> EntryId:
        state = self._state
        bare = Entry(self.term, Index(self.log.last + 1), kind, FEATURE_LEVEL, cluster_ms, wall_ms, data)
        seal = entry_crc(state.group, bare)
        self.log.append(Entry(bare.term, bare.index, kind, FEATURE_LEVEL, cluster_ms, wall_ms, data, seal))
        return EntryId(bare.term, bare.index)

    def read_index(self, token: object) -> None:
        """Ask for the index from which on a read is linearizable; ``Ready`` answers, or says that it failed here."""
        if self._state.role is Role.LEADER:
            self._state.reads.add(token)
        else:
            self._state.failed_reads.append(token)

    def transfer_to(self, node: NodeId) -> None:
        """Hand the lead over to ``node`` (thesis 3.10). Nothing may be proposed until it succeeded or was given up."""
        leader.transfer(self._state, node)

    def know_time(self, cluster_ms: int) -> None:
        """A leader's cluster time, for its heartbeats."""
        self._state.cluster_ms = max(self._state.cluster_ms, cluster_ms)

    def know_room(self, room: Room) -> None:
        """So much is on this node's disk: others are told, and entries are taken or not."""
        self._state.room = room

    def unreachable(self, node: NodeId) -> None:
        """What was sent to ``node`` was lost: nothing is taken to arrive until it answers."""
        if node == self._state.leader:
            self._state.doubt_leader()
        progress = self._state.progress.get(node)
        if progress is not None and progress.state is State.REPLICATE:
            progress.probe(Index(progress.match + 1))

    def snapshot_sent(self, node: NodeId) -> None:
        """Sending a snapshot to ``node`` has ended, well or not: it is asked what it has."""
        progress = self._state.progress.get(node)
        if progress is not None and progress.state is State.SNAPSHOT:
            # The snapshot may be there and its answer lost: only an entry that the log still has can be asked for.
            progress.probe(Index(self.log.last + 1))
            progress.probe_sent = True  # until its next heartbeat: a snapshot that failed is not begun at once again

    # -------------------------------------------------------------------------------------------------------- ready

    def ready(self) -> Ready | None:
        """What must be done now, or None."""
        state = self._state
        if state.role is Role.LEADER:
            leader.begin_reads(state)
            leader.send_entries(state)
        hard_state = state.hard_state if state.hard_state != self._handed else None
        entries = self.log.hand_out(self._number + 1)
        snapshot, self._snapshot = self._snapshot, None
        if hard_state is not None or entries or snapshot is not None:
            self._number += 1
            self._handed = state.hard_state
            self._outstanding.append(_HandedOver(self._number, state.hard_state, self._ticks))
        reads = state.reads.answered(state.node, state.voters) if state.role is Role.LEADER else []
        committed = self.log.hand_out_committed(state.settings.apply_bytes)
        now, later = state.send_now, state.send_once_durable
        if not self._outstanding:
            now, later = now + later, []
        ready = Ready(
            self._number,
            hard_state,
            snapshot,
            entries,
            tuple(now),
            tuple(later),
            committed,
            self.log.committed,
            tuple(reads),
            tuple(state.failed_reads),
            tuple(state.events),
        )
        state.send_now, state.send_once_durable, state.failed_reads, state.events = [], [], [], []
        is_news = ready.must_sync or now or later or committed or reads or ready.failed_reads or ready.events
        return ready if is_news else None

    def take_urgent(self) -> tuple[Outgoing, ...]:
        """What may be sent between two ``ready``: heartbeats and the like, while the store takes no write."""
        urgent, self._state.send_now = tuple(self._state.send_now), []
        return urgent

    def persisted(self, number: int) -> None:
        """Every hand-over up to ``number`` is durable."""
        while self._outstanding and self._outstanding[0].number <= number:
            self._durable_hard_state = self._outstanding.popleft().hard_state
        self.log.persisted(number)
        state = self._state
        if state.role is Role.CANDIDATE and self._durable_hard_state == state.hard_state:
            candidate.vote_is_durable(state)
        if state.role is Role.LEADER:
            leader.advance_commit(state)

    def applied(self, index: Index) -> None:
        """The caller's state holds everything up to ``index``."""
        self.log.mark_applied(index)
        self._state.memberships.mark_applied(index)

    @property
    def has_more(self) -> bool:
        """Whether another ``ready`` has something although nothing happened since the last."""
        return self.log.has_committed

    def _is_disk_stalled(self) -> bool:
        """Whether a hand-over has been under way for too long: a disk that hangs must not keep the lead."""
        return bool(self._outstanding) and self._ticks - self._outstanding[0].tick >= self._state.settings.stall_ticks
