"""The log as the core sees it: what the disk holds, and the newest entries that it may not hold yet."""

from collections import deque
from itertools import islice
from typing import Protocol

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft.messages import Entry


class LogReader(Protocol):
    """What storage offers: the durable log at start, ``first`` .. ``last`` without a hole."""

    @property
    def first(self) -> Index:
        """Index of the oldest entry kept, one above ``last`` when empty."""
        ...

    @property
    def last(self) -> Index:
        """Index of the newest entry, 0 when nothing was ever written."""
        ...

    def entry(self, index: Index) -> Entry | None:
        """One entry, None outside the log."""
        ...

    def term(self, index: Index) -> Term | None:
        """The term of one entry, None outside the log."""
        ...


class RaftLog:
    """Entries in memory from the first that is not applied, and three marks: handed out, durable, committed.

    Invariants (``check``): applied <= committed <= last; durable <= handed <= last.
    """

    def __init__(self, reader: LogReader, applied: Index) -> None:
        """Load what is durable but not applied; ``applied`` comes from the state, stored with it in one batch."""
        self.last = max(reader.last, applied)
        self.last_term = reader.term(reader.last) or Term(0)
        self.durable = self.last
        self.handed = self.last
        self.committed = applied
        self.applied = applied
        self._handed_committed = applied
        self._tail: deque[Entry] = deque()
        for number in range(applied + 1, reader.last + 1):
            entry = reader.entry(Index(number))
            assert entry is not None, "the log has no hole"
            self._tail.append(entry)

    def append(self, entry: Entry) -> None:
        """Add an entry of the leader's own."""
        assert entry.index == self.last + 1
        assert entry.term >= self.last_term
        self._tail.append(entry)
        self.last = entry.index
        self.last_term = entry.term

    def hand_out(self) -> tuple[Entry, ...]:
        """The entries that were never handed to the disk."""
        fresh = self._slice(self.handed, self.last)
        self.handed = self.last
        return fresh

    def hand_out_committed(self) -> tuple[Entry, ...]:
        """The committed entries that were never handed out to be applied."""
        fresh = self._slice(self._handed_committed, self.committed)
        self._handed_committed = self.committed
        return fresh

    def mark_applied(self, index: Index) -> None:
        """The caller applied everything up to ``index``: memory for it is released."""
        assert self.applied <= index <= self.committed
        while self._tail and self._tail[0].index <= index:
            self._tail.popleft()
        self.applied = index

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry still in memory."""
        if index == self.last:
            return self.last_term
        offset = index - self.applied - 1
        return self._tail[offset].term if 0 <= offset < len(self._tail) else None

    def _slice(self, after: Index, upto: Index) -> tuple[Entry, ...]:
        if after >= upto:
            return ()
        skip = after - self.applied
        return tuple(islice(self._tail, skip, upto - self.applied))

    def check(self) -> None:
        """Assert the invariants."""
        assert self.applied <= self.committed <= self.last
        assert self.durable <= self.handed <= self.last
