"""What only the store on disk can do: lose power, be damaged, and tell the one from the other.

A crash is a copy of the directory while the store is open: the copy has what was written, synced or not. What a power
cut then does to the bytes that were not synced is done to the copy by hand.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_streams_cluster.errors import CorruptData, DataDirLocked, StorageError
from durable_streams_cluster.storage.kv import Family, WriteBatch, WriteStalled
from durable_streams_cluster.storage.recovery import (
    FIRST_TURNS,
    TURNS_KEPT,
    DurableTurn,
    check_turns,
    find_endless,
    turn_key,
)
from durable_streams_cluster.storage.rocks import RocksKv

MIB = 1024 * 1024
LOG, DATA = Family.LOG, Family.DATA
PAGE = 4096


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0

    def steady_ms(self) -> int:
        return self.now

    def steady_ns(self) -> int:
        return self.now * 1_000_000

    def wall_ms(self) -> int:
        return self.now


def reopen(path: Path, clock: Hand | None = None, flush_bytes: int = 4 * MIB) -> RocksKv:
    return RocksKv.open(path, memory_budget=16 * MIB, flush_bytes=flush_bytes, clock=clock or Hand())


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def kv(tmp_path: Path, clock: Hand) -> Iterator[RocksKv]:
    store = reopen(tmp_path / "kv", clock)
    yield store
    store.close()


def name(turn: int) -> bytes:
    return turn.to_bytes(8, "big")


def row(turn: int) -> bytes:
    """A value that does not compress and says whose it is; several make a page of the WAL."""
    return b"%08d" % turn * 150


def write(kv: RocksKv, count: int = 1) -> None:
    """The next turns, each with a row in both families."""
    for _ in range(count):
        turn = kv.last_write + 1
        batch = WriteBatch()
        batch.put(LOG, name(turn), b"")
        batch.put(DATA, name(turn), row(turn))
        kv.write(batch)


def turns(kv: RocksKv) -> list[int]:
    """The turns whose rows are there; rows of both families, whole."""
    found = [(int.from_bytes(key, "big"), value) for key, value in kv.scan(DATA, b"", b"\xff")]
    assert all(value == row(turn) for turn, value in found)
    assert [key for key, _ in kv.scan(LOG, b"", b"\xff")] == [name(turn) for turn, _ in found]
    return [turn for turn, _ in found]


def wals(path: Path) -> list[Path]:
    """The WAL files, oldest first."""
    return sorted((path / "db").glob("*.log"))


def wal_size(kv: RocksKv) -> int:
    return kv.properties()["wal_bytes"]


def crash(path: Path) -> Path:
    """The directory as it is now, elsewhere."""
    copy = path.with_name(f"{path.name}-crashed")
    shutil.rmtree(copy, ignore_errors=True)

    def copy_file(source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # a WAL out of use, removed in the background
            shutil.copy2(source, target)

    return Path(shutil.copytree(path, copy, copy_function=copy_file))


def damage(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def flip(path: Path, at: int) -> None:
    damage(path, at, bytes([path.read_bytes()[at] ^ 1]))


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def zero_page_after(path: Path, start: int) -> None:
    """What a power cut leaves of a page that was never written back, though one behind it was."""
    page = (start + PAGE - 1) // PAGE * PAGE
    assert page + PAGE < path.stat().st_size
    damage(path, page, bytes(PAGE))


def contents(path: Path) -> dict[Path, bytes]:
    """Every file that is data: not RocksDB's diary, and not what is held or written by opening."""
    names = (path / "db").glob("*")
    skipped = ("LOG", "LOCK", "rocksdict-config")
    found = {each: each.read_bytes() for each in names if not each.name.startswith(skipped)}
    return found | {path / name: (path / name).read_bytes() for name in ("format", "durable-turn")}


def assert_refused(path: Path, match: str) -> None:
    """Refused each time, and nothing was changed by it."""
    before = contents(path)
    for _ in range(2):
        with pytest.raises(CorruptData, match=match) as refused:
            reopen(path)
        assert "Next step: " in str(refused.value)
    assert contents(path) == before


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


# --- Crashes


@pytest.mark.parametrize("flushes", [0, 1, 2])
def test_a_crash_loses_nothing_synced(kv: RocksKv, tmp_path: Path, flushes: int) -> None:
    for _ in range(flushes):
        write(kv, 100)
        kv.sync()
        kv.flush()
        for family in (*kv._families, kv._database):
            family.flush(True)  # no table file is being written while the directory is copied
    write(kv, 30)
    synced = kv.sync()
    size = wals(tmp_path / "kv")[-1].stat().st_size
    write(kv, 30)
    path = crash(tmp_path / "kv")
    cut(wals(path)[-1], size)
    opened = reopen(path)
    assert turns(opened) == list(range(1, synced + 1))
    assert opened.last_write == opened.sync() == synced
    opened.close()


