"""Snapshots: how a follower gets what the leader's log has no more (thesis 5; DESIGN: Snapshots).

The leader pins its state as of one entry and sends it in pieces, a few under way at a time. The follower stores them
under an install epoch of their own, beside what it shows, and switches when all is there: in one batch with the applied
state, the sessions and an empty log. What it showed before is then swept, and so are pieces of a snapshot that never
came whole. What a broken connection lost is sent again, from the first piece that was not answered; an attempt that
fails in another way begins anew, under the next epoch.
"""

from collections import deque

import msgspec

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.limits import KIB, MIB
from durable_streams_cluster.raft import EntryId, Membership
from durable_streams_cluster.replica.exchange import ChunkTaken, SnapshotChunk
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.codecs import AppliedState, Installs, Session
from durable_streams_cluster.storage.export import Export, Pair, is_of_group, pairs_crc
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.storage.stream_reader import StreamReader
from durable_streams_cluster.storage.sweep import Sweep

CHUNK_BYTES = 256 * KIB
CHUNK_PAIRS = 250
"""A piece is read, and written, in some two milliseconds; a larger value travels alone."""
WINDOW = 4
"""Pieces under way to a follower."""
BYTES_PER_TICK = 4 * MIB
"""To all followers together; 80 MiB/s at 50 ms a tick. Appends go on beside it, through the same disks and loop."""
GIVE_UP_TICKS = 200
"""Without an answer for so long, an attempt has failed."""
SWEEP_KEYS = 64
"""Looked at in one turn."""
MAX_OF_GROUP = 4096
"""Pairs of the group's own in a snapshot (sessions, above all): they are held in memory until it is whole."""


class SnapshotSent(msgspec.Struct, frozen=True):
    """``to`` has the state after entry ``last``."""

    to: NodeId
    last: EntryId
    size: int
    """Bytes."""


class SnapshotInstalled(msgspec.Struct, frozen=True):
    """This node goes on from the state after entry ``last``, which ``sender`` had."""

    sender: NodeId
    last: EntryId


class _Sending:
    def __init__(self, kv: KvView, group: GroupId, view: StreamReader, attempt: int) -> None:
        self.last = EntryId(Term(view.applied.term), Index(view.applied.index))
        self.attempt = attempt
        self.export = Export(kv, group, view.epoch)
        self.number = 0
        self.finished = False
        self.unanswered: deque[SnapshotChunk] = deque()
        self._again: deque[SnapshotChunk] = deque()
        """Of these, what a broken connection may have lost."""
        self.size = 0
        self.quiet_ticks = 0
        self.rests = False
        """Until the next tick. Who cannot be reached loses each piece at once: turn upon turn would send another."""

    @property
    def has_more(self) -> bool:
        """Whether a piece may be sent."""
        return not self.rests and (bool(self._again) or (not self.finished and len(self.unanswered) < WINDOW))

    def chunk(self, term: Term) -> SnapshotChunk | None:
        """The next piece, if one may be sent."""
        if not self.has_more:
            return None
        if self._again:
            return self._again.popleft()
        pairs = self.export.slice(CHUNK_BYTES, CHUNK_PAIRS)
        self.finished = self.export.done
        self.size += sum(len(key) + len(value) for key, value in pairs)
        made = SnapshotChunk(term, self.attempt, self.number, self.last, pairs, pairs_crc(pairs), self.finished)
        self.number += 1
        self.unanswered.append(made)
        return made

    def taken(self, number: int) -> None:
        """Everything up to this piece arrived."""
        self.quiet_ticks = 0
        while self.unanswered and self.unanswered[0].number <= number:
            self.unanswered.popleft()
        while self._again and self._again[0].number <= number:
            self._again.popleft()

    @property
    def answered(self) -> int:
        """How many pieces arrived."""
        return self.number - len(self.unanswered)

    def rewind(self) -> None:
        """What was not answered may be lost."""
        self._again = deque(self.unanswered)


