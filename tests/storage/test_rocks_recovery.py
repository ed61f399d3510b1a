"""What a store says of a directory that lost power or was damaged: all that was synced is there, or a refusal."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.storage.recovery import DurableTurn, find_endless
from durable_streams_cluster.storage.rocks import RocksKv
from tests.kv import has
from tests.storage.crashes import (
    DATA,
    LOG,
    MIB,
    PAGE,
    Hand,
    assert_refused,
    crash,
    cut,
    flip,
    headers,
    make_endless,
    name,
    reopen,
    synced_and_recorded,
    turns,
    wal_size,
    wals,
    write,
    zero_page_after,
)

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
    assert_refused(
        path, r"\(\*\.log; there: \d+\.log\) is missing or was cut, .*: turn 40 was synced, but only 39 is there"
    )


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


def test_a_database_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    """Killed between making the first column family and the second, and before any key."""
    path = tmp_path / "kv"
    reopen(path).close()
    shutil.rmtree(path / "db")
    options = Options(raw_mode=True)
    options.create_missing_column_families(True)
    Rdict(str(path / "db"), options, {"log": Options(raw_mode=True)}).close()
    assert not list((path / "db").glob("*.sst"))
    kv = reopen(path)
    write(kv, 3)
    kv.close()
    kv = reopen(path)
    assert turns(kv) == [1, 2, 3]
    kv.close()


def test_the_name_of_the_database_is_synced_at_every_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if (tmp_path / "kv" / "db" / "CURRENT").exists():
            synced.append(path)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    for _ in range(2):
        synced.clear()
        reopen(tmp_path / "kv").close()
        assert tmp_path / "kv" in synced


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
    for call, said in ((RocksKv.get, "get"), (has, "seek")):
        kv = reopen(tmp_path / "kv")
        with pytest.raises(CorruptData, match=f"{said} failed"):  # noqa: PT012 - which of them is in the damaged block
            for turn in range(1, 401):
                call(kv, DATA, name(turn))
        with pytest.raises(StorageError, match="is unusable"):
            has(kv, LOG, b"k")
        kv.close()


# --- Damage that RocksDB reads for ever: without find_endless, each of these hangs


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


@pytest.mark.parametrize("content", [b"", bytes(8192), b"x" * 8192])
def test_a_file_without_a_sound_record_is_refused(tmp_path: Path, content: bytes) -> None:
    reopen(tmp_path).close()
    (tmp_path / "durable-turn").write_bytes(content)
    assert_refused(tmp_path, "durable-turn is damaged: none of its two records is sound")
