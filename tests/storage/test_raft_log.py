"""The Raft log on a ``Kv``: bounds, holes, hard state, compaction."""

import pytest

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import Entry, EntryKind, HardState, Ready, entry_crc
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.kv import Family, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.raft_log import RaftLogStore

GROUP = GroupId(1)
VOTE = HardState(Term(2), NodeId("n1"))


def entry(index: int, term: int = 2, group: int = GROUP) -> Entry:
    bare = Entry(Term(term), Index(index), EntryKind.COMMANDS, 1, 5, 6, b"data %d" % index)
    return Entry(Term(term), Index(index), EntryKind.COMMANDS, 1, 5, 6, bare.data, entry_crc(group, bare))


def stored(kv: MemoryKv, *indexes: int, hard_state: HardState | None = VOTE, group: GroupId = GROUP) -> RaftLogStore:
    log, batch = RaftLogStore(kv, group), WriteBatch()
    log.stage(batch, Ready(1, hard_state, entries=tuple(entry(index, group=group) for index in indexes)))
    kv.write(batch)
    return log


def test_an_empty_log() -> None:
    log = RaftLogStore(MemoryKv(), GROUP)
    assert (log.first, log.last) == (1, 0)
    assert log.hard_state() == HardState()
    assert log.entry(Index(0)) is log.entry(Index(1)) is log.term(Index(1)) is None


def test_what_was_staged_and_written_is_read_back() -> None:
    kv = MemoryKv()
    for log in (stored(kv, 1, 2, 3), RaftLogStore(kv, GROUP)):
        assert (log.first, log.last) == (1, 3)
        assert log.hard_state() == VOTE
        assert [log.entry(Index(index)) for index in range(5)] == [None, entry(1), entry(2), entry(3), None]
        assert log.term(Index(3)) == 2


def test_staging_writes_nothing_by_itself_and_only_what_is_there() -> None:
    kv, batch = MemoryKv(), WriteBatch()
    RaftLogStore(kv, GROUP).stage(batch, Ready(1, None, entries=()))
    assert not batch
    RaftLogStore(kv, GROUP).stage(batch, Ready(1, VOTE, entries=(entry(1),)))
    assert len(batch.ops) == 2
    assert RaftLogStore(kv, GROUP).last == 0


def test_groups_do_not_see_each_other() -> None:
    kv = MemoryKv()
    stored(kv, 1, 2)
    stored(kv, 1, 2, 3, 4, group=GroupId(2), hard_state=HardState(Term(9), None))
    assert RaftLogStore(kv, GROUP).last == 2
    other = RaftLogStore(kv, GroupId(2))
    assert (other.last, other.hard_state().term) == (4, 9)
    assert RaftLogStore(kv, GroupId(3)).last == 0


def test_compaction_drops_the_beginning_and_keeps_the_end() -> None:
    kv = MemoryKv()
    log = stored(kv, *range(1, 11))
    stored(kv, *range(1, 4), group=GroupId(2))
    for keep_from in (6, 6, 3):  # never backwards
        batch = WriteBatch()
        log.compact(batch, Index(keep_from))
        kv.write(batch)
    for each in (log, RaftLogStore(kv, GROUP)):
        assert (each.first, each.last) == (6, 10)
        assert each.entry(Index(5)) is None
        assert each.entry(Index(6)) == entry(6)
    assert RaftLogStore(kv, GroupId(2)).first == 1


def test_a_log_that_is_empty_behind_a_snapshot_begins_with_the_next_entry() -> None:
    """Started anew in between, nothing says any more where it was: the entries before are not there to be sent."""
    kv = MemoryKv()
    log = stored(kv, 8, 9)
    for each in (log, RaftLogStore(kv, GROUP)):
        assert (each.first, each.last) == (8, 9)
        assert each.entry(Index(1)) is each.entry(Index(7)) is None
        assert each.entry(Index(8)) == entry(8)


def test_a_log_without_its_vote_is_refused() -> None:
    kv = MemoryKv()
    stored(kv, 1, hard_state=None)
    with pytest.raises(CorruptData, match="no term"):
        RaftLogStore(kv, GROUP).hard_state()


def test_a_hole_is_refused() -> None:
    kv = MemoryKv()
    stored(kv, 1, 2, 4)
    log = RaftLogStore(kv, GROUP)
    with pytest.raises(CorruptData, match="entry 3 of group 1 is missing"):
        log.entry(Index(3))


@pytest.mark.parametrize("key", [keys.entry(GROUP, 2), keys.hard_state(GROUP)], ids=["entry", "hard state"])
def test_damage_is_told(key: bytes) -> None:
    kv = MemoryKv()
    stored(kv, 1, 2, 3)
    value = bytearray(kv.get(Family.LOG, key) or b"")
    value[-1] ^= 1
    batch = WriteBatch()
    batch.put(Family.LOG, key, bytes(value))
    kv.write(batch)
    log = RaftLogStore(kv, GROUP)
    with pytest.raises(CorruptData, match="checksum"):
        _ = log.entry(Index(2)), log.hard_state()


def test_an_entry_at_another_place_than_its_own_is_told() -> None:
    kv = MemoryKv()
    log = stored(kv, 1, 2, 3)
    batch = WriteBatch()
    batch.put(Family.LOG, keys.entry(GROUP, 2), kv.get(Family.LOG, keys.entry(GROUP, 3)) or b"")
    kv.write(batch)
    with pytest.raises(CorruptData, match="checksum"):
        log.entry(Index(2))