@pytest.mark.parametrize("lost", [1, 7, 1000, 1500, 5000])
def test_a_torn_tail_is_cut(kv: RocksKv, tmp_path: Path, clock: Hand, lost: int) -> None:
    write(kv, 20)
    clock.now = 1000
    kv.sync()
    write(kv, 20)
    path = crash(tmp_path / "kv")
    wal = wals(path)[-1]
    cut(wal, wal.stat().st_size - lost)
    opened = reopen(path)
    left = opened.last_write
    assert 20 <= left < 40
    assert turns(opened) == list(range(1, left + 1))
    write(opened, 5)
    opened.close()
    opened = reopen(path)
    assert turns(opened) == list(range(1, left + 6))
    opened.close()


def test_a_zero_page_in_the_unsynced_tail_is_cut(
    kv: RocksKv, tmp_path: Path, clock: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    write(kv, 20)
    clock.now = 1000
    kv.sync()
    synced = wal_size(kv)
    write(kv, 20)
    path = crash(tmp_path / "kv")
    damaged = wals(path)[-1]
    zero_page_after(damaged, synced)
    with caplog.at_level(logging.WARNING):
        opened = reopen(path)
    left = opened.last_write
    assert 20 <= left < 40
    assert turns(opened) == list(range(1, left + 1))
    assert f"{damaged} is damaged" in caplog.text
    assert f"Everything after turn {left} is dropped" in caplog.text
    # What is written now must not come back behind the damage: the old WAL is out of use before open returns.
    write(opened, 20)
    opened.sync()
    again = crash(path)
    opened.close()
    caplog.clear()
    opened = reopen(again)
    assert turns(opened) == list(range(1, left + 21))
    assert not caplog.records
    opened.close()


def test_a_tail_of_zeros_or_of_garbage_is_cut(kv: RocksKv, tmp_path: Path) -> None:
    write(kv, 20)
    kv.sync()
    for tail in (bytes(9000), bytes(range(256)) * 40):
        path = crash(tmp_path / "kv")
        with wals(path)[-1].open("ab") as file:
            file.write(tail)
        opened = reopen(path)
        assert turns(opened) == list(range(1, 21))
        opened.close()


# --- Damage to what was synced


def synced_and_recorded(kv: RocksKv, clock: Hand, count: int) -> None:
    write(kv, count)
    clock.now += 1000
    kv.sync()


@pytest.mark.parametrize("place", [0.1, 0.5, 0.95])
def test_a_flipped_bit_is_refused(kv: RocksKv, tmp_path: Path, clock: Hand, place: float) -> None:
    synced_and_recorded(kv, clock, 40)
    size = wal_size(kv)
    write(kv, 10)
    path = crash(tmp_path / "kv")
    wal = wals(path)[-1]
    flip(wal, int(size * place))
    assert_refused(path, rf"{wal} is damaged .*turn 40 was synced, but only \d+ is there")


def test_a_wal_cut_below_what_was_synced_is_refused(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    synced_and_recorded(kv, clock, 40)
    path = crash(tmp_path / "kv")
    cut(wals(path)[-1], wal_size(kv) - 1)
    assert_refused(path, r"\(\*\.log\) is missing or was cut: turn 40 was synced, but only 39 is there")


def test_a_missing_wal_is_refused(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    synced_and_recorded(kv, clock, 40)
    path = crash(tmp_path / "kv")
    wals(path)[-1].unlink()
    assert_refused(path, "turn 40 was synced, but only 0 is there")


def test_a_missing_database_is_refused(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    synced_and_recorded(kv, clock, 40)
    path = crash(tmp_path / "kv")
    shutil.rmtree(path / "db")
    with pytest.raises(CorruptData, match="holds no database although turn 40 was synced"):
        reopen(path)
    assert not (path / "db").exists()


def test_a_damaged_table_file_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    kv = reopen(tmp_path / "kv")
    write(kv, 400)
    kv.close()
    largest = max((tmp_path / "kv" / "db").glob("*.sst"), key=lambda each: each.stat().st_size)
    flip(largest, largest.stat().st_size // 2)
    for reverse in (False, True):
        kv = reopen(tmp_path / "kv")
        with pytest.raises(CorruptData, match="scan failed"):
            list(kv.scan(DATA, b"", b"\xff", reverse=reverse))
        with pytest.raises(StorageError, match="is unusable"):
            kv.get(LOG, b"k")
        kv.close()
    kv = reopen(tmp_path / "kv")
    with pytest.raises(CorruptData, match="get failed"):  # noqa: PT012 - which of them is in the damaged block
        for turn in range(1, 401):
            kv.get(DATA, name(turn))
    kv.close()


# --- Damage that RocksDB reads for ever: without find_endless, each of these hangs


def headers(path: Path) -> list[int]:
    """Where the records of a WAL or MANIFEST begin."""
    content, found, at = path.read_bytes(), [], 0
    while at + 7 <= len(content):
        found.append(at)
        at += 7 + int.from_bytes(content[at + 4 : at + 6], "little")
        left = -at % 32768
        at += left if left < 7 else 0  # no header is split over two blocks
    return found


def make_endless(path: Path, header: int) -> None:
    """One flipped bit: the type of an ordinary record, 1, becomes that of a recycled one, 5."""
    flipped = {1: 5, 2: 6, 3: 7, 4: 5}
    damage(path, header + 6, bytes([flipped[path.read_bytes()[header + 6]]]))


def test_endless_damage_to_the_unsynced_tail_is_cut(
    kv: RocksKv, tmp_path: Path, clock: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    synced_and_recorded(kv, clock, 40)
    size = wal_size(kv)
    write(kv, 40)
    path = crash(tmp_path / "kv")
    wal = wals(path)[-1]
    at = next(each for each in headers(wal)[60:] if each >= size)
    make_endless(wal, at)
    opened = reopen(path)
    assert f"{wal} is damaged at byte {at}" in caplog.text
    left = opened.last_write
    assert 40 <= left < 80
    assert turns(opened) == list(range(1, left + 1))
    write(opened, 5)
    opened.close()
    opened = reopen(path)
    assert turns(opened) == list(range(1, left + 6))
    opened.close()
    assert sorted(each.name for each in path.iterdir()) == ["db", "durable-turn", "format", "lock"]


def test_endless_damage_to_what_was_synced_is_refused(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    synced_and_recorded(kv, clock, 40)
    path = crash(tmp_path / "kv")
    wal = wals(path)[-1]
    make_endless(wal, headers(wal)[20])
    assert_refused(path, rf"{wal} is damaged at byte \d+: turn 40 was synced, but only \d+ is there")


def test_endless_damage_behind_other_damage_is_refused_or_cut_like_it(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    synced_and_recorded(kv, clock, 20)
    size = wal_size(kv)
    write(kv, 60)
    for first, kept in ((size + 2000, True), (size - 2000, False)):
        path = crash(tmp_path / "kv")
        wal = wals(path)[-1]
        flip(wal, first)
        make_endless(wal, headers(wal)[-5])
        if kept:
            opened = reopen(path)
            assert turns(opened) == list(range(1, opened.last_write + 1))
            assert 20 <= opened.last_write < 25
            opened.close()
        else:
            assert_refused(path, rf"{wal} is damaged at byte \d+: turn 20 was synced")


def test_endless_damage_to_a_manifest_is_refused(kv: RocksKv, tmp_path: Path) -> None:
    write(kv, 40)
    path = crash(tmp_path / "kv")
    manifest = next((path / "db").glob("MANIFEST-*"))
    make_endless(manifest, headers(manifest)[1])
    assert_refused(path, rf"{manifest} is damaged at byte \d+")


def test_a_sound_file_has_no_endless_damage(kv: RocksKv, tmp_path: Path) -> None:
    """Records that fill a block to its last bytes, and those that go over many."""
    for length in (1, 7, 100, 32_000, 32_768, 100_000, 300_000):
        for off in range(12):
            batch = WriteBatch()
            batch.put(DATA, b"k", b"\5" * (length + off))
            kv.write(batch)
    wal = wals(tmp_path / "kv")[-1]
    assert wal.stat().st_size > 5 * MIB
    assert find_endless(wal) is None
    content = wal.read_bytes()
    assert {content[at + 6] for at in headers(wal)} == {1, 2, 3, 4}, "whole, first, middle and last"


# --- Two live WAL files


@pytest.fixture
def two(kv: RocksKv, tmp_path: Path) -> tuple[Path, int]:
    """A crash with turns 1 to 100 in one WAL and 101 to 200 in the next, both live, and nothing on record.

    The old one stays as long as one family's memtable is not yet in a table file: here, only LOG was flushed.
    """
    write(kv, 100)
    kv.sync()
    kv._families[LOG].flush(True)
    write(kv, 100)
    path = crash(tmp_path / "kv")
    assert len(wals(path)) == 2
    assert DurableTurn.open(path / "durable-turn", path).turn == 0
    return path, wals(path)[0].stat().st_size


def test_two_live_wals_are_read_in_turn(two: tuple[Path, int]) -> None:
    opened = reopen(two[0])
    assert turns(opened) == list(range(1, 201))
    opened.close()


@pytest.mark.parametrize("lost", [1, 20_000, 100_000, None])
def test_a_loss_in_the_middle_is_refused(two: tuple[Path, int], lost: int | None) -> None:
    """The old WAL lost its end, the new one did not: RocksDB opens, and has a hole (100 turns when all is lost)."""
    path, size = two
    if lost is None:
        wals(path)[0].unlink()
    else:
        cut(wals(path)[0], size - lost)
    assert_refused(path, "lost writes in the middle")


def test_damage_to_the_first_of_two_wals_is_refused_once_on_record(two: tuple[Path, int]) -> None:
    path, size = two
    record = DurableTurn.open(path / "durable-turn", path)
    record.record(100)  # as flush() does before it switches
    record.close()
    old = wals(path)[0]
    flip(old, size - 10)
    assert_refused(path, rf"{old} or .* is damaged \(.*SST file is ahead of WALs")


def test_endless_damage_to_the_first_of_two_wals_is_refused(two: tuple[Path, int]) -> None:
    old = wals(two[0])[0]
    make_endless(old, headers(old)[-1])
    assert_refused(two[0], rf"{old} is damaged at byte \d+, and it is not the newest")


def test_a_zero_page_in_the_second_of_two_wals_is_cut(two: tuple[Path, int]) -> None:
    path, _ = two
    zero_page_after(wals(path)[1], 3 * PAGE)
    opened = reopen(path)
    assert 100 < opened.last_write < 200
    assert turns(opened) == list(range(1, opened.last_write + 1))
    opened.close()


def test_flush_puts_all_before_it_on_record(kv: RocksKv, tmp_path: Path) -> None:
    write(kv, 5)
    kv.flush()  # the clock stands still, and nobody called sync
    assert kv.sync_count == 1
    assert DurableTurn.open(tmp_path / "kv" / "durable-turn", tmp_path).turn == 5


# --- Turn numbers


def after(lost: range, newest: int) -> list[bytes]:
    """The turn keys of a store in which the writes ``lost`` never happened."""
    present = set(FIRST_TURNS)
    for turn in range(1, newest + 1):
        if turn not in lost:
            present.add(turn)
            present.discard(turn - TURNS_KEPT)
    return [turn_key(turn) for turn in sorted(present)]


@given(first=st.integers(1, 400), count=st.integers(1, 400), more=st.integers(1, 400))
@settings(deadline=None, derandomize=True)
def test_a_gap_of_any_length_shows(first: int, count: int, more: int) -> None:
    with pytest.raises(CorruptData, match="lost writes in the middle"):
        check_turns(after(range(first, first + count), first + count - 1 + more), Path("db"))


@given(newest=st.integers(0, 400))
@settings(deadline=None, derandomize=True)
def test_a_store_without_a_gap_has_none(newest: int) -> None:
    assert check_turns(after(range(0), newest), Path("db")) == newest


def test_the_store_keeps_the_keys_of_its_newest_turns(kv: RocksKv) -> None:
    write(kv, 200)
    keys = [key for key, _ in kv._database.items()]
    assert keys == [turn_key(turn) for turn in range(137, 201)] == after(range(0), 200)


# --- durable-turn


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


def test_a_torn_record_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "durable-turn"
    record = DurableTurn.open(path, tmp_path / "db")
    for turn in range(1, 8):
        before = path.read_bytes()
        record.record(turn)
        now = path.read_bytes()
        changed = [at for at in range(len(now)) if now[at] != before[at]]
        assert changed[-1] - changed[0] < 32, "one record was written"
        for torn in range(changed[0], changed[-1] + 1):
            path.write_bytes(now[:torn] + before[torn:])
            assert DurableTurn.open(path, tmp_path / "db").turn in {turn - 1, turn}
        path.write_bytes(now)
        assert DurableTurn.open(path, tmp_path / "db").turn == turn
    record.close()
    record.close()


@pytest.mark.parametrize("content", [b"", bytes(8192), b"x" * 8192])
def test_a_file_without_a_sound_record_is_refused(tmp_path: Path, content: bytes) -> None:
    reopen(tmp_path).close()
    (tmp_path / "durable-turn").write_bytes(content)
    assert_refused(tmp_path, "durable-turn is damaged: none of its two records is sound")


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
        with pytest.raises(StorageError, match="Input/output error"):
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
    assert found["sync_count"] == 1
    assert found["sst_bytes"] > 0  # turn 0
    assert all(type(value) is int for value in found.values())


def test_a_scan_outlives_the_store(kv: RocksKv) -> None:
    write(kv, 10)
    found = kv.scan(LOG, b"", b"\xff")
    kv.close()
    assert len(list(found)) == 10
