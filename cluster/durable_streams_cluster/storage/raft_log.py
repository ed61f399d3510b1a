"""Entries and hard state of one group on a ``Kv``: what the Raft core reads back, and what a turn stages."""

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import GroupId, Index, Term
from durable_streams_cluster.raft import Entry, HardState, Ready
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch


class RaftLogStore:
    """A ``raft.LogReader`` for one group. The log on disk is ``first`` .. ``last``, without a hole."""

    def __init__(self, kv: KvView, group: GroupId) -> None:
        """Read the bounds of the log.

        Raises:
            CorruptData: an entry is missing between the first and the last.

        """
        self._kv = kv
        self._group = group
        low, high = keys.entry(group, 0), keys.entry(group, keys.MAX_U64)
        first = next(iter(kv.scan(Family.LOG, low, high)), None)
        last = next(iter(kv.scan(Family.LOG, low, high, reverse=True)), None)
        self.first = Index(keys.entry_index(first[0]) if first else 1)
        self.last = Index(keys.entry_index(last[0]) if last else 0)

    def hard_state(self) -> HardState:
        """Term and vote as last stored; the initial ones on an empty disk."""
        value = self._kv.get(Family.LOG, keys.hard_state(self._group))
        if value is None:
            if self.last:
                raise CorruptData(f"group {self._group} has a log but no term: restore this node")
            return HardState()
        return codecs.decode_hard_state(self._group, value)

    def term(self, index: Index) -> Term | None:
        """The term of a stored entry, None outside the log."""
        entry = self.entry(index)
        return entry.term if entry is not None else None

    def entry(self, index: Index) -> Entry | None:
        """One stored entry, None outside the log; raises ``CorruptData``."""
        if not self.first <= index <= self.last:
            return None
        value = self._kv.get(Family.LOG, keys.entry(self._group, index))
        if value is None:
            raise CorruptData(f"log entry {index} of group {self._group} is missing between its neighbours")
        return codecs.decode_entry(self._group, index, value)

    def stage(self, batch: WriteBatch, ready: Ready) -> None:
        """Put what ``ready`` must persist into the turn's batch."""
        if ready.hard_state is not None:
            batch.put(Family.LOG, keys.hard_state(self._group), codecs.encode_hard_state(ready.hard_state))
        if ready.snapshot is not None:
            batch.delete_range(Family.LOG, keys.entry(self._group, 0), keys.entry(self._group, self.last + 1))
            self.last = ready.snapshot.last.index
            self.first = Index(self.last + 1)
        if ready.entries and ready.entries[-1].index < self.last:
            # Another leader's entries take the place of some here, and there are fewer of them.
            start, end = keys.entry(self._group, ready.entries[-1].index + 1), keys.entry(self._group, self.last + 1)
            batch.delete_range(Family.LOG, start, end)
            self.last = ready.entries[-1].index
        if ready.entries and self.first > self.last:
            self.first = ready.entries[0].index  # Empty, it began anywhere: behind what a snapshot had brought.
        for entry in ready.entries:
            batch.put(Family.LOG, keys.entry(self._group, entry.index), codecs.encode_entry(entry))
            self.last = max(self.last, entry.index)

    def compact(self, batch: WriteBatch, keep_from: Index) -> None:
        """Drop the entries before ``keep_from``; their effect is in the state that the same log of writes holds."""
        if keep_from > self.first:
            batch.delete_range(Family.LOG, keys.entry(self._group, self.first), keys.entry(self._group, keep_from))
            self.first = keep_from
