"""A disk in memory: what was written is read at once, and a crash leaves a prefix of what was not synced."""

from collections import deque
from copy import copy

import msgspec

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import NOTHING, Entry, EntryId, HardState, Membership, Ready


class Machine(msgspec.Struct, frozen=True):
    """A state machine: up to which entry it is, and a digest of all the entries to there."""

    applied: EntryId = NOTHING
    digest: int = 0
    membership: Membership | None = None
    """As of that entry; who joined does not know it before it heard of one."""


class Batch(msgspec.Struct, frozen=True):
    """One write batch, all or nothing."""

    ready: Ready | None = None
    installs: Machine | None = None
    """The state that came with ``ready.snapshot``."""
    machine: Machine | None = None
    keep_from: Index | None = None


class Image:
    """What a disk holds."""

    def __init__(self, membership: Membership | None) -> None:
        self.hard_state = HardState()
        self.machine = Machine(membership=membership)
        self.entries: dict[Index, Entry] = {}
        self.first = Index(1)
        self.last = Index(0)

    def copy(self) -> "Image":
        made = copy(self)
        made.entries = dict(self.entries)
        return made

    def write(self, batch: Batch) -> None:
        if batch.ready is not None:
            self._write_ready(batch.ready, batch.installs)
        if batch.machine is not None:
            self.machine = batch.machine
        if batch.keep_from is not None:
            for number in range(self.first, batch.keep_from):
                del self.entries[Index(number)]
            self.first = batch.keep_from

    def _write_ready(self, ready: Ready, installs: Machine | None) -> None:
        self.hard_state = ready.hard_state or self.hard_state
        if ready.snapshot is not None:
            assert installs is not None
            assert installs.applied == ready.snapshot.last
            self.machine = installs
            self.entries.clear()
            self.first, self.last = Index(ready.snapshot.last.index + 1), ready.snapshot.last.index
        if ready.entries:
            start = ready.entries[0].index
            assert start <= max(self.last, self.machine.applied.index) + 1
            if not self.entries:
                self.first = start
            for number in range(start, self.last + 1):
                del self.entries[Index(number)]
            self.entries |= {entry.index: entry for entry in ready.entries}
            self.last = ready.entries[-1].index

    def holds(self, entry: EntryId) -> bool:
        """Whether this entry, or a state with it in, is here."""
        found = self.entries.get(entry.index)
        return found.term == entry.term if found is not None else entry.index <= self.machine.applied.index

    @property
    def end(self) -> Index:
        """Up to where log and state reach together."""
        return max(self.last, self.machine.applied.index)


class Disk:
    """A ``LogReader``: reads what was written, keeps what was synced."""

    def __init__(self, membership: Membership | None) -> None:
        self.visible = Image(membership)
        self.durable = Image(membership)
        self.under_way: deque[Batch] = deque()

    @property
    def first(self) -> Index:
        return self.visible.first

    @property
    def last(self) -> Index:
        return self.visible.last

    def entry(self, index: Index) -> Entry | None:
        return self.visible.entries.get(index)

    def term(self, index: Index) -> Term | None:
        found = self.visible.entries.get(index)
        return found.term if found is not None else None

    def write(self, batch: Batch) -> None:
        self.visible.write(batch)
        self.under_way.append(batch)

    def sync(self, number: int) -> None:
        """Everything up to hand-over ``number`` is durable."""
        while any(batch.ready is not None and batch.ready.number <= number for batch in self.under_way):
            self.durable.write(self.under_way.popleft())

    def batches_to(self, number: int) -> int:
        """How many batches are under way up to hand-over ``number``."""
        places = [place for place, each in enumerate(self.under_way, 1) if each.ready and each.ready.number <= number]
        return max(places, default=0)

    def crash(self, keep: int = 0) -> None:
        """All is lost that was not synced, but the first ``keep`` batches, which got there without anybody hearing."""
        for _ in range(min(keep, len(self.under_way))):
            self.durable.write(self.under_way.popleft())
        self.under_way.clear()
        if not self.durable.entries:
            self.durable.first, self.durable.last = Index(1), Index(0)
        self.visible = self.durable.copy()
