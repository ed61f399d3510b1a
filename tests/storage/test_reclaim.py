"""Deleted ranges give their room on disk back, where that is worth it, and never behind the driver's back."""

import contextlib
import os
import threading
from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.storage.reclaim import (
    AGAIN_MS,
    LATER_MS,
    OFF_RECORD,
    PATIENCE_MS,
    SPARE_BYTES,
    URGENT_BYTES,
    URGENT_MS,
    WORTH_BYTES,
    File,
    Range,
    Waiting,
    choose,
    joined,
    last_before,
    mark_key,
    mark_value,
    read_mark,
)
from durable_streams_cluster.storage.rocks import RocksKv
from tests.storage.crashes import DATA, Hand, crash, reopen, wals

KIB = 1024

# --- What is worth it


def test_a_range_is_worth_it_when_a_fifth_of_its_files_is_dead() -> None:
    files = [File(6, 100, b"a", b"f"), File(6, 100, b"g", b"m"), File(6, 100, b"n", b"z")]
    assert choose([Range(b"b", b"c", 19)], files) == []
    assert choose([Range(b"b", b"c", 20)], files) == [Range(b"b", b"c", 20)]
    assert choose([Range(b"e", b"h", 39)], files) == []
    assert choose([Range(b"e", b"h", 40)], files) == [Range(b"e", b"h", 40)]


def test_ranges_in_one_file_count_together() -> None:
    files = [File(6, 100, b"a", b"z")]
    ranges = [Range(bytes([each]), bytes([each]) + b"x", 7) for each in b"bcd"]
    assert choose(ranges[:2], files) == []
    assert choose(ranges, files) == ranges


def test_the_deepest_level_counts_and_above_it_files_overlap() -> None:
    files = [File(0, 5, b"a", b"z"), File(0, 5, b"b", b"c"), File(6, 100, b"a", b"f")]
    assert choose([Range(b"b", b"c", 10)], files) == []
    assert choose([Range(b"x", b"y", 1)], files) == [Range(b"x", b"y", 1)]


def test_a_range_with_no_file_is_done() -> None:
    assert choose([Range(b"b", b"c", 1)], []) == [Range(b"b", b"c", 1)]
    assert choose([Range(b"b", b"c", 1)], [File(6, 9, b"c", b"d")]) == [Range(b"b", b"c", 1)]


def test_neighbours_are_joined() -> None:
    ranges = [Range(b"c", b"d", 3), Range(b"a", b"b", 1), Range(b"b", b"c", 2), Range(b"x", b"y", 4)]
    assert joined(ranges) == [Range(b"a", b"d", 6), Range(b"x", b"y", 4)]


def test_the_last_key_before_an_end() -> None:
    for end in (b"S\0\1", b"S\1\0", b"S\1\0\0", bytes(range(1, 25))):
        number = int.from_bytes(end, "big")
        assert (number - 1).to_bytes(len(end), "big") < last_before(end) < end
    assert last_before(b"\0") == b"\0", "nothing of ours is before"


def test_a_mark_comes_back() -> None:
    dead = Range(b"S\0\1", b"S\0\2", 2**40)
    assert read_mark(mark_key(dead), mark_value(dead)) == dead
    with pytest.raises(CorruptData):
        read_mark(mark_key(dead), mark_value(dead)[:7])


# --- When


def test_a_deletion_waits_for_a_flush_then_for_a_look() -> None:
    waiting = Waiting([], 0)
    dead = Range(b"a", b"b", 1)
    assert not waiting.due(10**9)
    waiting.written([dead], [], 1_000)
    assert not waiting.due(10**9), "a memtable knows it"
    assert not waiting.needs_flush(1_000 + PATIENCE_MS - 1)
    assert waiting.needs_flush(1_000 + PATIENCE_MS)
    waiting.flushed()
    assert not waiting.needs_flush(10**9)
    assert waiting.due(2_000)
    files = [File(6, 100, b"a", b"z")]
    assert waiting.take(waiting.ready(), files, 2_000) == []
    assert not waiting.due(2_000 + LATER_MS - 1)
    assert waiting.due(2_000 + LATER_MS)
    assert waiting.take(waiting.ready(), [], 100_000) == [dead]
    assert waiting.waiting_bytes == 0
    waiting.written([dead], [], 100_000)
    waiting.flushed()
    assert not waiting.due(100_000 + AGAIN_MS - 1)
    assert waiting.due(100_000 + AGAIN_MS)


