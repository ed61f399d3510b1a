"""Streams on a ``Kv``: two sides that are never mixed, one cache, and what a dropped stream leaves (nothing)."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import keys, stream_reader
from durable_streams_cluster.storage.dropping import FEW_BYTES, FEW_KEYS
from durable_streams_cluster.storage.kv import Delete, Deleted, DeleteRange, Family, Put, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.stream_reader import StreamReader
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams.meta import Parent, Requested, StreamMeta, StreamRef
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import (
    DropRecords,
    DropStream,
    GroupState,
    MoveExpiry,
    PutGroup,
    PutMeta,
    PutPath,
    PutProducer,
    PutRecord,
    Record,
    Write,
)
from tests.runs import together

GROUP = GroupId(1)
REF = StreamRef(keys.slot_of("s"), 1)


def meta(tail: int = 0, path: str = "s", producers: int = 0) -> StreamMeta:
    requested = Requested(None, None, None, None)
    return StreamMeta(path, "text/plain", requested, 0, 0, tail=tail, producers=producers)


class CountingKv(MemoryKv):
    """Counts what is read: gets, and the bytes of all values handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0
        self.value_bytes = 0

    def get(self, family: Family, key: bytes) -> bytes | None:
        value = super().get(family, key)
        self.gets += 1
        self.value_bytes += len(value or b"")
        return value

    def first_key(self, family: Family, start: bytes, end: bytes) -> bytes | None:
        return next((key for key, _ in MemoryKv.scan(self, family, start, end)), None)

    def scan(self, family: Family, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key, value in super().scan(family, start, end, reverse=reverse):
            self.value_bytes += len(value)
            yield key, value


class Nothing:
    """A ``Kv`` in which nothing is found."""

    def get(self, *_: Any) -> None:
        return None


class Turn:
    """A store and the batch of its turn."""

    def __init__(self, kv: MemoryKv | None = None) -> None:
        self.kv = kv or MemoryKv()
        self.store = StreamStore(self.kv, GROUP)
        self.batch = WriteBatch()

    def stage(self, *writes: Write) -> None:
        self.store.stage(self.batch, writes)

    def end(self, index: int = 1) -> WriteBatch:
        self.store.finish(self.batch, index, 1, 10 * index)
        self.kv.write(self.batch)
        self.store.commit()
        done, self.batch = self.batch, WriteBatch()
        return done

    def data(self) -> list[bytes]:
        return [key for key, _ in self.kv.scan(Family.DATA, b"", b"\xff")]


def filled(records: int = 3, kv: MemoryKv | None = None) -> Turn:
    turn = Turn(kv)
    turn.stage(PutPath("s", REF), PutMeta(REF, meta(records, producers=1)))
    turn.stage(*[PutRecord(REF, Record(end, b"x"), 5) for end in range(1, records + 1)])
    turn.stage(PutProducer(REF, "p", ProducerState(0, 0, (1,))))
    turn.end()
    return turn


def test_the_turn_sees_what_it_staged_and_readers_what_was_committed() -> None:
    turn = filled()
    store, committed = turn.store, turn.store.committed
    turn.stage(
        PutMeta(REF, meta(4)), PutRecord(REF, Record(4, b"y"), 6), PutProducer(REF, "p", ProducerState(1, 0, (4,)))
    )
    turn.stage(PutPath("t", StreamRef(2, 2)), PutGroup(GroupState(9, 9)))
    assert store.meta(REF) == meta(4)
    assert committed.meta(REF) == meta(3, producers=1)
    assert list(store.records_after(REF, 2)) == [Record(3, b"x"), Record(4, b"y")]
    assert list(committed.records_after(REF, 3)) == []
    assert store.record_ends_at(REF, 4)
    assert not committed.record_ends_at(REF, 4)
    assert store.find("t") == StreamRef(2, 2)
    assert committed.find("t") is None
    assert store.group_state() == GroupState(9, 9)
    assert committed.group_state() == GroupState()
    assert [state.epoch for view in (store, committed) if (state := view.producer(REF, "p"))] == [1, 0]
    turn.end(2)
    assert committed.meta(REF) == meta(4)
    assert list(committed.records_after(REF, 3)) == [Record(4, b"y")]
    assert committed.find("t") == StreamRef(2, 2)
    assert committed.applied.group == GroupState(9, 9)


def test_written_but_not_committed_is_not_shown_to_readers_from_the_cache() -> None:
    turn = filled()
    assert turn.store.committed.meta(REF) is not None
    turn.stage(PutMeta(REF, meta(4)))
    turn.store.finish(turn.batch, 2, 1, 20)
    turn.kv.write(turn.batch)
    assert turn.store.committed.meta(REF) == meta(3, producers=1)
    assert turn.store.committed.applied.index == 1
    turn.store.commit()
    assert turn.store.committed.meta(REF) == meta(4)


def test_a_stream_that_moves_often_in_a_turn_is_written_once() -> None:
    turn = filled()
    for end in range(4, 104):
        turn.stage(PutMeta(REF, meta(end)), PutRecord(REF, Record(end, b"x"), 5))
        turn.stage(PutProducer(REF, "p", ProducerState(0, end, (end,))))
    puts = [op.key for op in turn.end(2).ops if isinstance(op, Put)]
    assert puts.count(keys.meta(REF.slot, 0, REF.id)) == 1
    assert puts.count(keys.producer(REF.slot, 0, REF.id, "p")) == 1
    assert len(puts) == 100 + 3


def test_the_applied_state_is_last_and_survives() -> None:
    turn = filled()
    turn.stage(PutGroup(GroupState(5, 7)))
    batch = turn.end(42)
    assert isinstance(batch.ops[-1], Put)
    assert batch.ops[-1].key == keys.group_state(GROUP)
    applied = StreamStore(turn.kv, GROUP).applied
    assert (applied.index, applied.term, applied.cluster_ms, applied.group) == (42, 1, 420, GroupState(5, 7))


def test_records_are_given_in_order_from_a_position() -> None:
    turn = filled(5)
    reader = turn.store.committed
    assert [record.end for record in reader.records_after(REF, 0)] == [1, 2, 3, 4, 5]
    assert [record.end for record in reader.records_after(REF, 3)] == [4, 5]
    assert list(reader.records_after(REF, 5)) == []
    assert list(reader.records_after(StreamRef(REF.slot, 2), 0)) == []
    assert reader.record_ends_at(REF, 5)
    assert not reader.record_ends_at(REF, 6)


def test_whether_a_record_ends_somewhere_is_told_without_its_value() -> None:
    kv = CountingKv()
    reader = filled(5, kv).store.committed
    kv.gets = kv.value_bytes = 0
    assert all(reader.record_ends_at(REF, end) for end in range(1, 6))
    assert kv.gets == kv.value_bytes == 0
    assert not any(reader.record_ends_at(REF, end) for end in (0, 6, 7))


@pytest.mark.parametrize("committed", [True, False])
def test_appends_that_are_stored_together_end_where_each_did(committed: bool) -> None:
    turn = filled(2)
    turn.stage(PutRecord(REF, together(b"abc", b"d", b"ef", begins=2), 7), PutRecord(REF, Record(9, b"g"), 8))
    if committed:
        turn.end(2)
    view = turn.store.committed if committed else turn.store
    assert [end for end in range(11) if view.record_ends_at(REF, end)] == [1, 2, 5, 6, 8, 9]
    whole = [b"x", b"x", b"abc", b"d", b"ef", b"g"]
    for place, start in enumerate((0, 1, 2, 5, 6, 8)):
        assert [body for record in view.records_after(REF, start) for body in record.appends] == whole[place:]


def test_what_is_kept_of_appends_that_are_stored_together() -> None:
    turn = filled(2)
    turn.stage(PutRecord(REF, together(b"abc", b"d", b"ef", begins=2), 7), PutRecord(REF, Record(9, b"g"), 8))
    turn.end(2)
    reader = turn.store.committed
    assert [reader.last_end(REF, at) for at in range(11)] == [None, 1, 2, 2, 2, 5, 6, 6, 8, 9, 9]
    ends = [(1, 5), (2, 5), (5, 7), (5, 7), (5, 7), (6, 7), (8, 7), (8, 7), (9, 8), None]
    assert [reader.end_and_time(REF, at) for at in range(10)] == ends
    turn.stage(DropRecords(REF, 0, 6))
    turn.end(3)
    assert list(reader.records_after(REF, 6)) == [Record(8, b"ef"), Record(9, b"g")]
    assert next(reader.records_after(REF, 0)).appends == [b"abc", b"d", b"ef"], "whole, until its end goes"
    turn.stage(DropRecords(REF, 6, 8))
    turn.end(4)
    assert list(reader.records_after(REF, 0)) == [Record(9, b"g")]


def test_a_scan_of_records_is_as_of_its_call() -> None:
    turn = filled(2)
    scan = turn.store.committed.records_after(REF, 0)
    next(scan)
    turn.stage(PutRecord(REF, Record(3, b"x"), 5))
    turn.end(2)
    assert [record.end for record in scan] == [2]


@pytest.mark.parametrize(
    ("records", "by_range"), [(3, False), (FEW_KEYS - 2, False), (FEW_KEYS - 1, True), (500, True)]
)
def test_a_dropped_stream_leaves_nothing(records: int, by_range: bool) -> None:
    turn = filled(records)
    neighbours = [StreamRef(REF.slot, REF.id + 1), StreamRef(REF.slot + 1, REF.id)]
    for number, ref in enumerate(neighbours):
        turn.stage(PutPath(f"n{number}", ref), PutMeta(ref, meta(1)), PutRecord(ref, Record(1, b"n"), 5))
    turn.stage(MoveExpiry(REF, "s", wall=False, old_due=None, new_due=7))
    turn.end(2)
    turn.stage(MoveExpiry(REF, "s", wall=False, old_due=7, new_due=None), DropStream(REF, meta(records)))
    assert turn.store.find("s") is None
    assert turn.store.meta(REF) is None
    assert turn.store.committed.find("s") == REF
    batch = turn.end(3)
    assert any(isinstance(op, DeleteRange) for op in batch.ops) is by_range
    assert by_range or sum(isinstance(op, Delete) for op in batch.ops) == records + 5
    assert turn.store.committed.find("s") is None
    assert turn.store.committed.producer(REF, "p") is None
    assert len(turn.data()) == 1 + 2 * 4, "the counters, and two neighbours"


def test_a_stream_made_and_dropped_in_one_turn_leaves_nothing() -> None:
    turn = Turn()
    turn.stage(PutPath("s", REF), PutMeta(REF, meta(1)), PutRecord(REF, Record(1, b"x"), 5))
    turn.stage(PutProducer(REF, "p", ProducerState(0, 0, (1,))), DropStream(REF, meta(1)))
    assert list(turn.store.records_after(REF, 0)) == []
    again = StreamRef(REF.slot, 2)
    turn.stage(PutPath("s", again), PutMeta(again, meta(0)))
    assert turn.store.find("s") == again
    assert list(turn.store.records_after(again, 0)) == []
    turn.end()
    assert len(turn.data()) == 4
    assert turn.store.committed.find("s") == StreamReader(turn.kv, GROUP).find("s") == again


@pytest.mark.parametrize("start", [0, 10 * FEW_BYTES])
@pytest.mark.parametrize("last", [FEW_BYTES // 2, FEW_BYTES // 2 + 1])
def test_a_long_stream_is_not_read_to_be_dropped(start: int, last: int) -> None:
    """What counts is the data of its own: not what a fork inherits."""
    kv = CountingKv()
    turn = Turn(kv)
    ends = [start + FEW_BYTES // 2, start + FEW_BYTES // 2 + last]
    parent = Parent(StreamRef(REF.slot, 9), "parent", start, 1) if start else None
    fork = replace(meta(ends[-1]), parent=parent)
    turn.stage(PutPath("s", REF), PutMeta(REF, fork), PutProducer(REF, "p", ProducerState(0, 0, (1,))))
    turn.stage(
        PutRecord(REF, Record(ends[0], bytes(FEW_BYTES // 2)), 5), PutRecord(REF, Record(ends[1], bytes(last)), 5)
    )
    turn.end()
    kv.value_bytes = 0
    turn.stage(DropStream(REF, fork))
    by_range = any(isinstance(op, DeleteRange) for op in turn.batch.ops)
    assert by_range is (last > FEW_BYTES // 2)
    assert (kv.value_bytes == 0) is by_range
    assert any(isinstance(op, Deleted) for op in turn.batch.ops) is not by_range, "to be reclaimed either way"
    turn.end(2)
    assert turn.data() == [keys.group_state(GROUP)]


@pytest.mark.parametrize("with_record", [False, True])
def test_what_a_turn_staged_for_a_stream_it_drops_never_reaches_the_batch(with_record: bool) -> None:
    """But records, which a range deletion behind them takes back; and what was written of it before goes too."""
    turn = filled()
    neighbour = StreamRef(REF.slot, REF.id + 1)
    for ref in (REF, neighbour):
        turn.stage(PutMeta(ref, meta(4, producers=2)))
        for producer_id in ("p", "q"):
            turn.stage(PutProducer(ref, producer_id, ProducerState(1, 0, (4,))))
    if with_record:
        turn.stage(PutRecord(REF, Record(4, b"y"), 6))
    turn.stage(DropStream(REF, meta(4, producers=2)))
    batch = turn.end(2)
    start, end = keys.stream_range(REF.slot, 0, REF.id)
    puts = [op.key for op in batch.ops if isinstance(op, Put) and start <= op.key < end]
    assert puts == ([keys.record(REF.slot, 0, REF.id, 4)] if with_record else [])
    assert any(isinstance(op, DeleteRange) for op in batch.ops) is with_record
    of_neighbour = [keys.producer(neighbour.slot, 0, neighbour.id, each) for each in "pq"]
    expected = [keys.group_state(GROUP), keys.meta(neighbour.slot, 0, neighbour.id), *of_neighbour]
    assert turn.data() == expected
    for view in (turn.store, turn.store.committed):
        assert [view.producer(REF, each) for each in "pq"] == [None, None]
        assert [view.producer(neighbour, each) for each in "pq"] == [ProducerState(1, 0, (4,))] * 2


def test_a_stream_is_dropped_in_the_time_its_own_producers_take() -> None:
    """However many other streams have producers, in the cache or in this turn."""
    compared = 0

    class CountingRef(StreamRef, frozen=True, array_like=True):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return super().__eq__(other)

        __hash__ = StreamRef.__hash__

    turn = Turn()
    refs = [CountingRef(3, number) for number in range(1, 1001)]
    for index in (1, 2):
        for ref in refs:
            turn.stage(PutMeta(ref, meta(0, producers=1)), PutProducer(ref, "p", ProducerState(0, index, (0,))))
        if index == 1:
            turn.end()
    compared = 0
    for ref in refs[:10]:
        turn.stage(DropStream(ref, meta(0, producers=1)))
    turn.end(2)
    assert compared < 1000
    assert [number for number in range(1000) if turn.store.committed.producer(refs[number], "p")] == [*range(10, 1000)]


def test_the_cache_of_producers_is_bounded_over_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_reader, "CACHED", 4)
    turn = Turn()
    pairs = [(StreamRef(3, number), each) for number in (1, 2) for each in "abc"]

    def put(index: int, *some: tuple[StreamRef, str]) -> None:
        turn.stage(*[PutMeta(ref, meta(0, f"s{ref.id}", producers=3)) for ref, _ in some])
        turn.stage(*[PutProducer(ref, each, ProducerState(0, index, (0,))) for ref, each in some])
        turn.end(index)

    def cached() -> list[str]:
        """Told from a reading that leaves the cache as it was."""
        committed = turn.store.committed
        with monkeypatch.context() as patch:
            patch.setattr(committed, "_kv", Nothing())
            return [f"{ref.id}{each}" for ref, each in pairs if committed.producer(ref, each) is not None]

    put(1, *pairs)
    assert cached() == ["1c", "2a", "2b", "2c"]
    put(2, *pairs[2:], *pairs[2:])
    assert cached() == ["1c", "2a", "2b", "2c"]
    put(3, pairs[0])
    assert cached() == ["1a", "1c", "2b", "2c"]
    turn.stage(DropStream(StreamRef(3, 2), meta(0, "s2", producers=3)))
    turn.end(4)
    assert cached() == ["1a", "1c"]
    assert [turn.store.committed.producer(*pair) is not None for pair in pairs] == [True] * 3 + [False] * 3
    assert cached() == ["1a", "1b", "1c"]
    pairs.extend((StreamRef(3, 3), each) for each in "abc")
    put(5, *pairs[6:])
    assert cached() == ["1b", "3a", "3b", "3c"]


def test_due_streams_come_oldest_first_and_no_more_than_asked() -> None:
    turn = Turn()
    refs = [StreamRef(3, number) for number in range(1, 6)]
    for number, ref in enumerate(refs):
        turn.stage(MoveExpiry(ref, f"s{number}", wall=False, old_due=None, new_due=50 - number))
        turn.stage(MoveExpiry(ref, f"w{number}", wall=True, old_due=None, new_due=number))
    turn.end()
    due = turn.store.committed.due
    assert [path for _, path, _ in due(wall=False, until_ms=48, limit=10)] == ["s4", "s3", "s2"]
    assert [path for _, path, _ in due(wall=False, until_ms=48, limit=2)] == ["s4", "s3"]
    assert due(wall=False, until_ms=45, limit=10) == []
    assert due(wall=True, until_ms=1, limit=10) == [(0, "w0", refs[0]), (1, "w1", refs[1])]


def test_a_small_cache_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_reader, "CACHED", 2)
    turn = Turn()
    refs = [StreamRef(keys.slot_of(f"s{number}"), number) for number in range(1, 8)]
    for number, ref in enumerate(refs, 1):
        turn.stage(PutPath(f"s{number}", ref), PutMeta(ref, meta(0, f"s{number}")))
        turn.stage(PutProducer(ref, "p", ProducerState(0, number, (0,))))
        turn.end(number)
    for _ in range(2):
        for number, ref in enumerate(refs, 1):
            assert turn.store.find(f"s{number}") == ref
            found, state = turn.store.meta(ref), turn.store.producer(ref, "p")
            assert found is not None
            assert state is not None
            assert (found.path, state.seq) == (f"s{number}", number)
