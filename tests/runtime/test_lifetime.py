"""Lifetimes over driver, service and jobs, with simulated time (PROTOCOL 5.1; DESIGN: Time)."""

import asyncio

import pytest

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.streams.commands import Append, Create, Delete, Fork
from durable_streams_cluster.streams.outcomes import Appended, Created, NotFound, SoftDeleted
from tests.runtime.world import StallingKv, World, alive, append, content, create, simulate, started


def jobs(world: World) -> Jobs:
    return Jobs(world.driver, world.streams, world.clock, world.metrics)


def test_reads_and_appends_renew_a_window_and_head_does_not() -> None:
    async def main() -> None:
        world = await started()
        for path in ("read", "append", "head"):
            await world.streams.create(create(path, ttl_s=10))
        for _ in range(5):
            await asyncio.sleep(7)
            assert isinstance(await world.streams.read("read", From.NOW), Page)
            assert isinstance(await world.streams.append(append("append")), Appended)
            await world.streams.head("head")
        assert await alive(world, "read")
        assert await alive(world, "append")
        assert not await alive(world, "head")

    simulate(main)


def test_a_window_ends_at_its_end_and_not_before() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=10))
        await asyncio.sleep(9.999)
        assert await alive(world, "s")
        await asyncio.sleep(0.001)
        assert not await alive(world, "s")
        assert await world.streams.append(append("s")) == NotFound()

    simulate(main)


def test_reads_within_a_tenth_of_the_window_are_kept_in_memory_and_count_all_the_same() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=10))
        turns = world.metrics.turns
        await asyncio.sleep(0.9)
        await world.streams.read("s", From.NOW)
        assert world.metrics.turns == turns, "nothing was replicated"
        await asyncio.sleep(9.5)
        assert await alive(world, "s"), "10.4 s after its creation, 9.5 s after the read"
        await asyncio.sleep(0.5)
        assert not await alive(world, "s")

    simulate(main)


@pytest.mark.parametrize("command", [create("s"), append("s"), Delete("s")], ids=["create", "append", "delete"])
def test_what_comes_after_the_end_finds_the_stream_gone(command: Create | Append | Delete) -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=10))
        await world.streams.append(append("s", b"old"))
        await asyncio.sleep(10)
        if isinstance(command, Create):
            outcome = await world.streams.create(command)
            assert isinstance(outcome, Created)
            assert not outcome.existed
            assert await content(world, "s") == b""
        elif isinstance(command, Append):
            assert await world.streams.append(command) == NotFound()
        else:
            assert await world.streams.delete(command) == NotFound()

    simulate(main)


def test_a_source_that_ended_cannot_be_forked_and_one_with_forks_is_hidden() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=10))
        await world.streams.create(create("f", ttl_s=100, fork=Fork("s", None, 0)))
        await asyncio.sleep(10)
        outcome = await world.streams.create(create("g", fork=Fork("s", None, 0)))
        assert type(outcome).__name__ == "ForkSourceDeleted"
        assert await world.streams.head("s") == SoftDeleted()
        assert await alive(world, "f")

    simulate(main)


def test_the_job_ends_what_nobody_asks_for() -> None:
    async def main() -> None:
        world = await started()
        for number in range(20):
            await world.streams.create(create(f"s{number}", ttl_s=10))
        wall_end = world.clock.wall_ms() + 10_000
        await world.streams.create(create("wall", expires_at_ms=wall_end))
        await world.streams.create(create("kept", ttl_s=1_000))
        await asyncio.sleep(9)
        await world.streams.append(append("s0"))
        await asyncio.sleep(1)
        await jobs(world).expire()
        view = world.group.store.committed
        assert [number for number in range(20) if view.find(f"s{number}") is not None] == [0]
        assert view.find("wall") is None
        assert view.find("kept") is not None
        await asyncio.sleep(9)
        await jobs(world).expire()
        assert view.find("s0") is None, "its entry was moved when it was looked at too early"

    simulate(main)


def test_streams_that_a_new_leader_gives_more_time_do_not_keep_the_job_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("durable_streams_cluster.runtime.jobs.PER_ROUND", 2)

    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        for path in ("a", "b"):
            await world.streams.create(create(path, ttl_s=100))
        await asyncio.sleep(0.001)
        await world.streams.create(create("later"))
        again = await started(kv)
        await asyncio.sleep(50)
        await again.streams.create(create("c", ttl_s=52))
        await asyncio.sleep(53)
        chores = jobs(again)
        for _ in range(3):
            await chores.expire()
        view = again.group.store.committed
        assert view.find("a") is not None
        assert view.find("c") is None

    simulate(main)


def test_a_wall_clock_that_jumps_ends_nothing_before_it_is_believed() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("ttl", ttl_s=10_000))
        await world.streams.create(create("date", expires_at_ms=world.clock.wall_ms() + 3_600_000))
        world.clock.wall_offset_ms = -7_200_000
        await jobs(world).expire()
        assert await alive(world, "ttl")
        assert await alive(world, "date")
        world.clock.wall_offset_ms = 3_600_000
        await jobs(world).expire()
        assert await alive(world, "date")
        await asyncio.sleep(599)
        assert await alive(world, "date")
        await asyncio.sleep(1)
        assert not await alive(world, "date"), "a clock that shows the same for ten minutes is right"
        await jobs(world).expire()
        assert await alive(world, "ttl"), "windows never look at the wall clock"

    simulate(main)


def test_an_end_on_the_clock_comes_under_any_number_of_appends() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", expires_at_ms=world.clock.wall_ms() + 1_000))
        answers = []
        for _ in range(40):
            world.disk.hold = True
            waiting = [asyncio.ensure_future(world.streams.append(append("s"))) for _ in range(3)]
            await asyncio.sleep(0.05)
            world.disk.release()
            answers += await asyncio.gather(*waiting)
        assert answers[-1] == NotFound()
        assert not await alive(world, "s")

    simulate(main)


def test_a_new_leader_gives_a_tenth_more_and_expires_nothing_at_once() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s", ttl_s=100))
        await world.streams.create(create("short", ttl_s=1))
        await asyncio.sleep(0.001)
        await world.streams.create(create("later"))
        again = await started(kv, begun_ms=77)
        await asyncio.sleep(1.999)
        assert await alive(again, "short"), "nothing ends in the first two seconds"
        await asyncio.sleep(0.001)
        assert not await alive(again, "short")
        await asyncio.sleep(107.9)
        assert await alive(again, "s"), "reads that only the old leader knew of were at most a tenth of the window ago"
        await asyncio.sleep(0.1)
        assert not await alive(again, "s")

    simulate(main)


def test_a_new_leader_gives_the_same_to_what_the_last_entry_of_the_log_touched() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s", ttl_s=1))
        again = await started(kv, begun_ms=77)
        await asyncio.sleep(1.999)
        assert await alive(again, "s"), "nothing ends in the first two seconds"

    simulate(main)


def test_a_new_leader_gives_no_more_to_what_it_saw_itself() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s", ttl_s=10))
        again = await started(kv)
        await asyncio.sleep(5)
        await again.streams.append(append("s"))
        await asyncio.sleep(9.9)
        assert await alive(again, "s")
        await asyncio.sleep(0.1)
        assert not await alive(again, "s")

    simulate(main)


def test_time_that_a_node_was_down_does_not_count() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv, begun_ms=1_000_000)
        await world.streams.create(create("s", ttl_s=100))
        again = await started(kv, begun_ms=900_000_000)
        await asyncio.sleep(3)
        assert await alive(again, "s")

    simulate(main)
