"""The log as the core sees it: what the disk holds, and the newest entries that it may not hold yet."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft.messages import NOTHING, Entry, EntryId

READ_AT_ONCE = 64
"""Entries read from disk for one message, at most: 2.5 µs each (measured; of 600 bytes, in RocksDB's memory)."""


class LogReader(Protocol):
    """What storage offers: the log on disk, ``first`` to ``last`` without a hole; empty when ``first > last``.

    It holds what was handed over up to now, whether it is durable or not.
    """

    @property
    def first(self) -> Index:
        """Index of the oldest entry kept."""
        ...

    @property
    def last(self) -> Index:
        """Index of the newest entry."""
        ...

    def entry(self, index: Index) -> Entry | None:
        """One entry, None outside the log."""
        ...

    def term(self, index: Index) -> Term | None:
        """The term of one entry; also of the one before ``first``, if that is known. None elsewhere."""
        ...


class RaftLog:
    """The newest entries in memory, older ones on disk, and the marks between them.

    In memory is every entry that is not applied, and behind it up to ``cache_bytes`` of those that are, for followers
    that are a little late.

    Invariants (``check``):

    1. applied <= committed <= last, and durable <= handed <= last.
    2. What is in memory is without a hole, ends at ``last``, and reaches back to ``applied`` at least.
    3. Nothing at or below ``committed`` is ever truncated.
    4. The disk is asked for nothing that is in memory, nor for what a snapshot replaced: it may still hold that.
    """

    def __init__(self, reader: LogReader, applied: EntryId, cache_bytes: int = 0) -> None:
        """Load what is durable but not applied; ``applied`` comes from the state, stored with it in one batch."""
        self._reader = reader
        self._cache_bytes = cache_bytes
        self.applied = applied.index
        self.committed = applied.index
        self._applied_term = applied.term
        self._restored = NOTHING
        """What the last snapshot held that was taken since the start: nothing before it can be read any more."""
        self.last = max(reader.last, applied.index)
        self.handed = self.last
        self.durable = self.last
        self._handed_committed = applied.index
        self._tail: list[Entry] = []
        self._kept_bytes = 0
        """Of the applied entries in ``_tail``."""
        self._outstanding: deque[tuple[int, Index, Index]] = deque()
        """Hand-overs that are not durable: number, the first index that it rewrites (above all: none), and its last."""
        self._rewritten: Index | None = None
        """The first index that the next hand-over rewrites, if that was handed over before."""
        for number in range(applied.index + 1, reader.last + 1):
            entry = reader.entry(Index(number))
            assert entry is not None, "the log has no hole"
            self._tail.append(entry)
        self.last_term = self._tail[-1].term if self._tail else (reader.term(self.last) or applied.term)

    @property
    def newest(self) -> EntryId:
        """The last entry."""
        return EntryId(self.last_term, self.last)

    @property
    def first(self) -> Index:
        """The oldest entry that can be read, in memory or on disk."""
        in_memory, on_disk = self._first_in_memory, self._reader.first
        reaches = on_disk <= self._reader.last and self._reader.last + 1 >= in_memory
        return Index(max(on_disk, self._restored.index + 1)) if reaches and on_disk < in_memory else in_memory

    @property
    def _first_in_memory(self) -> Index:
        return Index(self.last - len(self._tail) + 1)

    # ------------------------------------------------------------------------------------------------------- reading

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry; 0 of the one before the first ever; None of one that is not there any more, or yet."""
        if index == self.last:
            return self.last_term
        if index == 0:
            return Term(0)
        if index >= self._first_in_memory:
            return self._tail[index - self._first_in_memory].term if index < self.last else None
        if index == self.applied:
            return self._applied_term
        if index == self._restored.index:
            return self._restored.term
        return self._reader.term(index) if index > self._restored.index else None

    def has(self, entry: EntryId) -> bool:
        """Whether this entry is in the log, as far as it is not compacted away."""
        return self.term_at(entry.index) == entry.term

    def reaches(self, index: Index) -> bool:
        """Whether what follows ``index`` can be sent to somebody who has this entry."""
        return index + 1 >= self.first and self.term_at(index) is not None

    def entries(self, start: Index, max_bytes: int) -> list[Entry] | None:
        """Entries from ``start`` on: at least one if there is one, then up to ``max_bytes``; None if it is gone."""
        if start < self.first:
            return None
        found: list[Entry] = []
        size = 0
        for entry in self._from(start):
            size += len(entry.data)
            if found and size > max_bytes:
                break
            found.append(entry)
        return found

    def _from(self, start: Index) -> Iterator[Entry]:
        in_memory = self._first_in_memory
        read_to = min(in_memory, start + READ_AT_ONCE)
        for number in range(start, read_to):
            entry = self._reader.entry(Index(number))
            assert entry is not None, "the log has no hole"
            yield entry
        if read_to >= in_memory:
            for place in range(max(start, in_memory) - in_memory, len(self._tail)):
                yield self._tail[place]

    def remembers(self, index: Index) -> bool:
        """Whether this entry and those behind it are in memory."""
        return index >= self._first_in_memory

    def conflict_hint(self, previous: EntryId) -> EntryId:
        """The newest entry here that a leader with ``previous`` may have, too.

        Terms only grow along a log: what is here of a later term than ``previous``, the leader has not at that index.
        """
        index = Index(min(previous.index - 1, self.last))
        while index > self.committed and (self.term_at(index) or 0) > previous.term:
            index = Index(index - 1)
        return EntryId(self.term_at(index) or Term(0), index) if index > 0 else NOTHING

    def common(self, hint: EntryId) -> Index:
        """The newest index here that a follower may have, too, whose newest possible common entry is ``hint``."""
        index = Index(min(hint.index, self.last))
        while index > 0:
            term = self.term_at(index)
            if term is None or term <= hint.term:
                break
            index = Index(index - 1)
        return index

    # ------------------------------------------------------------------------------------------------------- changing

    def append(self, entry: Entry) -> None:
        """Add one entry."""
        assert entry.index == self.last + 1
        assert entry.term >= self.last_term
        self._tail.append(entry)
        self.last = entry.index
        self.last_term = entry.term

    def merge(self, entries: Sequence[Entry]) -> Index | None:
        """Take a leader's entries, of which the one before the first is here.

        Only a conflict truncates: entries that are here already may come late, or twice, and what is behind them may be
        newer than the message.

        Returns:
            The first index that was truncated, if any.

        """
        cut: Index | None = None
        for place, entry in enumerate(entries):
            if entry.index <= self.last:
                known = self.term_at(entry.index)
                if known == entry.term or (known is None and entry.index <= self.applied):
                    continue
                self._truncate(entry.index)
                cut = entry.index
            for fresh in entries[place:]:
                self.append(fresh)
            break
        return cut

    def _truncate(self, index: Index) -> None:
        assert index > self.committed, f"entry {index} is committed, and a leader has another one"
        while self.last >= index:
            self._tail.pop()
            self.last = Index(self.last - 1)
        self.last_term = self._tail[-1].term if self._tail else self._applied_term
        if index <= self.handed:
            self._rewritten = index if self._rewritten is None else min(index, self._rewritten)
        self.handed = min(self.handed, self.last)
        self.durable = min(self.durable, self.last)

    def restore(self, last: EntryId) -> None:
        """Begin anew behind a snapshot; everything up to ``last`` is in the state that it brings."""
        assert last.index > self.committed
        self._tail.clear()
        self._kept_bytes = 0
        # What was committed is still durable, if not as entries; what was behind it is replaced.
        self.durable = min(self.durable, self.committed)
        self.last, self.last_term = last.index, last.term
        self.committed = self.applied = self.handed = self._handed_committed = last.index
        self._applied_term = last.term
        self._restored = last
        self._rewritten = Index(0)

    # ------------------------------------------------------------------------------------------------------- marks

    def hand_out(self, number: int) -> tuple[Entry, ...]:
        """The entries that were never handed to the disk, or not since they were replaced, in hand-over ``number``."""
        fresh = self._slice(self.handed, self.last)
        if fresh or self._rewritten is not None:
            rewritten = self._rewritten if self._rewritten is not None else Index(self.last + 1)
            self._outstanding.append((number, rewritten, self.last))
            self._rewritten = None
        self.handed = self.last
        return fresh

    def persisted(self, number: int) -> None:
        """Hand-overs up to ``number`` are durable: so is what no later one rewrites."""
        reached: Index | None = None
        while self._outstanding and self._outstanding[0][0] <= number:
            reached = self._outstanding.popleft()[2]
        if reached is None:
            return
        rewritten = [first for _, first, _ in self._outstanding]
        if self._rewritten is not None:
            rewritten.append(self._rewritten)
        stable = min([reached, self.handed, *(Index(first - 1) for first in rewritten)])
        self.durable = max(self.durable, stable)

    def commit_to(self, index: Index) -> None:
        """Everything up to ``index`` is committed; never less than before."""
        assert index <= self.last
        self.committed = max(self.committed, index)

    def hand_out_committed(self, max_bytes: int | None = None) -> tuple[Entry, ...]:
        """Committed entries that were never handed out to be applied: one at least, then up to ``max_bytes``."""
        upto = self.committed
        if max_bytes is not None:
            size = 0
            for entry in self._slice(self._handed_committed, self.committed):
                size += len(entry.data)
                if size > max_bytes and entry.index > self._handed_committed + 1:
                    upto = Index(entry.index - 1)
                    break
        fresh = self._slice(self._handed_committed, upto)
        self._handed_committed = upto
        return fresh

    def unapplied(self) -> tuple[Entry, ...]:
        """The entries that are not in the state."""
        return self._slice(self.applied, self.last)

    @property
    def has_committed(self) -> bool:
        """Whether ``hand_out_committed`` has anything."""
        return self.committed > self._handed_committed

    def mark_applied(self, index: Index) -> None:
        """The caller applied everything up to ``index``: memory beyond the cache is released.

        What it applied before a snapshot took the place of that may be told late.
        """
        assert index <= self.committed
        if index <= self._restored.index:
            return
        assert index >= self.applied
        for entry in self._slice(self.applied, index):
            self._kept_bytes += _cost(entry)
            self._applied_term = entry.term
        self.applied = index
        released = 0
        while self._kept_bytes > self._cache_bytes:
            self._kept_bytes -= _cost(self._tail[released])
            released += 1
        del self._tail[:released]

    def _slice(self, after: Index, upto: Index) -> tuple[Entry, ...]:
        if after >= upto:
            return ()
        first = self._first_in_memory
        assert after >= first - 1
        return tuple(self._tail[after - first + 1 : upto - first + 1])

    def check(self) -> None:
        """Assert the invariants."""
        assert self.applied <= self.committed <= self.last
        assert self.durable <= self.handed <= self.last
        assert self._first_in_memory <= self.applied + 1
        assert self._restored.index <= self.applied
        for place, entry in enumerate(self._tail):
            assert entry.index == self._first_in_memory + place


def _cost(entry: Entry) -> int:
    """Bytes of an entry in memory, about."""
    return len(entry.data) + 128
