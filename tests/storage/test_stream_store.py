"""Streams on a ``Kv``: two sides that are never mixed, one cache, and what a dropped stream leaves (nothing)."""

import pytest

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import keys, stream_store
from durable_streams_cluster.storage.kv import Delete, DeleteRange, Family, Put, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.stream_store import FEW_KEYS, StreamReader, StreamStore
from durable_streams_cluster.streams.meta import Requested, StreamMeta, StreamRef
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import (
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

GROUP = GroupId(1)
REF = StreamRef(keys.slot_of("s"), 1)


def meta(tail: int = 0, path: str = "s", producers: int = 0) -> StreamMeta:
    requested = Requested(None, None, None, None)
    return StreamMeta(path, "text/plain", requested, 0, 0, tail=tail, producers=producers)


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


def filled(records: int = 3) -> Turn:
    turn = Turn()
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
    monkeypatch.setattr(stream_store, "CACHED", 2)
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
