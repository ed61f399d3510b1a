"""One partition on this node: Raft core, stream machine and log on one store, and the operations that wait."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import (
    AppendEntries,
    Begun,
    Entry,
    EntryId,
    EntryKind,
    InstallSnapshot,
    Membership,
    MembershipChanged,
    Outgoing,
    RaftCore,
    Ready,
    ReplicaId,
    Role,
    Room,
    Settings,
    SnapshotMeta,
    SnapshotNeeded,
    SteppedDown,
)
from durable_streams_cluster.raft.membership import decode
from durable_streams_cluster.replica.applying import Applier
from durable_streams_cluster.replica.barriers import Barrier, Barriers
from durable_streams_cluster.replica.cluster_time import ClusterTime, Now
from durable_streams_cluster.replica.compaction import KeptLog
from durable_streams_cluster.replica.divergence import ENCODING
from durable_streams_cluster.replica.effects import Asked, Effects
from durable_streams_cluster.replica.exchange import (
    Addressed,
    AskRead,
    ChunkTaken,
    Forward,
    PeerMessage,
    ReadAnswer,
    Refused,
    SnapshotChunk,
    StateHash,
)
from durable_streams_cluster.replica.following import Following
from durable_streams_cluster.replica.intake import Intake
from durable_streams_cluster.replica.lead import Lead
from durable_streams_cluster.replica.members import Members, MembershipApplied, Wish
from durable_streams_cluster.replica.proposals import Proposals, size_of
from durable_streams_cluster.replica.snapshots import Arrived, Receiver, Sender, SnapshotInstalled
from durable_streams_cluster.replica.succession import successor
from durable_streams_cluster.storage.kv import KvView
from durable_streams_cluster.storage.raft_log import RaftLogStore
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams.commands import Command

VERY_LONG = 1_000_000
"""Ticks: before there was a leader."""


class Place(NamedTuple):
    """Which replica this is."""

    node: NodeId
    membership: Membership
    incarnation: int
    """Names this life of this node: no other life of any node has it."""
    build: str = ""
    """The version of the program."""
    directory: int = 0
    """The incarnation of the data directory, as memberships have it."""


class _Remote(NamedTuple):
    """The token of a read at another node."""

    sender: NodeId
    number: int


class Group:
    """Everything of one group. The committed view for readers is ``store.committed``."""

    def __init__(
        self,
        group: GroupId,
        place: Place,
        kv: KvView,
        now: Now,
        *,
        random: Callable[[int], int],
        settings: Settings | None = None,
    ) -> None:
        self.id = group
        self.place = place
        self.store = StreamStore(kv, group)
        self.log = RaftLogStore(kv, group)
        applied = self.store.applied
        self.core = RaftCore(
            group,
            ReplicaId(place.node, place.directory),
            self.store.membership() or place.membership,
            self.log.hard_state(),
            self.log,
            EntryId(Term(applied.term), Index(applied.index)),
            random=random,
            settings=settings,
        )
        self.begun = Begun(place.incarnation, self.core.term, self.core.log.newest)
        """With what this life of this node began; others ask (``raft.lives``)."""
        self.time = ClusterTime(applied.cluster_ms, now)
        self.lead = Lead(self.core, self.log, self.time)
        self.intake = Intake()
        self._own = Proposals(place.incarnation)
        self._applier = Applier(self.store, self._own)
        self._hashed_as = f"{place.build}/{ENCODING}"
        """Others that encode what they do in another way have other hashes of it."""
        self._count_members()
        self.members = Members(self.core)
        self._barriers = Barriers()
        self._visible = Index(applied.index)
        """The newest entry whose effect readers find."""
        self._following = Following(self._own, self._barriers)
        self.leaderless_ticks = 0 if self.alone else VERY_LONG
        """For how long no leader is known here."""
        self._stamp_asked = False
        self._inbox: list[tuple[NodeId, PeerMessage]] = []
        self._parked: deque[tuple[int, list[Addressed]]] = deque()
        """Messages that wait for a hand-over to be durable."""
        self._released: list[Addressed] = []
        self._kept = KeptLog()
        self._sender = Sender(kv, group, self.store.committed)
        self._receiver = Receiver(kv, group)
        self._arrived: Arrived | None = None
        """A snapshot, whole in the store: the next turn installs it."""
        self._late: tuple[Entry, ...] = ()
        """Committed behind a snapshot in the turn that installed it: they are applied when that is written."""

    # ------------------------------------------------------------------------------------------------------- status

    @property
    def can_read(self) -> bool:
        """Whether this node leads, and readers find here all that was ever committed before it did."""
        return self.core.is_up_to_date_at(self._visible)

    @property
    def alone(self) -> bool:
        """Whether this node is the only voter: nobody need be asked."""
        return self.core.alone

    @property
    def by_itself(self) -> bool:
        """Whether there is no other member: nothing is told to anybody."""
        return self.alone and len(self.core.membership.nodes) == 1

    @property
    def pending(self) -> int:
        """Writes and reads that wait here."""
        return len(self._own) + len(self._barriers)

    @property
    def waiting_messages(self) -> int:
        """Messages of other nodes that no turn has seen."""
        return len(self._inbox)

    # ------------------------------------------------------------------------------------------------------- events

    @property
    def leads(self) -> bool:
        """Whether this node leads."""
        return self.core.role is Role.LEADER

    def transfer_to(self, node: NodeId) -> bool:
        """Let ``node`` lead; False when it is no other voter, or this node does not lead."""
        may = self.leads and node != self.place.node and node in self.core.membership.voters
        if may:
            self.core.transfer_to(node)
        return may

    def successor(self, worst: Room = Room.NONE) -> NodeId | None:
        """To whom a leader hands over (``succession``)."""
        return successor(self.core, worst)

    def tick(self) -> None:
        """Time passed: elections, heartbeats; and what seems to be lost on its way is given to the leader again."""
        self.leaderless_ticks = self.leaderless_ticks + 1 if self.core.leader is None else 0
        self._following.tick()
        for node in self._sender.tick():
            self.core.snapshot_sent(node)
        if self._arrived is None:  # What is whole waits for a turn, however long.
            self._receiver.tick()
        self.core.tick()
        self.members.tick()

    def deliver(self, sender: NodeId, message: PeerMessage) -> None:
        """Another node sent something; the next turn sees to it."""
        self._inbox.append((sender, message))

    def lost(self, peer: NodeId) -> bool:
        """What was sent to ``peer`` may be lost; whether it was being handed over to."""
        chosen = self.core.status().transferee == peer
        self.core.unreachable(peer)
        self._sender.lost(peer)
        self._following.lost(peer)
        return chosen

    def propose(self, command: Command, token: object, steady_ms: int) -> None:
        """Queue a command; ``token`` comes back in ``Effects.completions`` or ``refusals``."""
        self._own.add(command, token, size_of(command), steady_ms)

    def read(self, barrier: Barrier) -> None:
        """Let a read wait for its barrier; ``written`` gives its token back."""
        self._barriers.add(barrier)

    def change(self, wish: Wish, token: object) -> None:
        """Let a leader change who belongs; ``Effects.changes`` tells what became of it."""
        self.members.ask(wish, token)

    def answer_read(self, sender: NodeId, number: int) -> None:
        """What ``Effects.asked`` asked for is done: give the asker an index."""
        self.core.read_index(_Remote(sender, number))

    def stamp(self, now: Now, *, counts: bool) -> bool:
        """Put the time into the log in the next turn, if it ``counts`` or a window counts on it, and it has passed."""
        if self.can_read and self.time.at(now) > self.store.applied.cluster_ms:
            self._stamp_asked = counts or self.store.committed.has_windows()
        return self._stamp_asked

    def give_up(self, before_ms: int, *, given: bool = True) -> tuple[list[object], list[object]]:
        """Forget whoever has waited since before ``before_ms`` (steady); not ``given``: without what a leader has got.

        Returns:
            Tokens of reads, and of writes that never reached a log, now withdrawn; and of writes whose outcome is not
            known: they may still be applied.

        """
        withdrawn, unknown = self._own.give_up(before_ms, given=given)
        return withdrawn + self._barriers.give_up(before_ms), unknown

    def close(self) -> None:
        """Let go of the store."""
        self._sender.drop()

    def durable(self, number: int) -> None:
        """Hand-overs up to ``number`` are durable."""
        while self._parked and self._parked[0][0] <= number:
            self._released += self._parked.popleft()[1]
        self.core.persisted(number)

    def written(self) -> list[object]:
        """The turn's batch is in the store: readers may see it.

        Returns:
            The tokens of the reads that may go on now.

        """
        self.store.commit()
        self._visible = Index(self.store.committed.applied.index)
        return self._barriers.visible(self._visible)

    def _count_members(self) -> None:
        self._applier.hashes.alone = self.by_itself

    # --------------------------------------------------------------------------------------------------------- turn

    def turn(self, effects: Effects, now: Now, *, syncing: bool) -> None:
        """Take what came in, give it to the leader or into the log, hand over to the disk, apply what is committed."""
        self._apply(effects, self._late)
        installing, self._arrived = (None, self._arrived) if self._late else (self._arrived, None)
        self._late = ()
        if installing is not None:
            meta = SnapshotMeta(installing.last, installing.membership or self.place.membership)
            self.core.step(installing.sender, InstallSnapshot(installing.term, meta))
        self.core.know_room(self.intake.begin(self.core.term))
        for sender, message in self._inbox:
            self._take(effects, sender, message)
        self._inbox.clear()
        if self.core.role is not Role.LEADER:
            self.time.hear(self.core.cluster_ms, now)
        self._receiver.comes_to(self.core.term)
        self._following.led_by(self.core.term, self.core.leader)
        if self.core.may_propose:
            self._lead(effects, now, syncing=syncing)
        elif (leader := self.core.leader) is not None and self.core.role is not Role.LEADER:
            self._following.give(lambda message: self._tell(effects, leader, message))
        ready = self.core.ready()
        if installing is not None:
            self._install(effects, ready, installing, now)
        if ready is not None:
            self._carry_out(effects, ready)
        effects.changes, self.members.answered = self.members.answered, []
        effects.outbox += self._released
        self._released = []
        for to, chunk in self._sender.chunks(self.core.term):
            self._tell(effects, to, chunk)
        self._receiver.sweep(effects.batch)
        waits = self._late or self._arrived is not None or self._sender.has_more or self._receiver.has_more
        effects.more = self.core.has_more or self.members.has_more or bool(waits)

    def urgent(self, effects: Effects) -> None:
        """Only what must not wait while the store takes no write: heartbeats."""
        effects.outbox += self._addressed(self.core.take_urgent())

    def _take(self, effects: Effects, sender: NodeId, message: PeerMessage) -> None:
        match message:
            case Forward(proposals):
                for reason, refused in self.lead.take(proposals).items():
                    self._tell(effects, sender, Refused(reason, tuple(refused)))
            case Refused():
                effects.refusals += self._following.refused(message)
            case AskRead(number, renewed, seen):
                if self.core.role is Role.LEADER and not renewed and not seen:
                    self.answer_read(sender, number)
                elif self.core.role is Role.LEADER:
                    effects.asked.append(Asked(sender, number, renewed, seen))
                else:
                    self._tell(effects, sender, ReadAnswer(number, None))
            case ReadAnswer():
                self._following.answered(message)
            case SnapshotChunk():
                self._take_chunk(effects, sender, message)
            case ChunkTaken():
                sent = self._sender.taken(sender, message)
                if sent is not None:
                    effects.events.append(sent)
                    self.core.snapshot_sent(sender)
            case StateHash(build, hashed):
                if build == self._hashed_as:
                    self._applier.hashes.heard(sender, hashed)
            case AppendEntries() if message.entries:
                self.intake.entries(self.core, sender, message)
            case InstallSnapshot():
                pass  # It is told to the core here, when all pieces are in the store.
            case _:
                self.core.step(sender, message)

    def _take_chunk(self, effects: Effects, sender: NodeId, chunk: SnapshotChunk) -> None:
        if (sender, chunk.term) != (self.core.leader, self.core.term) or self._arrived is not None:
            return  # Of a leader that is none any more; or it came twice.
        if not self.intake.takes(chunk):
            return  # It is given up, and sent when there is room again.
        taken = self._receiver.take(effects.batch, sender, chunk)
        if isinstance(taken, Arrived):
            self._arrived = taken
        elif taken is not None:
            self._tell(effects, sender, taken)

    def _install(self, effects: Effects, ready: Ready | None, arrived: Arrived, now: Now) -> None:
        """Go on from a snapshot, if the core takes it; then nothing else is applied in this turn."""
        answer = Addressed(arrived.sender, self.id, arrived.answer)
        if ready is None or ready.snapshot is None:
            self._receiver.forget()
            effects.outbox.append(answer)
            return
        self._receiver.install(effects.batch, arrived)
        self.store.switch(arrived.applied, arrived.epoch)
        self._applier.restart(arrived.sessions)
        self._count_members()
        self.time.begin_at(max(self.time.at(now), arrived.applied.cluster_ms), now)
        self._kept = KeptLog()
        self._late = ready.committed
        effects.unknown += [own.token for own in self._own.settled(self._applier.sessions)]
        effects.all_moved = True
        effects.events.append(SnapshotInstalled(arrived.sender, arrived.last))
        if arrived.membership is not None:
            effects.events.append(MembershipApplied(arrived.membership))
        self._parked.append((ready.number, [answer]))

    def _tell(self, effects: Effects, to: NodeId, message: PeerMessage) -> None:
        effects.outbox.append(Addressed(to, self.id, message))

    def _addressed(self, messages: tuple[Outgoing, ...]) -> list[Addressed]:
        return [Addressed(each.to, self.id, each.message) for each in messages]

    # ----------------------------------------------------------------------------------------------- leading, or not

    def _lead(self, effects: Effects, now: Now, *, syncing: bool) -> None:
        self.lead.begin(now)
        self.core.know_time(self.time.at(now))
        if self._stamp_asked:
            self._stamp_asked = False
            self.lead.stamp(now)
        self.members.step(self.time.at(now), now)
        asked = self._barriers.ask()
        if asked is not None:
            self.core.read_index(asked[0])
        effects.held_ms = self.lead.append(self._own, now, syncing=syncing)

    # -------------------------------------------------------------------------------------------------- what is ready

    def _carry_out(self, effects: Effects, ready: Ready) -> None:
        self.log.stage(effects.batch, ready)
        for event in ready.events:
            effects.events.append(event)
            if isinstance(event, SteppedDown):
                self.lead.drop()
                self._sender.drop()
            elif isinstance(event, MembershipChanged):
                self._count_members()
            elif isinstance(event, SnapshotNeeded):
                self._sender.begin(event.node)
        if ready.must_sync:
            effects.must_sync = True
            effects.ticket = ready.number
        effects.outbox += self._addressed(ready.send_now)
        if ready.send_once_durable:
            self._parked.append((ready.number, self._addressed(ready.send_once_durable)))
        for token, index in ready.reads:
            self._answer(effects, token, index)
        for token in ready.failed_reads:
            self._answer(effects, token, None)
        if ready.snapshot is None:
            self._apply(effects, ready.committed)
        if not self.leads:
            self.members.drop()  # Not before: its own removal may be what a leader has just applied.
        sent = self._sender.sent_bytes
        keep_from = self._kept.handed_over(ready.entries, self.core.log.applied, self._held, sent)
        if keep_from is not None:
            self.log.compact(effects.batch, keep_from)

    def _held(self) -> Index | None:
        wanted = [index for index in (self.core.wanted, self._sender.hold) if index is not None]
        return min(wanted, default=None)

    def _answer(self, effects: Effects, token: object, index: Index | None) -> None:
        if isinstance(token, _Remote):
            self._tell(effects, token.sender, ReadAnswer(token.number, index))
        else:
            assert isinstance(token, int)
            self._barriers.answered(token, index)

    def _apply(self, effects: Effects, entries: tuple[Entry, ...]) -> None:
        if not entries:
            return
        hashed = self._applier.apply(effects, entries)
        if self.core.role is Role.LEADER:
            for each in hashed:
                for peer in self.core.membership.nodes:
                    if peer != self.place.node:
                        self._tell(effects, peer, StateHash(self._hashed_as, each))
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP:
                applied = MembershipApplied(decode(entry.data))
                effects.events.append(applied)
                self.members.applied(EntryId(entry.term, entry.index), applied.membership)
        self.core.applied(entries[-1].index)
        self.lead.applied(entries[-1].index)
