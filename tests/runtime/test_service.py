"""Driver and service over a store in memory, with simulated time: reads, admission, draining, a disk that fails."""

import asyncio
import functools
import itertools
from dataclasses import replace

import pytest

from durable_streams_cluster.api import From, OffsetGone, Page
from durable_streams_cluster.errors import OutcomeUnknown, Overloaded, ShuttingDown, StorageError, Unavailable
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime.driver import WAKE_SLICE
from durable_streams_cluster.runtime.service import FIRST_RECORDS
from durable_streams_cluster.streams.commands import Append, Delete
from durable_streams_cluster.streams.offsets import START
from durable_streams_cluster.streams.outcomes import Appended, Deleted, NotFound
from tests.runtime.world import StallingKv, append, content, create, settle, simulate, started

# --------------------------------------------------------------------------------------------------------------- reads


def test_a_read_whose_stream_is_deleted_while_it_renews_finds_nothing() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=10))
        await world.streams.append(append("s"))
        await asyncio.sleep(5)
        deleted = asyncio.ensure_future(world.streams.delete(Delete("s")))
        found = asyncio.ensure_future(world.streams.read("s", From.START))
        assert await deleted == Deleted(soft=False)
        assert await found == NotFound()

    simulate(main)


def test_a_page_is_shared_by_those_who_read_the_same() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        await world.streams.append(append("s", b"1"))
        one, two = await world.streams.read("s", From.START), await world.streams.read("s", From.START)
        assert one is two
        await world.streams.append(append("s", b"2"))
        assert await content(world, "s") == b"12"
        assert isinstance(one, Page)
        assert one.bodies == [b"1"], "a page is never changed"

    simulate(main)


def test_what_a_fresh_read_would_answer_is_known_at_once_unless_it_takes_a_wait() -> None:
    async def main() -> None:
        world = await started()
        streams = world.streams
        await streams.create(create("s"))
        await streams.append(append("s", b"one"))
        assert streams.read_now("s", From.START) == await streams.read("s", From.START)
        assert streams.read_now("s", From.NOW) == await streams.read("s", From.NOW)
        assert streams.read_now("nowhere", From.START) == NotFound()
        await streams.create(create("window", ttl_s=60))
        assert streams.read_now("window", From.START) is None, "a read gives it more time"
        for _ in range(2 * FIRST_RECORDS):
            await streams.append(append("s", b"x"))
        assert streams.read_now("s", From.START) is None, "it is large, and being made"
        page = await streams.read("s", From.START)
        assert streams.read_now("s", From.START) is page

    simulate(main)


def test_offsets_of_a_stream_that_ended_are_gone() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=10))
        appended = await world.streams.append(append("s"))
        assert isinstance(appended, Appended)
        await asyncio.sleep(10)
        await world.streams.create(create("s"))
        assert await world.streams.read("s", appended.next_offset) == OffsetGone(START)

    simulate(main)


def test_what_was_acknowledged_is_read_at_once() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        for number in range(5):
            await world.streams.append(append("s", b"%d" % number))
            assert (await content(world, "s"))[-1:] == b"%d" % number

    simulate(main)


# ---------------------------------------------------------------------------------------------------- admission, drain


def test_bytes_and_operations_in_flight_are_bounded_and_freed() -> None:
    async def main() -> None:
        limits = replace(Limits(), max_inflight_bytes=10_000, max_append_bytes=9_000, max_pending_proposals=5)
        world = await started(limits=limits)
        await world.streams.create(create("s"))
        world.disk.hold = True
        large = asyncio.ensure_future(world.streams.append(append("s", b"x" * 9_000)))
        await settle()
        with pytest.raises(Overloaded, match="bytes"):
            await world.streams.append(append("s", b"y" * 1_000))
        world.disk.release()
        assert isinstance(await large, Appended)
        world.disk.hold = True
        small = [asyncio.ensure_future(world.streams.append(append("s"))) for _ in range(5)]
        await settle()
        with pytest.raises(Overloaded, match="operations"):
            await world.streams.append(append("s"))
        world.disk.release()
        await asyncio.gather(*small)
        assert (world.driver.admission.waiting, world.driver.admission.inflight_bytes) == (0, 0)
        assert await content(world, "s") == b"x" * 9_000 + b"x" * 5, "nothing of what was refused"

    simulate(main)


def test_a_stalled_store_refuses_new_writes_and_finishes_what_it_took() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s"))
        kv.stalls = 3
        first = asyncio.ensure_future(world.streams.append(append("s", b"1")))
        await settle()
        with pytest.raises(Overloaded, match="busy"):
            await world.streams.append(append("s", b"2"))
        assert await content(world, "s") == b"", "reads go on, and see nothing new"
        assert isinstance(await first, Appended)
        assert kv.stalls == 0
        assert isinstance(await world.streams.append(append("s", b"3")), Appended)
        assert await content(world, "s") == b"13"

    simulate(main)


def test_a_stall_of_the_batch_that_applies_shows_nothing_until_it_is_written() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s"))
        world.disk.hold = True
        first = asyncio.ensure_future(world.streams.append(append("s", b"1")))
        await settle()
        kv.stalls = 2
        world.disk.release()
        await settle()
        assert not first.done()
        assert await content(world, "s") == b""
        assert isinstance(await first, Appended)
        assert await content(world, "s") == b"1"

    simulate(main)


