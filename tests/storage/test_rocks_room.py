"""What RocksDB takes of the disk, in a store: when it may rewrite files, and when the ballast gives."""

import errno
import os
import re
from pathlib import Path

import pytest

from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.limits import MIB, DiskPlan
from durable_streams_cluster.storage import rocks, rocks_room
from durable_streams_cluster.storage.kv import Space, WriteBatch
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.rocks_open import open_checked
from durable_streams_cluster.storage.rocks_room import largest_rewrite
from durable_streams_cluster.storage.space import Ballast, DiskFree
from tests.storage.crashes import DATA, Hand, crash, turns, wal_size, write, written_out

GIB = 1024 * MIB

# --- What rewriting takes


LEVELS = "Level Files Size(MB)\n--------------------\n"


@pytest.mark.parametrize(
    ("levels", "most"),
    [
        ({}, 0),
        ({0: 5}, 6),
        ({6: 900}, 0),
        ({0: 5, 6: 900}, 906),
        ({0: 5, 4: 30, 5: 70, 6: 900}, 44),
        ({0: 50, 4: 30, 5: 70, 6: 900}, 81),
        ({5: 7, 6: 8}, 15),
    ],
)
def test_the_largest_rewrite(levels: dict[int, int], most: int) -> None:
    text = LEVELS + "".join(f"  {each}        {int(each in levels)}      {levels.get(each, 0)}\n" for each in range(7))
    assert largest_rewrite(text, 4 * MIB) == most * MIB


# --- A store on a disk that has as much room as the test says

PLAN = DiskPlan(reserve=8 * MIB, flush_bytes=MIB, inflight_bytes=MIB, ballast=20 * MIB)


class Disk:
    """Free bytes, moved by hand."""

    def __init__(self, free: int) -> None:
        self.free = free

    def measure(self, _: Path) -> DiskFree:
        return DiskFree(self.free, GIB)


def opened(path: Path, disk: Disk) -> RocksKv:
    return RocksKv.open(
        path, memory_budget=16 * MIB, flush_bytes=PLAN.flush_bytes, clock=Hand(), plan=PLAN, measure=disk.measure
    )


def ballast_of(path: Path) -> int:
    file = path / "ballast"
    return file.stat().st_size if file.exists() else 0


def test_the_ballast_is_made_when_it_does_not_touch_the_reserve(tmp_path: Path) -> None:
    disk = Disk(29 * MIB)
    kv = opened(tmp_path, disk)
    assert ballast_of(tmp_path) == 0
    assert kv.tend() == Space(29 * MIB, GIB, 28 * MIB, 0, 4 * MIB), "the room it should have is not for appends"
    disk.free = 30 * MIB
    assert kv.tend() == Space(30 * MIB, GIB, 8 * MIB, 0, 4 * MIB)
    assert ballast_of(tmp_path) == 20 * MIB
    kv.close()


def test_a_full_disk_gets_of_the_ballast_what_opening_takes(tmp_path: Path) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path / "kv", disk)
    write(kv, 100)
    kv.sync()
    assert ballast_of(tmp_path / "kv") == 20 * MIB
    first = crash(tmp_path / "kv")
    copies = first, crash(first)
    needed = 8 * MIB + wal_size(kv)
    kv.close()
    for path, free, left in zip(copies, (needed, MIB), (20 * MIB, 21 * MIB - needed), strict=True):
        disk.free = free
        again = opened(path, disk)
        assert turns(again) == list(range(1, 101))
        assert ballast_of(path) == left
        again.close()


