"""Damage to the files beside the write-ahead log: refused with the file's name and the next step, or harmless."""

import os
import random
import shutil
from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.storage.recovery import FAMILY_TURN, check_families
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.rocks_damage import find_file
from tests.kv import has
from tests.storage.crashes import (
    DATA,
    LOG,
    Hand,
    assert_refused,
    crash,
    cut,
    damage,
    headers,
    name,
    reopen,
    synced_and_recorded,
    turns,
    wals,
    write,
    written_out,
)

ALL = list(range(1, 101))


@pytest.fixture
def stored(kv: RocksKv, tmp_path: Path, clock: Hand) -> Path:
    """A crash with turns 1 to 50 in table files and 51 to 100 in the write-ahead log, all synced and on record."""
    synced_and_recorded(kv, clock, 50)
    kv.flush()
    written_out(kv)
    synced_and_recorded(kv, clock, 50)
    return crash(tmp_path / "kv")


def manifest(path: Path) -> Path:
    return path / "db" / (path / "db" / "CURRENT").read_text().strip()


# --- CURRENT and MANIFEST


@pytest.mark.parametrize("content", [b"", b"MANIFEST-000005", b"MANIFEST-00000\n", b"nANIFEST-000005\n", b"\0" * 16])
def test_a_damaged_current_is_refused(stored: Path, content: bytes) -> None:
    (stored / "db" / "CURRENT").write_bytes(content)
    assert_refused(stored, rf"{stored}/db/CURRENT is damaged: it holds b.*")


def test_a_current_that_names_nothing_is_refused(stored: Path) -> None:
    (stored / "db" / "CURRENT").write_bytes(b"MANIFEST-000004\n")
    assert_refused(stored, rf"{stored}/db/CURRENT names MANIFEST-000004, which is not there")


def test_a_current_that_names_an_older_manifest_is_refused(stored: Path) -> None:
    """One that RocksDB had no time to remove: here, from when the store was new."""
    old = stored / "db" / "MANIFEST-000004"
    old.write_bytes(manifest(stored).read_bytes())
    cut(old, headers(old)[-3])
    (stored / "db" / "CURRENT").write_bytes(b"MANIFEST-000004\n")
    assert_refused(stored, r"MANIFEST-000004")


@pytest.fixture
def recovered(stored: Path, clock: Hand) -> Path:
    """The same after a recovery, which put the log's content into one table file a family; then the next crash."""
    opened = reopen(stored, clock)
    again = crash(stored)
    opened.close()
    return again


@pytest.mark.parametrize("records", [1, 2, 3, 4])
def test_a_manifest_that_lost_its_end_is_refused(recovered: Path, records: int) -> None:
    """RocksDB takes a cut for the end. Then the newest files of some families are unknown, and the log is gone."""
    path = manifest(recovered)
    cut(path, headers(path)[-records] + 5)
    assert_refused(recovered, r"MANIFEST-\d+")


def test_one_flipped_bit_in_the_length_of_a_last_record_is_refused(recovered: Path) -> None:
    """It makes the record longer than the file, and so "cut", for RocksDB."""
    path = manifest(recovered)
    for header in headers(path)[-2:]:
        content = path.read_bytes()
        damage(path, header + 4, bytes([content[header + 4] | 0x80]))
        assert path.read_bytes() != content
        assert_refused(recovered, r"MANIFEST-\d+ is damaged or was cut: it leads to turn 100 of the store, but to turn")
        path.write_bytes(content)


def test_every_family_knows_its_newest_turn(kv: RocksKv) -> None:
    for family in (LOG, DATA):
        assert kv.get(family, FAMILY_TURN) == (0).to_bytes(8, "big")
    write(kv, 3)
    for family in (LOG, DATA):
        assert kv.get(family, FAMILY_TURN) == (3).to_bytes(8, "big")


def test_a_store_of_an_older_version_has_no_turns_in_its_families() -> None:
    check_families({"log": None, "data": None}, 7, Path("MANIFEST-000005"))
    check_families({"log": (7).to_bytes(8, "big"), "data": (7).to_bytes(8, "big")}, 7, Path("MANIFEST-000005"))
    with pytest.raises(CorruptData, match=r"MANIFEST-000005 .* turn 7 of the store, but to turn -1 of the family data"):
        check_families({"log": (7).to_bytes(8, "big"), "data": None}, 7, Path("MANIFEST-000005"))


# --- One bit anywhere


def flips(content: bytes, count: int, chance: random.Random) -> list[bytes]:
    """``count`` copies with one bit flipped, or all of them when there are fewer."""
    places = [(at, bit) for at in range(len(content)) for bit in range(8)]
    found = []
    for at, bit in places if len(places) <= count else chance.sample(places, count):
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        found.append(bytes(flipped))
    return found


