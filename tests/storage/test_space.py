"""Room on the disk: how it is shared, the ballast, and what may not be begun without room."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_streams_cluster.limits import DEFAULT_MEMORY_BUDGET, MIB, DiskPlan, Limits, MemoryShares
from durable_streams_cluster.storage.space import Ballast, measure

GIB = 1024 * MIB

# --- The plan


def test_a_large_disk_has_the_reserve_of_the_readme() -> None:
    plan = DiskPlan.of(Limits(), 100 * GIB)
    assert (plan.reserve, round(plan.ballast / MIB)) == (512 * MIB, 272)
    shares = MemoryShares.of(DEFAULT_MEMORY_BUDGET)
    assert (plan.flush_bytes, plan.inflight_bytes) == (shares.flush_bytes, shares.inflight_bytes)


def test_a_small_disk_keeps_most_for_data() -> None:
    plan = DiskPlan.of(Limits(), 300 * MIB)
    assert plan.reserve == 300 * MIB // 8
    assert plan.reserve + plan.ballast < 110 * MIB


@given(
    size=st.integers(1, 2**45), reserve=st.integers(0, 2**40), append=st.integers(1, 64), budget=st.integers(64, 4096)
)
@settings(deadline=None, derandomize=True)
def test_every_plan_holds_what_it_must(size: int, reserve: int, append: int, budget: int) -> None:
    shares = MemoryShares.of(budget * MIB)
    limits = Limits(
        max_append_bytes=min(append * MIB, shares.inflight_bytes),
        max_inflight_bytes=shares.inflight_bytes,
        memory_budget=budget * MIB,
        disk_reserve=reserve,
    )
    plan = DiskPlan.of(limits, size)
    assert plan.inflight_bytes >= limits.max_append_bytes
    assert plan.flush_bytes <= shares.flush_bytes
    assert plan.reserve >= 8 * plan.flush_bytes or plan.flush_bytes == MIB
    if size >= 8 * GIB:
        assert plan.ballast >= 4 * plan.flush_bytes + 2 * plan.inflight_bytes + 16 * MIB


# --- The ballast


def test_the_ballast_takes_its_room_and_gives_it(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 3 * MIB)
    assert (ballast.taken(), ballast.missing(), ballast.give(MIB)) == (0, 3 * MIB, 0)
    ballast.make()
    assert (ballast.taken(), ballast.missing()) == (3 * MIB, 0)
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 3 * MIB
    assert ballast.give(3 * MIB, keep=MIB, enough=True) == 0
    assert ballast.give(3 * MIB, keep=MIB) == 2 * MIB
    assert (ballast.taken(), ballast.missing()) == (MIB, 2 * MIB)
    assert ballast.give(1, keep=MIB) == 0
    ballast.make()
    assert ballast.give(MIB) == MIB
    assert ballast.give(5 * MIB) == 2 * MIB
    assert (tmp_path / "ballast").stat().st_blocks == 0


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP])
def test_a_ballast_that_cannot_be_made_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    ballast = Ballast(tmp_path / "ballast", MIB)
    ballast.make()
    assert ballast.missing() == 0, "nobody waits for it"
    assert not (tmp_path / "ballast").exists()
    assert "may not open again until 1 MiB of it are free" in caplog.text


def test_of_a_ballast_that_cannot_be_made_whole_again_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = Ballast(tmp_path / "ballast", 3 * MIB)
    ballast.make()
    ballast.give(MIB)
    fallocate = os.posix_fallocate

    def fill_up(handle: int, at: int, _: int) -> None:
        fallocate(handle, at, 5 * MIB // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fill_up)
    ballast.make()
    assert ballast.taken() == 2 * MIB


def test_a_ballast_on_a_broken_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        Ballast(tmp_path / "ballast", MIB).make()


def test_room_is_that_of_the_nearest_directory(tmp_path: Path) -> None:
    found = measure(tmp_path / "not" / "there")
    assert found.size == measure(tmp_path).size
    assert 0 < found.free <= found.size


def test_a_disk_without_inodes_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    found = {name: getattr(real, name) for name in ("f_bavail", "f_frsize", "f_blocks")}

    class Few:
        f_files, f_favail = 1000, 63
        f_bavail, f_frsize, f_blocks = found["f_bavail"], found["f_frsize"], found["f_blocks"]

    monkeypatch.setattr(os, "statvfs", lambda _: Few)
    assert measure(tmp_path).free == 0
    assert measure(tmp_path).few_files