class Sender:
    """The leader's side; at most one snapshot to each follower."""

    def __init__(self, kv: KvView, group: GroupId, view: StreamReader) -> None:
        """``view`` tells, between two turns, what the store holds."""
        self._kv = kv
        self._group = group
        self._view = view
        self._attempts = 0
        self._sending: dict[NodeId, _Sending] = {}
        self._room = BYTES_PER_TICK
        """Bytes that may be sent until the next tick."""
        self._largest = 0
        """Bytes of the largest that was sent since this node leads."""

    @property
    def hold(self) -> Index | None:
        """Entries behind this one are wanted by whoever gets a snapshot now."""
        return min((each.last.index for each in self._sending.values()), default=None)

    @property
    def sent_bytes(self) -> int:
        """How much of the state was sent to one follower, at most, since this node leads."""
        return max([self._largest, *(each.size for each in self._sending.values())])

    def begin(self, to: NodeId) -> None:
        """Send the state as it is in the store now."""
        self._attempts += 1
        self._sending[to] = _Sending(self._kv, self._group, self._view, self._attempts)

    def chunks(self, term: Term) -> list[tuple[NodeId, SnapshotChunk]]:
        """A piece for each follower that may get one."""
        made: list[tuple[NodeId, SnapshotChunk]] = []
        for to, sending in self._sending.items():
            if self._room > 0 and (chunk := sending.chunk(term)) is not None:
                self._room -= sum(len(key) + len(value) for key, value in chunk.pairs)
                made.append((to, chunk))
        return made

    @property
    def has_more(self) -> bool:
        """Whether ``chunks`` has anything."""
        return self._room > 0 and any(each.has_more for each in self._sending.values())

    def taken(self, sender: NodeId, answer: ChunkTaken) -> SnapshotSent | None:
        """A piece arrived; when it was the last one, the whole did."""
        sending = self._sending.get(sender)
        if sending is None or answer.attempt != sending.attempt or not answer.number < sending.number:
            return None
        if answer.number < 0:
            self.begin(sender)  # It has nothing of it any more.
            return None
        sending.taken(answer.number)
        if not sending.finished or sending.unanswered:
            return None
        del self._sending[sender]
        self._largest = max(self._largest, sending.size)
        return SnapshotSent(sender, sending.last, sending.size)

    def tick(self) -> list[NodeId]:
        """Time passed: to whom sending has failed."""
        # A chunk larger than the room left is owed: it is sent, and the next ones wait.
        self._room = min(self._room + BYTES_PER_TICK, BYTES_PER_TICK)
        failed = []
        for to, sending in list(self._sending.items()):
            sending.quiet_ticks += 1
            sending.rests = False
            if sending.quiet_ticks >= GIVE_UP_TICKS:
                failed.append(to)
                del self._sending[to]
        return failed

    def lost(self, to: NodeId) -> None:
        """What was sent to ``to`` may be lost; or it can be reached again. It is sent on with the next tick."""
        sending = self._sending.get(to)
        if sending is None:
            return
        if sending.answered < WINDOW:
            self.begin(to)  # Hardly begun; and if that node was started anew, it would say nothing to so few pieces.
        else:
            sending.rewind()
        self._sending[to].rests = True

    def drop(self) -> None:
        """Not leading any more, or ending: nothing is pinned from now on."""
        self._sending.clear()
        self._largest = 0


class Arrived(msgspec.Struct, frozen=True):
    """A snapshot that is whole, and stored under ``epoch``."""

    sender: NodeId
    term: Term
    last: EntryId
    epoch: int
    applied: AppliedState
    sessions: dict[int, Session]
    membership: Membership | None
    """None: it was never changed."""
    answer: ChunkTaken


class _Arriving:
    def __init__(self, sender: NodeId, term: Term, attempt: int, epoch: int) -> None:
        self.of = (sender, term, attempt)
        self.epoch = epoch
        self.expected = 0
        self.quiet_ticks = 0
        """Since a piece of it was taken, or came again."""
        self.own: list[Pair] = []