def test_a_quota_that_is_used_up_gets_of_the_ballast_what_opening_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room that a file system tells of does not have it."""
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)
    write(kv, 100)
    kv.close()
    refusals = [StorageError("Disk quota exceeded"), StorageError("Disk quota exceeded")]

    def refuse(*arguments: object) -> object:
        if refusals:
            raise refusals.pop()
        return open_checked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rocks, "open_checked", refuse)
    monkeypatch.setattr(Ballast, "make", lambda _: None)
    with pytest.raises(StorageError, match="quota"):
        opened(tmp_path, disk)
    left = ballast_of(tmp_path)
    assert 20 * MIB - left >= 8 * MIB
    refusals.append(StorageError("Disk quota exceeded"))
    kv = opened(tmp_path, disk)
    assert turns(kv) == list(range(1, 101))
    assert ballast_of(tmp_path) < left
    kv.close()


def test_a_disk_without_inodes_gets_nothing_of_the_ballast(tmp_path: Path) -> None:
    opened(tmp_path, Disk(GIB)).close()

    class Few(Disk):
        def measure(self, _: Path) -> DiskFree:
            return DiskFree(0, GIB, few_files=True)

    kv = opened(tmp_path, Few(0))
    batch = WriteBatch()
    batch.delete_range(DATA, b"a", b"b", frees=MIB)
    kv.write(batch)
    for _ in range(10):
        kv.tend()
    assert ballast_of(tmp_path) == 20 * MIB
    kv.close()


def test_files_are_rewritten_only_with_room_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)

    def state() -> str:
        """Of DATA, LOG and the family of turns, in the order in which RocksDB writes them down."""
        kv.tend()
        options = max((tmp_path / "db").glob("OPTIONS-*")).read_text()
        return " ".join(re.findall("disable_auto_compactions=(true|false)", options))

    assert state() == "false false false"
    disk.free = MIB
    write(kv, 100)
    kv.sync()
    assert kv._room.compacting
    kv.flush()
    written_out(kv)
    assert state() == "false true true"
    assert "gives no room back until there is more" in caplog.text
    assert not kv.reclaim_due()
    disk.free = GIB
    assert state() == "false false false"
    kv.close()


def test_the_ballast_gives_room_for_deleted_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocks_room, "_OPENING", MIB)
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)
    kv.tend()
    assert ballast_of(tmp_path) == 20 * MIB
    disk.free = MIB // 2
    for _ in range(3):
        kv.tend()
        assert ballast_of(tmp_path) == 20 * MIB, "nothing is deleted"
    batch = WriteBatch()
    batch.delete_range(DATA, b"a", b"b", frees=MIB)
    kv.write(batch)
    for free in (8 * MIB, 4 * MIB, MIB // 2):
        disk.free = free
        kv.tend()
        assert ballast_of(tmp_path) == 20 * MIB, "something else eats up the disk"
    for _ in range(5):
        assert ballast_of(tmp_path) == 20 * MIB, "maybe it is not done"
        kv.tend()
    given = 20 * MIB - ballast_of(tmp_path)
    assert MIB <= given <= 4 * MIB
    disk.free = 8 * MIB
    space = kv.tend()
    assert space is not None
    assert space.wanted == 8 * MIB + given
    assert kv._waiting.urgent
    kv.close()


def test_a_look_tells_what_memtables_hold_and_leaves_room_to_write_it_out(tmp_path: Path) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)
    batch = WriteBatch()
    batch.put(DATA, b"k", bytes(10 * MIB))
    kv.write(batch)
    for free, compacting in ((12 * MIB, True), (9 * MIB, False)):
        disk.free = free
        space = kv.tend()
        assert space is not None
        assert 10 * MIB <= space.unwritten <= 10 * MIB + 1000
        assert space.covered == 4 * MIB
        assert kv._room.compacting == compacting
    kv.close()


def test_what_earlier_flushes_wrote_out_does_not_add_up(tmp_path: Path) -> None:
    kv = opened(tmp_path, Disk(GIB))
    for _ in range(5):
        batch = WriteBatch()
        batch.put(DATA, b"k", bytes(MIB))
        kv.write(batch)
        kv.flush()
        written_out(kv)
    batch = WriteBatch()
    batch.put(DATA, b"k", bytes(MIB))
    kv.write(batch)
    kv.flush()
    assert kv._moved < 2 * MIB
    kv.close()


def test_the_ballast_keeps_what_the_next_open_takes(tmp_path: Path) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)
    batch = WriteBatch()
    batch.delete_range(DATA, b"a", b"b", frees=MIB)
    for number in range(20):
        batch.put(DATA, b"%d" % number, bytes(MIB // 2))
    kv.write(batch)
    disk.free = 0
    for _ in range(10):
        kv.tend()
    assert ballast_of(tmp_path) == 20 * MIB, "10 MiB are in memtables"
    kv.close()


def failing_rewrite(kv: RocksKv, monkeypatch: pytest.MonkeyPatch, *reasons: str) -> None:
    """RocksDB counts failures, and the diary tells of them."""
    line = "Waiting after background {} error: {}, Accumulated background error counts: {}\n"
    with (kv._room._path / "LOG").open("a") as log:
        for number, reason in enumerate(reasons, kv._room._errors + 1):
            log.write(line.format(*reason.split(" ", 1), number))
    count = kv._room._errors + len(reasons)
    monkeypatch.setattr(kv._room, "_failures", lambda: count)


PUT_OFF = "compaction Compaction too large: "
SHORT = "compaction IO error: No space left on device: While appending to file: /d/000031.sst"
FLUSH = SHORT.replace("compaction", "flush")


def test_a_rewrite_that_lacked_room_is_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kv = opened(tmp_path, Disk(GIB))
    for _ in range(2):
        failing_rewrite(kv, monkeypatch, SHORT)
        assert kv._room.lacked()
        for _ in range(9):
            kv.tend()
            assert not kv._room.compacting
        assert "rewriting files lacked room, and is tried again later: IO error: No space left" in caplog.text
        kv.tend()
        assert kv._room.compacting
        assert not kv._room.lacked()
    write(kv, 1)
    kv.close()


@pytest.mark.parametrize(
    "reasons",
    [
        [SHORT, SHORT],
        [FLUSH],
        [SHORT.replace("No space left", "Quota")],
        *([FLUSH, each] for each in (SHORT, PUT_OFF)),
        *([each, FLUSH, each] for each in (SHORT, PUT_OFF)),
    ],
)
def test_other_failures_in_the_background_end_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reasons: list[str]
) -> None:
    kv = opened(tmp_path, Disk(GIB))
    failing_rewrite(kv, monkeypatch, *reasons)
    with pytest.raises(StorageError, match=r"failed in .*000031.sst"):
        kv.tend()
    kv.close()


def test_a_rewrite_that_was_not_begun_for_lack_of_room_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB counts it behind one that did fail; three nodes on one disk that ran full all ended by it."""
    kv = opened(tmp_path, Disk(GIB))
    for reasons in ([SHORT], [PUT_OFF], [PUT_OFF, PUT_OFF]):
        failing_rewrite(kv, monkeypatch, *reasons)
        kv.tend()
        assert not kv._room.compacting
    for _ in range(10):
        kv.tend()
    assert kv._room.compacting
    failing_rewrite(kv, monkeypatch, PUT_OFF, SHORT, PUT_OFF)
    kv.tend()
    failing_rewrite(kv, monkeypatch, PUT_OFF, SHORT)
    with pytest.raises(StorageError, match="compaction failed"):
        kv.tend()
    kv.close()