def test_much_is_flushed_at_once() -> None:
    waiting = Waiting([], 0)
    waiting.written([Range(b"a", b"b", WORTH_BYTES - 1)], [], 0)
    assert not waiting.needs_flush(1)
    waiting.written([Range(b"b", b"c", 1)], [], 0)
    assert waiting.needs_flush(1)


def test_a_full_disk_is_not_worn_out_by_somebody_who_deletes_a_little() -> None:
    """Each second a range of a kilobyte in a file of its own: what is rewritten for that is bounded."""
    table = 10 * MIB
    files = [File(6, table, b"%04d" % number, b"%04dz" % number) for number in range(1000)]
    waiting = Waiting([], 0)
    waiting.urgent = True
    flushes = rewritten = 0
    for second in range(1, 1000):
        now_ms = second * 1000
        waiting.written([Range(b"%04d" % second, b"%04dx" % second, 1000)], [], now_ms)
        if waiting.needs_flush(now_ms):
            flushes += 1
            waiting.flushed()
        if waiting.due(now_ms):
            rewritten += table * len(waiting.take(waiting.ready(), files, now_ms))
    assert 100 <= flushes <= 200
    assert 1000 * MIB <= rewritten <= 1000 * SPARE_BYTES / (LATER_MS / 1000)


def test_on_a_full_disk_what_frees_most_comes_first() -> None:
    files = [File(6, 20 * MIB, b"%d" % number, b"%dz" % number) for number in range(6)]
    ranges = [Range(b"%d" % number, b"%dx" % number, number * 1000) for number in range(6)]
    assert choose(ranges, files) == []
    assert choose(ranges, files, 64 * MIB) == ranges[3:]
    assert choose(ranges, files, 1) == [ranges[5]], "one in any case"
    more = Range(b"5y", b"5z", 1)
    assert choose([*ranges, more], files, 21 * MIB) == [ranges[5], more], "it lies in a file that is rewritten"


def test_on_a_full_disk_deletions_do_not_wait_long() -> None:
    waiting = Waiting([], 0)
    waiting.urgent = True
    waiting.written([Range(b"a", b"b", URGENT_BYTES - 1)], [], 1_000)
    assert not waiting.needs_flush(1_000 + AGAIN_MS - 1)
    assert waiting.needs_flush(1_000 + AGAIN_MS)
    waiting.written([Range(b"b", b"c", 1)], [], 1_000)
    assert not waiting.needs_flush(1_000 + URGENT_MS - 1)
    assert waiting.needs_flush(1_000 + URGENT_MS)
    waiting.flushed()
    files = [File(0, 10 * MIB, b"a", b"z")]
    assert waiting.due(2_000)
    waiting.urgent = False
    assert waiting.take(waiting.ready(), files, 2_000) == []
    assert not waiting.due(2_000 + AGAIN_MS)
    waiting.urgent = True
    assert waiting.due(2_000 + AGAIN_MS)
    assert len(waiting.take(waiting.ready(), files, 2_000 + AGAIN_MS)) == 2


def test_the_record_is_cleared_a_part_at_a_time_and_by_writes_that_took_place() -> None:
    waiting = Waiting([], 0)
    ranges = [Range(b"%04d" % number, b"%04dx" % number, 1) for number in range(OFF_RECORD + 2)]
    waiting.ended(ranges, done=True)
    assert waiting.off_record() == ranges[:OFF_RECORD]
    assert waiting.off_record() == ranges[:OFF_RECORD], "the write was refused"
    waiting.written([], ranges[:OFF_RECORD], 0)
    assert waiting.off_record() == ranges[OFF_RECORD:]


# --- On disk


def filled(kv: RocksKv, streams: int = 4, each: int = 40) -> None:
    """Streams ``\0`` .. with 2.5 MB each, in table files."""
    for stream in range(streams):
        for number in range(each):
            batch = WriteBatch()
            batch.put(DATA, bytes([stream, number]), os.urandom(64 * KIB))
            kv.write(batch)
        kv.sync()
        flushed(kv)


