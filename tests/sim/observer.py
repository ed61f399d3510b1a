"""What must hold between nodes whatever happens, watched write by write; and the marks of what was seen happen."""

from collections import Counter
from typing import TYPE_CHECKING
from zlib import crc32

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.raft import BecameLeader, Event, LeaderChanged, SnapshotNeeded, SteppedDown, Truncated
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.codecs import decode_applied, decode_entry, decode_hard_state
from durable_streams_cluster.storage.kv import Delete, DeleteRange, Family, Put, WriteBatch

if TYPE_CHECKING:
    from tests.sim.node import Life, Node

GROUP = 1
STATE = keys.group_state(GROUP)
HARD = keys.hard_state(GROUP)
ENTRY = keys.entry(GROUP, 0)[:5]


class _Seen:
    """What one node's disk shows."""

    def __init__(self) -> None:
        self.log: dict[int, bytes] = {}
        self.applied = 0
        self.data: dict[bytes, int] = {}
        self.sum = 0
        """Of all that is in ``data``; two replicas that applied as much have the same."""
        self.leads: Term | None = None


class Observer:
    """Raises AssertionError at the first thing that must not be."""

    def __init__(self) -> None:
        self.marks: Counter[str] = Counter()
        self._seen: dict[NodeId, _Seen] = {}
        self._committed: dict[int, bytes] = {}
        self._stamps: dict[int, int] = {}
        self._sums: dict[int, int] = {0: 0}
        self._leaders: dict[Term, NodeId] = {}
        self.top = 0
        """The newest index that any node applied."""

    # ---------------------------------------------------------------------------------------------------------- writes

    def starts(self, node: "Node") -> None:
        """A node's disk is looked at anew: it may have lost some."""
        seen = self._seen[node.name] = _Seen()
        for batch in node.disk.batches:
            self._take(seen, batch)
        expected = self._sums.get(seen.applied)
        assert expected is None or expected == seen.sum, f"{node.name} starts with other data than it had"

    def written(self, node: "Node", batch: WriteBatch) -> None:
        """A node writes: the same entries are committed everywhere, and do the same everywhere."""
        seen = self._seen[node.name]
        before = seen.applied
        self._take(seen, batch)
        for index in range(before + 1, seen.applied + 1):
            entry = seen.log.get(index)
            assert entry is not None, f"{node.name} applied entry {index}, which it does not have"
            known = self._committed.setdefault(index, entry)
            assert known == entry, f"{node.name} applied another entry {index} than others"
            if index > self.top:
                self.top = index
                stamp = self._stamps[index] = decode_entry(GROUP, index, entry).cluster_ms
                last = self._stamps.get(index - 1, 0)
                assert stamp >= last, f"cluster time goes back from {last} to {stamp} in entry {index}"
        if seen.applied != before:
            known_sum = self._sums.setdefault(seen.applied, seen.sum)
            assert known_sum == seen.sum, f"{node.name} did something else than others up to entry {seen.applied}"

    def _take(self, seen: _Seen, batch: WriteBatch) -> None:
        for op in batch.ops:
            if op.family is Family.LOG:
                self._take_log(seen, op)
            elif isinstance(op, Put):
                if op.key == STATE:
                    seen.applied = decode_applied(op.value).index
                else:
                    piece = crc32(op.value, crc32(op.key))
                    seen.sum += piece - seen.data.get(op.key, 0)
                    seen.data[op.key] = piece
            elif isinstance(op, Delete):
                seen.sum -= seen.data.pop(op.key, 0)
            elif isinstance(op, DeleteRange):
                for key in [key for key in seen.data if op.start <= key < op.end]:
                    seen.sum -= seen.data.pop(key)

    def _take_log(self, seen: _Seen, op: object) -> None:
        if isinstance(op, Put) and op.key != HARD:
            seen.log[keys.entry_index(op.key)] = op.value
        elif isinstance(op, DeleteRange):
            start, end = keys.entry_index(op.start), keys.entry_index(op.end)
            if start <= seen.applied:
                self.marks["compaction"] += 1
            for index in range(start, end):
                seen.log.pop(index, None)

    # ---------------------------------------------------------------------------------------------------------- events

    def events(self, life: "Life", events: list[Event]) -> None:
        """What the Raft core tells."""
        name = life.node.name
        for event in events:
            life.node.world.note(name, event)
            match event:
                case BecameLeader():
                    other = self._leaders.setdefault(event.term, name)
                    assert other == name, f"{name} and {other} both lead in term {event.term}"
                    if len(self._leaders) > 1:
                        self.marks["leader change"] += 1
                    self._is_complete(life)
                case SteppedDown():
                    self.marks[f"stepped down: {_short(event.reason)}"] += 1
                case Truncated():
                    self.marks["truncation"] += 1
                case SnapshotNeeded():
                    self.marks["snapshot needed"] += 1
                case LeaderChanged():
                    pass

    def _is_complete(self, life: "Life") -> None:
        """A new leader has every committed entry (Raft: leader completeness)."""
        log, name = self._seen[life.node.name].log, life.node.name
        first = min(log, default=1)
        for index in range(max(first, self.top - 200), self.top + 1):
            assert log.get(index) == self._committed.get(index), f"{name} leads without the committed entry {index}"


def _short(reason: str) -> str:
    for words in ("disk", "majority"):
        if words in reason:
            return words
    return "a later term"


__all__ = ["Observer", "decode_hard_state"]
