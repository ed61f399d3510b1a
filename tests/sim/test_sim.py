"""The simulation itself: a seed is always the same run, disks forget what they should, and what is wrong is seen."""

import asyncio
import os
import subprocess
import sys
from random import Random

import pytest

from durable_streams_cluster.raft import leader
from durable_streams_cluster.replica.barriers import Barriers
from durable_streams_cluster.replica.sessions import Sessions
from durable_streams_cluster.storage.kv import Family, WriteBatch, WriteStalled
from tests.kv import has
from tests.sim import runs
from tests.sim.disk import NodeDisk, SimDisk
from tests.sim.loop import VirtualLoop, context_of
from tests.sim.world import LEAST_ACKED, LEAST_FAULTS, run


def test_the_same_seed_is_the_same_run_in_another_process() -> None:
    """Whatever the order of sets there."""
    shown = [
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seed", "11"],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for number in ("1", "2")
    ]
    assert "digest" in shown[0]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_seed_has_no_violation(number: int) -> None:
    result = run(number)
    assert result.wrong == [], f"python -m tests.sim --seed {number}"
    assert result.acked >= LEAST_ACKED
    assert result.faults >= LEAST_FAULTS


# ------------------------------------------------------------------------------------------------ it sees what is wrong


def caught() -> bool:
    return any(run(seed).wrong for seed in range(12))


def test_what_is_applied_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "is_new", lambda self, origin, number: True)
    assert caught()


def test_a_read_that_does_not_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def visible(self: Barriers, index: int) -> list[object]:
        reached, self._reached = self._reached, []
        return [barrier.token for _, barriers in reached for barrier in barriers]

    monkeypatch.setattr(Barriers, "visible", visible)
    assert caught()


def test_a_leader_that_counts_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader.quorum, "committed_index", lambda match, voters: max(match.values()))
    assert caught()


# ------------------------------------------------------------------------------------------------------------ its parts


def batch(number: int) -> WriteBatch:
    made = WriteBatch()
    made.put(Family.DATA, b"%d" % number, b"x")
    return made


def test_a_power_cut_takes_a_suffix_of_what_was_not_synced() -> None:
    left = set()
    for seed in range(40):
        disk = NodeDisk(Random(seed), lambda number, batch: None)
        kv = disk.open()
        for number in range(6):
            kv.write(batch(number))
        disk.durable = 3
        lost = disk.cut()
        again = disk.open()
        found = [number for number in range(6) if has(again, Family.DATA, b"%d" % number)]
        assert found == list(range(6 - lost)), "a prefix"
        left.add(len(found))
        with pytest.raises(AssertionError):
            kv.write(batch(7))
    assert min(left) == 3, "what was synced stays"
    assert max(left) == 6


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        disk = NodeDisk(Random(1), lambda number, batch: None)
        kv = disk.open()
        syncs = SimDisk(kv, loop)
        done: list[BaseException | None] = []
        kv.write(batch(1))
        syncs.sync(done.append)
        kv.write(batch(2))
        await asyncio.sleep(1)
        assert (disk.durable, done) == (1, [None])
        disk.stalled = 1
        syncs.sync(done.append)
        await asyncio.sleep(1)
        assert (disk.durable, len(done)) == (1, 1)
        disk.stalled = 0
        await asyncio.sleep(1)
        assert (disk.durable, len(done)) == (2, 2)
        disk.refuses = True
        with pytest.raises(WriteStalled):
            kv.write(batch(3))

    loop.run_until_complete(main())
    loop.close()


class Process:
    def __init__(self, rate: float = 1.0) -> None:
        self.ended = self.paused = False
        self.rate = rate
        self.kept: list[asyncio.Handle] = []


def test_a_paused_process_goes_on_and_an_ended_one_does_not() -> None:
    loop = VirtualLoop()
    told: list[tuple[str, float]] = []

    async def main() -> None:
        fast, paused, ended = Process(2.0), Process(), Process()
        for name, process in (("fast", fast), ("paused", paused), ("ended", ended)):
            context = context_of(process)
            loop.call_soon(
                lambda name=name: loop.call_later(1, lambda: told.append((name, loop.now_s))), context=context
            )
        await asyncio.sleep(0.1)
        paused.paused = ended.ended = True
        await asyncio.sleep(2)
        loop.go_on(paused)
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    loop.close()
    assert [(name, round(at, 3)) for name, at in told] == [("fast", 0.5), ("paused", 2.1)]


def test_everything_waiting_is_a_deadlock() -> None:
    loop = VirtualLoop()
    with pytest.raises(AssertionError, match="deadlock"):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_marks_that_are_hardly_seen_are_told() -> None:
    summary = runs.Summary()
    result = run(3)
    for seed in range(100):
        summary.add(result._replace(seed=seed))
    assert set(summary.missing()) == {mark for mark in runs.EXPECTED if not result.marks[mark]}
    assert "100 seeds" in summary.table()