def test_a_second_rewrite_that_lacks_room_ends_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RocksDB, when it found room again, would write memtables out by itself, and switch its WAL unsynced."""
    kv = opened(tmp_path, Disk(GIB))
    failing_rewrite(kv, monkeypatch, SHORT)
    kv.tend()
    failing_rewrite(kv, monkeypatch, SHORT)
    with pytest.raises(StorageError, match="compaction failed"):
        kv.tend()
    kv.close()


def test_a_failure_may_be_in_the_diary_only_at_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = opened(tmp_path, Disk(GIB))
    monkeypatch.setattr(kv._room, "_failures", lambda: 1)
    kv.tend()
    failing_rewrite(kv, monkeypatch, "flush IO error: While appending to file: /d/000031.sst: Input/output error")
    with pytest.raises(StorageError, match=r"flush failed in .*000031.sst"):
        kv.tend()
    kv.close()
    for count, told in enumerate(((), (PUT_OFF,)), 1):  # never in it, or one of two
        kv = opened(tmp_path, Disk(GIB))
        failing_rewrite(kv, monkeypatch, *told)
        monkeypatch.setattr(kv._room, "_failures", lambda count=count: count)
        kv.tend()
        with pytest.raises(StorageError, match="LOG may say how"):
            kv.tend()
        kv.close()


def test_a_range_whose_rewrite_lacked_room_waits_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = opened(tmp_path, Disk(GIB))
    batch = WriteBatch()
    batch.put(DATA, b"aa", bytes(MIB))
    kv.write(batch)
    batch = WriteBatch()
    batch.delete_range(DATA, b"a", b"b", frees=MIB)
    kv.write(batch)
    kv.flush()
    written_out(kv)
    failing_rewrite(kv, monkeypatch, SHORT)
    kv.reclaim()
    assert kv._waiting.waiting_bytes == MIB
    assert not kv._waiting._done
    monkeypatch.undo()
    kv._clock.now += 5_000  # type: ignore[attr-defined]
    assert kv.reclaim_due()
    kv.reclaim()
    assert kv._waiting.waiting_bytes == 0
    kv.close()


def test_little_room_makes_flushes_early(tmp_path: Path) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)
    write(kv, 100)
    assert not kv.flush_due()
    disk.free = 9 * MIB
    kv.tend()
    assert kv.flush_due()
    kv.close()


def test_deletions_are_not_written_out_early_when_nothing_can_be_rewritten(tmp_path: Path) -> None:
    disk, clock = Disk(GIB), Hand()
    kv = RocksKv.open(tmp_path, memory_budget=16 * MIB, flush_bytes=MIB, clock=clock, plan=PLAN, measure=disk.measure)
    batch = WriteBatch()
    batch.delete_range(DATA, b"a", b"b", frees=MIB)
    kv.write(batch)
    assert not kv.flush_due()
    clock.now += 1000
    for free, due in ((GIB, False), (9 * MIB, True), (0, False), (9 * MIB, True)):
        disk.free = free
        kv.tend()
        assert kv.flush_due() == due
    kv.close()


def test_deleted_data_is_urgent_when_there_is_little_room(tmp_path: Path) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)
    kv.tend()
    assert not kv._waiting.urgent
    disk.free = 9 * MIB
    kv.tend()
    assert kv._waiting.urgent
    kv.close()


def test_a_store_without_a_plan_does_not_look(tmp_path: Path) -> None:
    kv = RocksKv.open(tmp_path, memory_budget=16 * MIB)
    assert kv.tend() is None
    assert not (tmp_path / "ballast").exists()
    kv.close()


def test_a_disk_that_cannot_be_looked_at_ends_the_store(tmp_path: Path) -> None:
    disk = Disk(GIB)
    kv = opened(tmp_path, disk)

    def fail(_: Path) -> DiskFree:
        raise OSError(errno.EIO, "Input/output error")

    kv._room._share = kv._room._share._replace(measure=fail)  # type: ignore[union-attr]
    with pytest.raises(StorageError, match=r"a look at the disk failed in .*Input/output error"):
        kv.tend()
    with pytest.raises(StorageError, match="is unusable"):
        kv.get(DATA, b"k")
    kv.close()


def test_a_full_disk_does_not_keep_the_lock_from_being_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's id in it is for people."""
    opened(tmp_path, Disk(GIB)).close()
    pwrite = os.pwrite

    def refuse(handle: int, content: bytes, at: int) -> int:
        if os.readlink(f"/proc/self/fd/{handle}").endswith("/lock"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(handle, content, at)

    monkeypatch.setattr(os, "pwrite", refuse)
    opened(tmp_path, Disk(GIB)).close()
