"""What tests of the store on disk share: turns that say whose they are, crashes, and damage.

A crash is a copy of the directory while the store is open: the copy has what was written, synced or not. What a power
cut then does to the bytes that were not synced is done to the copy by hand.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.storage.kv import Family, WriteBatch
from durable_streams_cluster.storage.recovery import FIRST_TURNS, TURNS_KEPT, turn_key
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


def written_out(kv: RocksKv) -> None:
    """Wait for what the last flush began."""
    while kv._room.writing_out():
        os.sched_yield()


def wals(path: Path) -> list[Path]:
    """The WAL files, oldest first."""
    return sorted((path / "db").glob("*.log"))


def wal_size(kv: RocksKv) -> int:
    return kv.properties()["wal_bytes"]


def crash(path: Path) -> Path:
    """The directory as it is now, elsewhere; again while RocksDB's own threads change it under the copy."""
    while True:
        before = _tables(path)
        copy = _copied(path)
        if _tables(path) == before:
            return copy


def _tables(path: Path) -> set[str]:
    """Table files, and how long each MANIFEST is: what a flush or a compaction in the background changes."""
    found = {each.name for each in (path / "db").glob("*.sst")}
    return found | {f"{each.name} {each.stat().st_size}" for each in (path / "db").glob("MANIFEST-*")}


def _copied(path: Path) -> Path:
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


def synced_and_recorded(kv: RocksKv, clock: Hand, count: int) -> None:
    write(kv, count)
    clock.now += 1000
    kv.sync()


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


def after(lost: range, newest: int) -> list[bytes]:
    """The turn keys of a store in which the writes ``lost`` never happened."""
    present = set(FIRST_TURNS)
    for turn in range(1, newest + 1):
        if turn not in lost:
            present.add(turn)
            present.discard(turn - TURNS_KEPT)
    return [turn_key(turn) for turn in sorted(present)]