def test_draining_refuses_what_is_new_and_finishes_what_is_under_way() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        world.disk.hold = True
        under_way = asyncio.ensure_future(world.streams.append(append("s")))
        await settle()
        drained = asyncio.ensure_future(world.driver.drain())
        await settle()
        with pytest.raises(ShuttingDown):
            await world.streams.append(append("s"))
        assert not drained.done()
        world.disk.release()
        assert isinstance(await under_way, Appended)
        await drained
        assert await content(world, "s") == b"x"
        await world.driver.drain()

    simulate(main)


# ---------------------------------------------------------------------------------------------------------- the disk


def test_a_failed_sync_ends_everything_and_nothing_in_flight_is_called_stored() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        failure = StorageError("the disk is on fire")
        world.disk.hold = True
        in_flight = [asyncio.ensure_future(world.streams.append(append("s"))) for _ in range(2)]
        await settle()
        queued = asyncio.ensure_future(world.streams.append(append("s")))
        await settle()
        world.disk.failure = failure
        world.disk.release()
        await settle()
        assert world.fatal == [failure]
        assert world.driver.failure is failure
        assert not any(task.done() and task.exception() is None for task in [*in_flight, queued])
        with pytest.raises(Unavailable):
            await world.streams.append(append("s"))
        with pytest.raises(Unavailable):
            world.streams.create(create("t"))
        with pytest.raises(Unavailable):
            world.streams.delete(Delete("s"))
        for reads in (world.streams.read("s", From.START), world.streams.head("s")):
            with pytest.raises(Unavailable):
                await reads
        await world.driver.drain()
        assert len(world.fatal) == 1, "told once"
        for task in [*in_flight, queued]:
            task.cancel()

    simulate(main)


def test_what_comes_in_while_the_disk_is_slow_takes_no_turn_of_its_own() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        world.disk.hold = True
        appends = [asyncio.ensure_future(world.streams.append(append("s")))]
        await asyncio.sleep(1)
        turns = world.metrics.turns
        for _ in range(20):
            appends.append(asyncio.ensure_future(world.streams.append(append("s"))))
            await settle()
        assert world.metrics.turns == turns
        world.disk.hold = False
        world.disk.release()
        await asyncio.gather(*appends)

    simulate(main)


def test_a_node_whose_first_sync_fails_does_not_start() -> None:
    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "tests.runtime.world.SimulatedDisk.sync", lambda self, done, then_flush=False: done(OSError("no"))
            )
            with pytest.raises(StorageError, match="no"):
                await started()

    simulate(main)


def test_a_write_that_breaks_the_store_is_fatal() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        kv.broken = True
        waiting = asyncio.ensure_future(world.streams.create(create("s")))
        await settle()
        assert len(world.fatal) == 1
        assert not waiting.done()
        waiting.cancel()

    simulate(main)


def test_a_disk_that_hangs_is_told_apart_from_what_never_reached_it() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        world.disk.hold = True
        logged = asyncio.ensure_future(world.streams.append(append("s", b"logged")))
        await settle()
        queued = asyncio.ensure_future(world.streams.append(append("s", b"queued")))
        await asyncio.sleep(world.limits.proposal_timeout_s)
        world.driver.give_up_overdue()
        await settle()
        assert not logged.done()
        await asyncio.sleep(1)
        world.driver.give_up_overdue()
        with pytest.raises(OutcomeUnknown):
            await logged
        with pytest.raises(Unavailable):
            await queued
        assert (world.driver.admission.waiting, world.driver.admission.inflight_bytes) == (0, 0)
        world.disk.release()
        await settle()
        assert await content(world, "s") == b"logged", "it may happen later; what was withdrawn never does"

    simulate(main)


# ------------------------------------------------------------------------------------------------------------- watches


def test_a_watch_wakes_for_appends_closure_and_deletion_of_its_stream_only() -> None:
    async def main() -> None:
        world = await started()
        for path in ("s", "t"):
            await world.streams.create(create(path))
        with world.streams.watch("s") as watch:
            await world.streams.append(append("t"))
            assert not await watch.wait(1)
            await world.streams.append(append("s"))
            assert await watch.wait(1), "a move between two waits is not lost"
            assert not await watch.wait(1)
            closing = Append("s", None, b"", True, None, None)
            waiting = asyncio.ensure_future(watch.wait(1))
            await asyncio.sleep(0)
            await world.streams.append(closing)
            assert await waiting
            waiting = asyncio.ensure_future(watch.wait(1))
            await asyncio.sleep(0)
            await world.streams.delete(Delete("s"))
            assert await waiting
        with world.streams.watch("nowhere") as nothing:
            assert not await nothing.wait(0.5)

    simulate(main)


def test_many_watchers_are_woken_in_slices_each_once() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        woken: list[int] = []
        count = 3 * WAKE_SLICE + 1
        for number in range(count):
            world.driver.tails.register("s", number, functools.partial(woken.append, number))
        appended = asyncio.ensure_future(world.streams.append(append("s")))
        steps = [0]
        while len(woken) < count:
            await asyncio.sleep(0)
            steps.append(len(woken))
        assert max(after - before for before, after in itertools.pairwise(steps)) == WAKE_SLICE
        assert sorted(woken) == list(range(count))
        await appended

    simulate(main)
