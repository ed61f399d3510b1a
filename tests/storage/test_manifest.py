"""Damage to a MANIFEST: what a power cut leaves at its unsynced end is cut, and nothing is ever lost by that."""

import random
from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.storage.recovery import find_damage
from durable_streams_cluster.storage.rocks import RocksKv
from tests.storage.crashes import DATA, Hand, assert_refused, crash, flip, headers, reopen, turns, wals, write


def manifest(path: Path) -> Path:
    return next((path / "db").glob("MANIFEST-*"))


def flushed(kv: RocksKv) -> None:
    """Everything is in table files, and the WALs before are gone."""
    kv.sync()
    kv.flush()
    for family in (*kv._families, kv._database):
        family.flush(True)


@pytest.fixture
def used(kv: RocksKv, tmp_path: Path) -> Path:
    """A crash after two flushes, with a few turns in the WAL behind them."""
    for _ in range(2):
        write(kv, 70)
        flushed(kv)
    write(kv, 5)
    kv.sync()
    return crash(tmp_path / "kv")


TAILS = {
    "garbage": random.Random(1).randbytes(300),
    "zeros": bytes(300),
    "the first page only": b"\x11\x22\x33\x44\x10\x00\x01" + bytes(300),
    "what RocksDB would read for ever": bytes(6) + b"\x05" + bytes(300),
    "a torn end": bytes(4) + b"\xff\x00\x01torn",
}


@pytest.mark.parametrize("tail", TAILS)
def test_an_unsynced_end_is_cut(used: Path, tail: str) -> None:
    with manifest(used).open("ab") as file:
        file.write(TAILS[tail])
    kv = reopen(used)
    assert turns(kv) == list(range(1, 146))
    write(kv, 5)
    kv.close()
    kv = reopen(used)
    assert turns(kv) == list(range(1, 151))
    kv.close()
    assert sorted(each.name for each in used.iterdir()) == ["db", "durable-turn", "format", "lock"]


def test_a_flipped_bit_anywhere_loses_nothing(used: Path, tmp_path: Path) -> None:
    """It is refused, the file named and nothing changed, or everything is there without the damaged record."""
    file = manifest(used)
    refused = []
    for at in (*headers(file), *range(3, file.stat().st_size, 41)):
        path = crash(used)
        flip(manifest(path), at)
        try:
            kv = reopen(path)
        except CorruptData as error:
            refused.append(str(error))
            assert_refused(path, f"{manifest(path)} is damaged")
            continue
        try:
            assert turns(kv) == list(range(1, 146)), at
        finally:
            kv.close()
    assert len(refused) > 20


def test_the_end_of_a_flush_is_missed_when_it_was_synced(used: Path) -> None:
    """The last flush is in the MANIFEST only: its WAL is gone, and what is on record says so.

    Three column families are flushed, with a record each and one behind it that says which WALs are out of use.
    """
    for header in headers(manifest(used))[-6:-1]:
        path = crash(used)
        flip(manifest(path), header + 8)
        assert_refused(path, f"{manifest(path).name}")


def test_both_ends_may_be_damaged(used: Path) -> None:
    kv = reopen(used)
    write(kv, 5)
    path = crash(used)
    kv.close()
    for file in (manifest(path), wals(path)[-1]):
        with file.open("ab") as end:
            end.write(TAILS["garbage"] + TAILS["what RocksDB would read for ever"])
    kv = reopen(path)
    assert turns(kv) == list(range(1, 151))
    kv.close()


def test_damage_is_found_where_it_is(kv: RocksKv, tmp_path: Path) -> None:
    """In records that fill a block to its last bytes, and in those that go over many; a WAL is written alike."""
    for length in (1, 7, 100, 32_000, 32_768, 100_000):
        for off in range(6):
            batch = WriteBatch()
            batch.put(DATA, b"k", b"\5" * (length + off))
            kv.write(batch)
    kv.sync()
    path = crash(tmp_path / "kv")
    wal = wals(path)[-1]
    assert find_damage(wal) is None
    assert find_damage(manifest(path)) is None
    parts = headers(wal)
    content = wal.read_bytes()
    chance = random.Random(0)
    for number in chance.sample(range(len(parts)), 30):
        at = parts[number]
        begun = max(each for each in parts[: number + 1] if content[each + 6] in {1, 2})
        place = at + chance.choice([0, 4, 6, 7])
        flip(wal, place)
        found = find_damage(wal)
        flip(wal, place)
        assert found is not None
        assert begun <= found <= at + 7, f"a bit at {place} was found at {found}, its record begins at {begun}"


def test_a_torn_end_is_no_damage_unless_refused(tmp_path: Path) -> None:
    kv = RocksKv.open(tmp_path / "kv", memory_budget=1 << 24, clock=Hand())
    write(kv, 3)
    kv.close()
    file = manifest(tmp_path / "kv")
    with file.open("ab") as end:
        end.write(b"\x00" * 6)
    assert find_damage(file) is None