def flushed(kv: RocksKv) -> None:
    kv.flush()
    for family in (*kv._families, kv._database):
        family.flush(True)  # the memtables that ``flush`` began to write out are written


def drop(kv: RocksKv, stream: int, start: int = 0, end: int = 255) -> None:
    batch = WriteBatch()
    batch.delete_range(DATA, bytes([stream, start]), bytes([stream, end]), frees=(end - start) * 64 * KIB)
    kv.write(batch)


def on_disk(path: Path) -> int:
    size = 0
    for each in (path / "db").glob("*.sst"):
        with contextlib.suppress(FileNotFoundError):  # rewritten, and removed in the background
            size += each.stat().st_size
    return size


def found(kv: RocksKv) -> list[bytes]:
    return [key for key, _ in kv.scan(DATA, b"", b"\xff")]


def test_a_deleted_range_leaves_the_disk_and_the_wal_stays(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    filled(kv)
    before = on_disk(tmp_path / "kv")
    drop(kv, 1)
    drop(kv, 3, 0, 20)
    drop(kv, 3, 20, 40)
    assert not kv.reclaim_due(), "the memtable knows them"
    clock.now += PATIENCE_MS
    assert kv.flush_due()
    kv.sync()
    flushed(kv)
    assert kv.reclaim_due()
    wal = wals(tmp_path / "kv")[-1]
    unsynced = WriteBatch()
    unsynced.put(DATA, b"\7", b"not synced")
    kv.write(unsynced)
    kv.reclaim()
    assert wals(tmp_path / "kv")[-1] == wal, "RocksDB must not switch its WAL by itself"
    assert on_disk(tmp_path / "kv") < before * 0.55
    assert found(kv) == [bytes([stream, number]) for stream in (0, 2) for number in range(40)] + [b"\7"]
    assert kv.properties()["dead_bytes"] == 0


def waiting_drop(kv: RocksKv, clock: Hand) -> None:
    """Stream 1 up to record 39 waits to be reclaimed, and no memtable knows anything."""
    filled(kv)
    drop(kv, 1, 0, 39)
    clock.now += PATIENCE_MS
    kv.sync()
    flushed(kv)


@pytest.mark.parametrize("beside", ["put at the end", "delete at the end", "range from the end", "range to the start"])
def test_neighbours_in_the_memtable_switch_no_wal(kv: RocksKv, tmp_path: Path, clock: Hand, beside: str) -> None:
    """RocksDB counts the end of a compacted range in: the next trim of the same stream begins just there."""
    waiting_drop(kv, clock)
    wal = wals(tmp_path / "kv")[-1]
    batch = WriteBatch()
    match beside:
        case "put at the end":
            batch.put(DATA, bytes([1, 39]), b"an append of one byte, behind all that was trimmed")
        case "delete at the end":
            batch.delete(DATA, bytes([1, 39]))
        case "range from the end":
            batch.delete_range(DATA, bytes([1, 39]), bytes([1, 45]), frees=1)
        case _:
            batch.delete_range(DATA, bytes([0, 39]), bytes([1, 0]), frees=1)
    kv.write(batch)
    kv.reclaim()
    assert wals(tmp_path / "kv")[-1] == wal, "RocksDB must not switch its WAL by itself"
    assert kv.properties()["dead_bytes"] < 39 * 64 * KIB, "it was reclaimed"


def test_a_flush_between_two_steps_of_a_reclaim_switches_no_wal(
    kv: RocksKv, tmp_path: Path, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted in a memtable that is being written out waits for the next look."""
    waiting_drop(kv, clock)
    database = kv._database

    class Database:
        """The database, behind whose list of files another stream is dropped, and a flush begins."""

        def __getattr__(self, name: str) -> object:
            return getattr(database, name)

        def live_files(self) -> object:
            drop(kv, 2)
            kv.sync()
            kv.flush()
            return database.live_files()

    monkeypatch.setattr(kv, "_database", Database())
    taken: list[Range] = []
    monkeypatch.setattr("durable_streams_cluster.storage.reclaim.joined", lambda ranges: taken.extend(ranges) or taken)
    kv.reclaim()
    assert [dead.start for dead in taken] == [bytes([1, 0])]


def test_what_is_deleted_key_by_key_leaves_the_disk_too(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    filled(kv)
    before = on_disk(tmp_path / "kv")
    batch = WriteBatch()
    for number in range(40):
        batch.delete(DATA, bytes([1, number]))
    batch.deleted(DATA, bytes([1, 0]), bytes([1, 40]), 40 * 64 * KIB)
    kv.write(batch)
    clock.now += PATIENCE_MS
    assert kv.flush_due()
    kv.sync()
    flushed(kv)
    kv.reclaim()
    assert on_disk(tmp_path / "kv") < before * 0.8
    assert kv.properties()["dead_bytes"] == 0


def test_what_waits_is_known_after_a_restart(kv: RocksKv, tmp_path: Path) -> None:
    filled(kv)
    drop(kv, 1)
    kv.sync()
    path = crash(tmp_path / "kv")
    before = on_disk(path)
    opened = reopen(path)
    assert opened.properties()["dead_bytes"] == 255 * 64 * KIB
    assert opened.reclaim_due(), "recovery wrote all memtables out"
    opened.reclaim()
    assert on_disk(path) < before * 0.8
    # The next write takes it off the record.
    batch = WriteBatch()
    batch.put(DATA, b"k", b"v")
    opened.write(batch)
    opened.close()
    opened = reopen(path)
    assert opened.properties()["dead_bytes"] == 0
    assert not opened.reclaim_due()
    opened.close()


def test_a_little_in_a_large_file_waits(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    filled(kv)
    drop(kv, 1, 0, 2)
    clock.now += PATIENCE_MS
    kv.sync()
    flushed(kv)
    kv.reclaim()
    assert on_disk(tmp_path / "kv") >= 4 * 40 * 64 * KIB
    assert kv.properties()["dead_bytes"] == 2 * 64 * KIB
    assert not kv.reclaim_due()


def test_what_was_reclaimed_is_on_record_until_the_next_write(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    filled(kv)
    drop(kv, 1)
    clock.now += PATIENCE_MS
    kv.sync()
    flushed(kv)
    kv.reclaim()
    kv.close()
    opened = reopen(tmp_path / "kv")
    assert opened.properties()["dead_bytes"] == 255 * 64 * KIB, "looked at once more, which costs nothing"
    opened.reclaim()
    assert opened.properties()["dead_bytes"] == 0
    opened.close()


def test_close_ends_a_reclaim(kv: RocksKv, tmp_path: Path, clock: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(kv)
    drop(kv, 1)
    clock.now += PATIENCE_MS
    kv.sync()
    flushed(kv)
    begun, closing = threading.Event(), threading.Event()
    take, cancel = Waiting.take, kv._database.cancel_all_background

    def slowly(self: Waiting, *args: object) -> list[Range]:
        begun.set()
        assert closing.wait(30)
        return take(self, *args)  # type: ignore[arg-type]

    class Database:
        """The database, which tells when it is told to end its work."""

        def __getattr__(self, name: str) -> object:
            return getattr(database, name)

        def cancel_all_background(self, wait: bool) -> None:
            cancel(wait)
            closing.set()

    database = kv._database
    monkeypatch.setattr(Waiting, "take", slowly)
    monkeypatch.setattr(kv, "_database", Database())
    reclaiming = threading.Thread(target=kv.reclaim)
    reclaiming.start()
    assert begun.wait(30)
    kv.close()
    reclaiming.join(30)
    monkeypatch.undo()
    opened = reopen(tmp_path / "kv")
    assert found(opened) == [bytes([stream, number]) for stream in (0, 2, 3) for number in range(40)]
    assert opened.properties()["dead_bytes"] == 255 * 64 * KIB
    opened.close()


def test_while_a_memtable_is_written_out_nothing_is_compacted(kv: RocksKv, clock: Hand) -> None:
    """RocksDB would write out the one in use as well, to be sure."""
    filled(kv)
    drop(kv, 1)
    clock.now += PATIENCE_MS
    kv.sync()
    flushed(kv)

    class Busy:
        def property_int_value(self, name: str) -> int:
            return int(name == "rocksdb.num-immutable-mem-table")

    families = kv._families
    kv._families = (families[0], Busy())  # type: ignore[assignment]
    kv.reclaim()
    kv._families = families
    assert kv.properties()["dead_bytes"] == 255 * 64 * KIB
    kv.reclaim()
    assert kv.properties()["dead_bytes"] == 0