@pytest.mark.parametrize(
    ("pattern", "harmless"),
    [
        ("db/CURRENT", False),
        ("db/MANIFEST-*", False),
        ("db/OPTIONS-*", True),
        ("db/IDENTITY", True),
        ("db/rocksdict-config.json", True),
        ("db/LOG", True),
        ("format", None),
        ("durable-turn", None),
    ],
)
def test_one_flipped_bit_is_refused_or_harmless(stored: Path, pattern: str, harmless: bool | None) -> None:
    """``harmless`` None: either, as the bit may be in a comment or in an older record."""
    path = next(stored.glob(pattern))
    copy = stored.with_name("flipped")
    flipped = flips(path.read_bytes(), 40, random.Random(pattern))
    for content in (*flipped, b"", path.read_bytes()[:-1]):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(stored, copy)
        (copy / path.relative_to(stored)).write_bytes(content)
        refused = ""
        try:
            opened = reopen(copy)
        except StorageError as error:
            refused = str(error)
        if refused:
            assert harmless is not True
            assert path.name in refused
            assert "Next step: " in refused
        else:
            assert harmless is not False or pattern == "db/MANIFEST-*", "a record at its end may be one without effect"
            assert turns(opened) == ALL
            opened.close()


def test_one_flipped_bit_in_a_table_file_is_told_with_its_name(kv: RocksKv, tmp_path: Path) -> None:
    """At open or when it is read; ``has`` and ``get`` of every key, and scans, in both directions."""
    write(kv, 50)
    kv.close()
    path = tmp_path / "kv"
    chance = random.Random(5)
    copy = tmp_path / "flipped"
    for table in sorted((path / "db").glob("*.sst")):
        for content in flips(table.read_bytes(), 25, chance):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(path, copy)
            (copy / "db" / table.name).write_bytes(content)
            told = read_all(copy)
            assert told == "" or (table.name in told and "Next step: " in told), told


def read_all(path: Path) -> str:
    """Open the store of 50 turns and read it in every way there is: what it said against it, or nothing."""
    kv = None
    try:
        kv = reopen(path)
        assert turns(kv) == list(range(1, 51))
        assert len(list(kv.scan(DATA, b"", b"\xff", reverse=True))) == 50
        for turn in range(1, 51):
            assert has(kv, LOG, name(turn))
            assert kv.get(DATA, name(turn)) is not None
    except CorruptData as error:
        return str(error)
    finally:
        if kv is not None:
            kv.close()
    return ""


def test_damage_that_a_rewrite_meets_is_told_although_nobody_writes(tmp_path: Path) -> None:
    """RocksDB's own thread fails, and tells nobody until the next write."""
    kv = reopen(tmp_path)
    for count in (400, 1):  # two files that overlap: they are merged, not only moved
        write(kv, count)
        kv.sync()
        kv.flush()
        written_out(kv)
    largest = max((tmp_path / "db").glob("*.sst"), key=lambda each: each.stat().st_size)
    damage(largest, largest.stat().st_size // 2, b"\xff\x00\xff")
    assert kv.tend() is None
    kv._families[DATA].set_options({"level0_file_num_compaction_trigger": "1"})
    while not kv._database.property_int_value("rocksdb.background-errors"):
        os.sched_yield()
    with pytest.raises(CorruptData, match=rf"compaction failed in {tmp_path}: .*{largest}.*Next step: keep this"):
        kv.tend()
    with pytest.raises(StorageError, match="is unusable"):
        kv.sync()
    kv.close()


def test_a_missing_table_file_is_refused(stored: Path) -> None:
    largest = max((stored / "db").glob("*.sst"), key=lambda each: each.stat().st_size)
    largest.unlink()
    assert_refused(stored, rf"{largest} is damaged \(.*No such file or directory")


# --- Damage to the very last bytes that were synced


def test_damage_right_before_a_kill_is_refused(kv: RocksKv, tmp_path: Path, clock: Hand) -> None:
    """Synced within the last second, so not on record on disk yet; but the machine ran on."""
    synced_and_recorded(kv, clock, 20)
    write(kv, 20)
    kv.sync()
    write(kv, 5)
    path = crash(tmp_path / "kv")
    wal = wals(path)[-1]
    damage(wal, headers(wal)[-6] + 20, b"\xff\x00\xff")
    assert_refused(path, rf"{wal} is damaged .*: turn 40 was synced, but only \d\d is there")


def test_a_sync_that_does_not_say_its_file_is_of_the_newest_log(tmp_path: Path) -> None:
    for number in (7, 12, 9):
        (tmp_path / f"{number:06}.log").write_bytes(b"x")
    (tmp_path / "000013.log").touch()
    error = Exception("IO error: Writer has previous error.")
    assert find_file(tmp_path, "sync", error) == tmp_path / "000012.log"
    assert find_file(tmp_path, "get", error) is None
