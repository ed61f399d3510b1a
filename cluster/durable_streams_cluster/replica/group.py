"""One partition on this node: Raft core, stream machine and log on one store, and the proposals that wait."""

from collections import deque
from typing import NamedTuple

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.limits import MAX_ENTRY_BYTES, MIB
from durable_streams_cluster.raft import (
    FEATURE_LEVEL,
    BecameLeader,
    Entry,
    EntryId,
    EntryKind,
    Membership,
    RaftCore,
    Ready,
)
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.storage.codecs import Origin, Proposal, decode_proposals, encode_proposals
from durable_streams_cluster.storage.kv import KvView
from durable_streams_cluster.storage.raft_log import RaftLogStore
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams import machine
from durable_streams_cluster.streams.commands import Append, Command, Create, Stamp

KEPT_LOG_BYTES = 16 * MIB
"""Applied entries of about this size are kept, so that a slow follower need not take a snapshot."""

_NOBODY = Origin()


class Now(NamedTuple):
    """The node's clocks at the start of a turn, milliseconds (``clock.Clock``)."""

    steady_ms: int
    wall_ms: int


class _Queued(NamedTuple):
    command: Command
    token: object
    since_ms: int


class Group:
    """Everything of one group. The committed view for readers is ``store.committed``."""

    def __init__(self, group: GroupId, node: NodeId, kv: KvView, now: Now) -> None:
        self.id = group
        self.store = StreamStore(kv, group)
        self.log = RaftLogStore(kv, group)
        applied = self.store.applied
        self.core = RaftCore(
            group,
            node,
            Membership((node,)),
            self.log.hard_state(),
            self.log,
            EntryId(Term(applied.term), Index(applied.index)),
            random=lambda _: 0,
        )
        self.led_since_ms = 0
        """Cluster time at which this node began to lead."""
        self._visible = Index(applied.index)
        """The newest entry whose effect readers find."""
        self._leads_in: Term | None = None
        self._stamp_asked = False
        self._clock_base = applied.cluster_ms
        self._clock_steady = now.steady_ms
        self._queue: deque[_Queued] = deque()
        self._pending: dict[Index, list[_Queued]] = {}
        self._kept: deque[tuple[Index, int]] = deque()
        self._kept_bytes = 0

    @property
    def can_read(self) -> bool:
        """Whether this node leads, and readers find here all that was ever committed before it did."""
        return self.core.is_up_to_date_at(self._visible)

    @property
    def pending(self) -> int:
        """Proposals queued or in the log and not answered."""
        return len(self._queue) + sum(map(len, self._pending.values()))

    def cluster_ms(self, now: Now) -> int:
        """Cluster time: the newest stamp plus the steady time since; a wall clock that jumps moves nothing."""
        return self._clock_base + max(0, now.steady_ms - self._clock_steady)

    def propose(self, command: Command, token: object, steady_ms: int) -> None:
        """Queue a command for the next turn; ``token`` comes back in ``Effects.completions``."""
        self._queue.append(_Queued(command, token, steady_ms))

    def stamp(self, now: Now, *, counts: bool) -> bool:
        """Put the time into the log in the next turn, if it ``counts`` or a window counts on it, and it has passed."""
        if self.can_read and self.cluster_ms(now) > self.store.applied.cluster_ms:
            self._stamp_asked = counts or self.store.committed.has_windows()
        return self._stamp_asked

    def give_up(self, before_ms: int) -> tuple[list[object], list[object]]:
        """Forget whoever has waited since before ``before_ms`` (steady).

        Returns:
            Tokens of proposals that never reached the log, now withdrawn; and of those in the log, whose outcome is not
            known: they may still be applied.

        """
        withdrawn: list[object] = []
        while self._queue and self._queue[0].since_ms < before_ms:
            withdrawn.append(self._queue.popleft().token)
        unknown: list[object] = []
        for index in [index for index, queued in self._pending.items() if queued[0].since_ms < before_ms]:
            unknown += [queued.token for queued in self._pending.pop(index)]
        return withdrawn, unknown

    def turn(self, effects: Effects, now: Now) -> None:
        """Put what is queued into entries, hand them to the disk, apply what is committed."""
        if self.core.may_propose:
            if self._leads_in != self.core.term:
                self._begin_to_lead(now)
            if self._stamp_asked:
                self._stamp_asked = False
                self.core.propose(EntryKind.NOOP, b"", self.cluster_ms(now), now.wall_ms)
            self._append_queued(now)
        ready = self.core.ready()
        if ready is None:
            return
        self.log.stage(effects.batch, ready)
        effects.events.extend(event for event in ready.events if isinstance(event, BecameLeader))
        if ready.must_sync:
            effects.must_sync = True
            effects.ticket = ready.number
        if ready.committed:
            self._apply(effects, ready)
        self._compact(effects, ready)
        effects.more = self.core.has_more

    def written(self) -> None:
        """The turn's batch is in the store: readers may see it."""
        self.store.commit()
        self._visible = Index(self.store.committed.applied.index)

    # ------------------------------------------------------------------------------------------------------ propose

    def _append_queued(self, now: Now) -> None:
        while self._queue:
            proposals: list[Proposal] = []
            taken: list[_Queued] = []
            size = 0
            while self._queue:
                queued = self._queue[0]
                needs = _size(queued.command)
                if proposals and size + needs > MAX_ENTRY_BYTES:
                    break
                self._queue.popleft()
                proposals.append(Proposal(_NOBODY, queued.command))
                taken.append(queued)
                size += needs
            made = self.core.propose(EntryKind.COMMANDS, encode_proposals(proposals), self.cluster_ms(now), now.wall_ms)
            self._pending[made.index] = taken

    def _begin_to_lead(self, now: Now) -> None:
        """Before anything else of the term: restart the clock, and append an entry that commits all before it.

        The clock begins above the newest stamp in the log, applied or not: it never goes back, and what this leader
        stamped is told from what others did.
        """
        last = self.log.entry(self.log.last) if self.log.last else None
        newest = max(self.cluster_ms(now), last.cluster_ms + 1 if last is not None else 0)
        self._clock_base, self._clock_steady = newest, now.steady_ms
        self._leads_in, self.led_since_ms = self.core.term, newest
        self.core.propose(EntryKind.NOOP, b"", newest, now.wall_ms)

    # -------------------------------------------------------------------------------------------------------- apply

    def _apply(self, effects: Effects, ready: Ready) -> None:
        for entry in ready.committed:
            if entry.feature_level > FEATURE_LEVEL:
                raise CorruptData(
                    f"log entry {entry.index} needs feature level {entry.feature_level}, this build knows "
                    f"{FEATURE_LEVEL}: run the newer build on this node"
                )
            if entry.kind is EntryKind.COMMANDS:
                self._apply_commands(effects, entry)
        newest = ready.committed[-1]
        self.store.finish(effects.batch, newest.index, newest.term, newest.cluster_ms)
        self.core.applied(newest.index)

    def _apply_commands(self, effects: Effects, entry: Entry) -> None:
        stamp = Stamp(entry.cluster_ms, entry.wall_ms)
        waiting = self._pending.pop(entry.index, None)
        for ordinal, proposal in enumerate(decode_proposals(entry.data)):
            applied = machine.apply(self.store, proposal.command, stamp)
            self.store.stage(effects.batch, applied.writes)
            effects.wakes.extend(wake.path for wake in applied.wakes)
            if waiting is not None:
                effects.completions.append((waiting[ordinal].token, applied.outcome))

    def _compact(self, effects: Effects, ready: Ready) -> None:
        for entry in ready.entries:
            self._kept.append((entry.index, len(entry.data)))
            self._kept_bytes += len(entry.data)
        if self._kept_bytes <= 2 * KEPT_LOG_BYTES:
            return
        while self._kept_bytes > KEPT_LOG_BYTES and self._kept[0][0] < self.core.log.applied:
            self._kept_bytes -= self._kept.popleft()[1]
        # After a restart the oldest entries are not in ``_kept``, and some of them may not be applied yet.
        self.log.compact(effects.batch, Index(min(self._kept[0][0], self.core.log.applied + 1)))


def _size(command: Command) -> int:
    """Bytes of a command in an entry, at most: a character takes up to four, what is not counted up to 1 KiB."""
    size = 1024 + 4 * len(command.path)
    match command:
        case Append():
            size += len(command.body)
        case Create():
            size += len(command.body) + (4 * len(command.fork.source) if command.fork is not None else 0)
        case _:
            pass
    return size
