"""The store on disk while all goes well, or its disk fails at once; ``test_rocks_recovery.py`` has the rest."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_streams_cluster.errors import CorruptData, DataDirLocked, StorageError
from durable_streams_cluster.storage.kv import WriteBatch, WriteStalled
from durable_streams_cluster.storage.recovery import DurableTurn, turn_key
from durable_streams_cluster.storage.rocks import RocksKv
from tests.storage.crashes import (
    DATA,
    LOG,
    MIB,
    Hand,
    after,
    assert_refused,
    crash,
    reopen,
    row,
    turns,
    wal_size,
    wals,
    write,
    written_out,
)

# --- Opening again


def test_everything_is_there_after_a_close(tmp_path: Path) -> None:
    for opened in range(3):
        kv = reopen(tmp_path)
        assert kv.last_write == kv.sync() == opened * 100
        assert turns(kv) == list(range(1, opened * 100 + 1))
        write(kv, 100)
        kv.close()


def test_close_syncs(kv: RocksKv, tmp_path: Path) -> None:
    write(kv, 3)
    kv.close()
    assert kv.sync_count == 1
    assert DurableTurn.open(tmp_path / "kv" / "durable-turn", tmp_path).turn == 3


def test_one_process_holds_it(kv: RocksKv, tmp_path: Path) -> None:
    with pytest.raises(DataDirLocked, match="is in use by another process"):
        reopen(tmp_path / "kv")
    write(kv)
    kv.close()
    reopen(tmp_path / "kv").close()


def test_a_lost_current_beside_data_is_refused(kv: RocksKv, tmp_path: Path) -> None:
    """RocksDB would make a new database around what is there."""
    write(kv)
    path = crash(tmp_path / "kv")
    (path / "db" / "CURRENT").unlink()
    assert_refused(path, "CURRENT is missing beside data")


def test_a_failed_open_lets_go_of_the_directory(tmp_path: Path) -> None:
    reopen(tmp_path).close()
    (tmp_path / "durable-turn").rename(tmp_path / "aside")
    for _ in range(2):  # the second is not DataDirLocked
        with pytest.raises(CorruptData, match=r"durable-turn is missing although .*db is there"):
            reopen(tmp_path)
    (tmp_path / "aside").rename(tmp_path / "durable-turn")
    reopen(tmp_path).close()


def test_a_newer_format_is_not_opened(tmp_path: Path) -> None:
    reopen(tmp_path).close()
    (tmp_path / "format").write_text('{"format": 2}')
    with pytest.raises(StorageError, match="data format 2"):
        reopen(tmp_path)


def test_a_crash_before_the_first_turn_is_no_damage(tmp_path: Path) -> None:
    """RocksDB made its files, and power went before turn 0 was in them."""
    kv = reopen(tmp_path / "kv")
    path = crash(tmp_path / "kv")
    kv.close()
    for each in [*wals(path), *(path / "db").glob("*.sst")]:
        each.unlink()
    shutil.rmtree(path / "db")
    (path / "db").mkdir()
    opened = reopen(path)
    write(opened, 70)
    opened.close()
    opened = reopen(path)
    assert opened.last_write == 70
    opened.close()


# --- WAL switches are ours


def every_operation(count: int, value: bytes) -> WriteBatch:
    batch = WriteBatch()
    batch.put(LOG, b"%d" % count, value)
    batch.put(DATA, b"%d" % (count // 2), value)
    batch.delete_range(DATA, b"%d" % (count - 9), b"%d" % (count - 5))
    batch.delete(LOG, b"%d" % (count - 5))
    return batch


def test_rocksdb_never_switches_the_wal_by_itself(kv: RocksKv, tmp_path: Path) -> None:
    """The same file from one flush to the next, up to where writes are refused."""
    seen = [wals(tmp_path / "kv")[-1]]
    for _ in range(3):
        for count in range(10_000):
            try:
                kv.write(every_operation(count, bytes(range(256)) * 64))
            except WriteStalled as stalled:
                assert "wait for a flush" in str(stalled)  # noqa: PT017 - how many writes it takes does not matter
                break
            assert wals(tmp_path / "kv")[-1] == seen[-1]
        else:
            pytest.fail("never refused")
        assert kv.flush_due()
        kv.sync()
        kv.flush()
        assert not kv.flush_due()
        written_out(kv)
        new = [each for each in wals(tmp_path / "kv") if each > seen[-1]]
        assert len(new) == 1, "one flush of three families, one new WAL"
        seen += new


def test_flush_is_due_after_so_many_bytes(tmp_path: Path) -> None:
    kv = reopen(tmp_path, flush_bytes=100_000)
    assert not kv.flush_due()
    size = 0
    while not kv.flush_due():
        batch = WriteBatch()
        batch.put(DATA, b"k", bytes(1000))
        kv.write(batch)
        size += batch.size
    assert 50_000 < size <= 100_000
    kv.close()


@pytest.mark.parametrize("length", [0, 10, 100, 1000])
def test_memtables_are_not_underestimated(tmp_path: Path, length: int) -> None:
    kv = reopen(tmp_path)
    for turn in range(4 * MIB // (600 + 2 * length)):
        batch = WriteBatch()
        batch.put(LOG, b"%08d" % turn, bytes(length))
        batch.put(DATA, b"%08d" % turn, bytes(length))
        batch.delete(LOG, b"%08d" % (turn - 9))
        kv.write(batch)
    found = kv.properties()
    # RocksDB counts memory by the block, so it is ahead by up to one block (1 MiB) for each of three families.
    assert found["memtable_bytes"] - 3 * MIB < found["unflushed_bytes"] < 4 * MIB
    kv.close()


def test_a_write_during_a_flush_is_refused(kv: RocksKv) -> None:
    """The caller admits none; were there one, it would be unsynced in the old WAL when the new one is synced."""
    write(kv)
    stalls = []
    families = kv._families

    class During:
        def flush(self, wait: bool) -> None:
            with pytest.raises(WriteStalled, match="a flush runs") as stalled:
                write(kv)
            stalls.append(stalled)
            assert not wait

    kv._families = (During(), *families[1:])  # type: ignore[arg-type]
    kv.flush()
    kv._families = families
    assert len(stalls) == 1
    assert kv.last_write == 1
    write(kv)
    assert kv.sync() == 2


# --- What RocksDB refuses


def test_a_stalled_write_wrote_nothing_and_may_be_tried_again(kv: RocksKv, tmp_path: Path) -> None:
    data: Any = kv._families[DATA]
    triggers = ("level0_slowdown_writes_trigger", "level0_stop_writes_trigger")
    data.set_options({"level0_file_num_compaction_trigger": "50"})
    for _ in range(2):
        write(kv)
        kv.sync()
        data.flush(True)
    data.set_options(dict.fromkeys(triggers, "2"))
    size = wal_size(kv)
    for _ in range(3):
        with pytest.raises(WriteStalled, match="Write stall"):
            write(kv)
    assert wal_size(kv) == size
    assert kv.last_write == kv.sync() == 2
    assert turns(kv) == [1, 2]
    data.set_options(dict.fromkeys(triggers, "50"))
    write(kv)
    assert kv.sync() == 3
    kv.close()
    opened = reopen(tmp_path / "kv")
    assert turns(opened) == [1, 2, 3]
    opened.close()


class Broken:
    """RocksDB behind a disk that fails: ``call`` raises, the rest works."""

    def __init__(self, real: Any, call: str) -> None:
        self._real = real
        self._call = call
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if name != self._call:
            return getattr(self._real, name)
        self.calls += 1

        def fail(*_: object) -> None:
            raise Exception("IO error: No space left on device: While appending to file: /x/000004.log")  # noqa: TRY002

        return fail


@pytest.mark.parametrize(
    ("broken", "call"), [("write", write), ("flush_wal", RocksKv.sync), ("flush_wal", RocksKv.flush)]
)
def test_a_failure_is_for_ever_and_never_retried(kv: RocksKv, broken: str, call: Callable[[RocksKv], object]) -> None:
    write(kv, 2)
    disk: Any = Broken(kv._database, broken)
    kv._database = disk
    with pytest.raises(StorageError, match=r"failed in .*No space left on device"):
        call(kv)
    for again in (write, RocksKv.sync, RocksKv.flush, RocksKv.properties, lambda kv: kv.get(LOG, b"")):
        with pytest.raises(StorageError, match=r"the store is unusable: .*No space left on device"):
            again(kv)
    kv.close()
    assert disk.calls == 1


def test_a_failed_record_is_for_ever(kv: RocksKv, clock: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    write(kv)
    clock.now = 1000

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", fail)
        with pytest.raises(StorageError, match=r"Input/output error: '.*/durable-turn'"):
            kv.sync()
    with pytest.raises(StorageError, match="is unusable"):
        kv.sync()


def test_a_sync_counts_only_writes_that_were_done_when_it_began(kv: RocksKv) -> None:
    write(kv, 3)
    real: Any = kv._database

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def flush_wal(self, sync: bool) -> None:
            real.flush_wal(sync)
            write(kv, 2)  # the loop's thread, while this one was in fdatasync

    kv._database = Overtaken()  # type: ignore[assignment]
    assert kv.sync() == 3
    kv._database = real
    assert kv.sync() == 5
    assert kv.sync_count == 2


# --- The rest


def test_a_sync_of_nothing_new_is_none(kv: RocksKv) -> None:
    write(kv)
    for _ in range(3):
        assert kv.sync() == 1
    assert kv.sync_count == 1


def test_properties_are_numbers(kv: RocksKv) -> None:
    write(kv, 100)
    kv.sync()
    found = kv.properties()
    assert found["wal_bytes"] > 100 * len(row(0))
    assert found["memtable_bytes"] > 100 * len(row(0))
    assert found["sst_bytes"] > 0  # turn 0
    assert all(type(value) is int for value in found.values())


def test_a_scan_outlives_the_store(kv: RocksKv) -> None:
    write(kv, 10)
    found = kv.scan(LOG, b"", b"\xff")
    kv.close()
    assert len(list(found)) == 10


def test_a_turn_is_recorded_at_most_once_a_second(kv: RocksKv, clock: Hand, tmp_path: Path) -> None:
    recorded = []
    for now in (0, 500, 999, 1000, 1500, 1999, 2000, 2001):
        clock.now = now
        write(kv)
        kv.sync()
        recorded.append(DurableTurn.open(tmp_path / "kv" / "durable-turn", tmp_path).turn)
    assert recorded == [0, 0, 0, 4, 4, 4, 7, 7]


def test_the_last_turn_is_recorded_by_a_sync_of_nothing(kv: RocksKv, clock: Hand, tmp_path: Path) -> None:
    write(kv)
    kv.sync()
    clock.now = 1000
    assert kv.sync() == 1
    assert kv.sync_count == 1
    assert DurableTurn.open(tmp_path / "kv" / "durable-turn", tmp_path).turn == 1


def test_the_store_keeps_the_keys_of_its_newest_turns(kv: RocksKv) -> None:
    write(kv, 200)
    keys = [key for key, _ in kv._database.items()]
    assert keys == [turn_key(turn) for turn in range(137, 201)] == after(range(0), 200)