class Receiver:
    """The follower's side, and the sweeping after it."""

    def __init__(self, kv: KvView, group: GroupId) -> None:
        self._kv = kv
        self._group = group
        value = kv.get(Family.DATA, keys.installs(group))
        self._installs = codecs.decode_installs(value) if value is not None else Installs()
        self._arriving: _Arriving | None = None
        self._sweep: Sweep | None = None if self._installs.swept else Sweep(kv)

    def take(self, batch: WriteBatch, sender: NodeId, chunk: SnapshotChunk) -> Arrived | ChunkTaken | None:
        """Stage one piece, whose sender leads in the present term.

        Returns:
            What to answer once ``batch`` is written; or, behind the final one, what arrived, to be installed in a later
            turn than this. None for a piece of a former attempt, or behind one that is missing.

        Raises:
            CorruptData: it is no snapshot of this group.

        """
        if chunk.number == 0 and self._is_new(sender, chunk):
            self.forget()  # An attempt that did not come whole does not stay until this one has.
            epoch = self._installs.newest + 1
            self._note(batch, Installs(self._installs.current, epoch, swept=False))
            self._arriving = _Arriving(sender, chunk.term, chunk.attempt, epoch)
        arriving = self._arriving
        if arriving is None or arriving.of != (sender, chunk.term, chunk.attempt):
            # One that was begun before this node was started anew: what was there of it is swept. A piece so far on is
            # sent only after the first was answered; one of the first may have overtaken it.
            lost = chunk.number >= WINDOW and self._is_new(sender, chunk)
            return ChunkTaken(chunk.attempt, -1) if lost else None
        arriving.quiet_ticks = 0
        if arriving.expected != chunk.number:
            return ChunkTaken(chunk.attempt, arriving.expected - 1) if arriving.expected > chunk.number else None
        arriving.expected += 1
        for key, value in chunk.pairs:
            if is_of_group(key):
                arriving.own.append((key, value))
            else:
                batch.put(Family.DATA, keys.with_epoch(key, arriving.epoch), value)
        if len(arriving.own) > MAX_OF_GROUP:
            raise CorruptData(f"a snapshot of {sender} has more than {MAX_OF_GROUP} sessions")
        answer = ChunkTaken(chunk.attempt, chunk.number)
        return self._whole(arriving, chunk.last, answer) if chunk.final else answer

    def _is_new(self, sender: NodeId, chunk: SnapshotChunk) -> bool:
        if self._arriving is None:
            return True
        of_sender, term, attempt = self._arriving.of
        return of_sender != sender or (chunk.term, chunk.attempt) > (term, attempt)

    def _whole(self, arriving: _Arriving, last: EntryId, answer: ChunkTaken) -> Arrived:
        sessions: dict[int, Session] = {}
        applied: AppliedState | None = None
        membership: Membership | None = None
        for key, value in arriving.own:
            if key == keys.group_state(self._group):
                applied = codecs.decode_applied(value)
            elif key[:1] == b"O" and keys.group_of(key) == self._group:
                sessions[keys.session_origin(key)] = codecs.decode_session(value)
            elif key == keys.membership(self._group):
                membership = codecs.decode_membership(value)
            else:
                raise CorruptData(f"a snapshot of {arriving.of[0]} has the key {key[:16].hex()}")
        if applied is None or (applied.term, applied.index) != (last.term, last.index):
            raise CorruptData(f"a snapshot of {arriving.of[0]} is said to be of {last}, and holds {applied}")
        return Arrived(*arriving.of[:2], last, arriving.epoch, applied, sessions, membership, answer)

    def install(self, batch: WriteBatch, arrived: Arrived) -> None:
        """Make it what is shown: in ``batch``, whole or not at all."""
        batch.put(Family.DATA, keys.group_state(self._group), codecs.encode_applied(arrived.applied))
        batch.delete_range(Family.DATA, *keys.sessions(self._group))
        for origin, session in arrived.sessions.items():
            batch.put(Family.DATA, keys.session(self._group, origin), codecs.encode_session(session))
        if arrived.membership is not None:
            batch.put(Family.DATA, keys.membership(self._group), codecs.encode_membership(arrived.membership))
        self._note(batch, Installs(arrived.epoch, self._installs.newest, swept=False))
        self.forget()

    def tick(self) -> None:
        """Time passed: what has long got no piece is given up, as its sender does, and leaves the disk.

        There may be no other attempt for a long time: the disk that it fills may be the one that lacks room for it.
        """
        if self._arriving is None:
            return
        self._arriving.quiet_ticks += 1
        if self._arriving.quiet_ticks >= GIVE_UP_TICKS:
            self.forget()

    def comes_to(self, term: Term) -> None:
        """The term in which this node is: what a leader of an older one sends is not wanted any more."""
        if self._arriving is not None and self._arriving.of[1] != term:
            self.forget()

    def forget(self) -> None:
        """What arrives is not wanted any more."""
        self._arriving = None
        if not self._installs.swept:
            self._sweep = Sweep(self._kv)

    def sweep(self, batch: WriteBatch) -> None:
        """Remove a little of what other epochs left; what is shown or arrives is kept."""
        if self._sweep is None:
            return
        keep = {self._installs.current} | ({self._arriving.epoch} if self._arriving is not None else set())
        if self._sweep.slice(batch, frozenset(keep), SWEEP_KEYS):
            self._sweep = None
            if self._arriving is None:
                current, newest = self._installs.current, self._installs.newest
                self._note(batch, Installs(current, newest, swept=True))

    @property
    def has_more(self) -> bool:
        """Whether ``sweep`` has anything to do."""
        return self._sweep is not None

    def _note(self, batch: WriteBatch, installs: Installs) -> None:
        self._installs = installs
        batch.put(Family.DATA, keys.installs(self._group), codecs.encode_installs(installs))
