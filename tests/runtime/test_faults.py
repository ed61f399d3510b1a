"""What goes wrong beside the disk's own failures: reads of a store that broke, stalls that last, paths made again."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.errors import OutcomeUnknown, StorageError, Unavailable
from durable_streams_cluster.ids import Index
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.runtime import jobs as jobs_module
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.storage.kv import Family
from durable_streams_cluster.streams.commands import Append, Delete
from tests.runtime.world import StallingKv, World, alive, append, content, create, settle, simulate, started


class UnreadableKv(StallingKv):
    """Once ``broken``, reads fail too."""

    def get(self, family: Family, key: bytes) -> bytes | None:
        if self.broken:
            raise StorageError("block checksum mismatch in 000012.sst")
        return super().get(family, key)

    def scan(self, family: Family, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if self.broken:
            raise StorageError("block checksum mismatch in 000012.sst")
        return super().scan(family, start, end, reverse=reverse)


@pytest.mark.parametrize("operation", ["read", "head"])
def test_a_store_that_cannot_be_read_ends_the_node_and_its_words_stay_inside(operation: str) -> None:
    async def main() -> None:
        world = await started(UnreadableKv())
        world.kv.broken = True
        asked = {
            "read": lambda: world.streams.read("s", From.START),
            "head": lambda: world.streams.head("s"),
        }[operation]
        with pytest.raises(Unavailable) as refused:
            await asked()
        assert "checksum" not in str(refused.value)
        assert len(world.fatal) == 1

    simulate(main)


def test_a_write_that_meets_a_store_that_cannot_be_read_is_not_answered() -> None:
    async def main() -> None:
        world = await started(UnreadableKv())
        world.kv.broken = True
        appended = asyncio.ensure_future(world.streams.append(append("s")))
        await settle()
        assert len(world.fatal) == 1
        assert not appended.done(), "nobody may be told that it was not stored: it may be in the log"
        appended.cancel()

    simulate(main)


def test_a_stall_that_lasts_is_said_once_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = await started(limits=Limits(proposal_timeout_s=2.0, drain_timeout_s=3.0))
        await world.streams.create(create("s"))
        world.disk.hold = True
        appended = asyncio.ensure_future(world.streams.append(append("s")))
        await settle()
        world.kv.stalls = 1_000_000
        world.disk.release()
        await asyncio.sleep(1)
        world.driver.give_up_overdue()
        assert not appended.done()
        await asyncio.sleep(1.5)
        world.driver.give_up_overdue()
        with pytest.raises(OutcomeUnknown):
            await appended
        assert sum(record.levelno == logging.WARNING for record in caplog.records) == 1
        await world.driver.drain()

    simulate(main)


def test_a_watch_wakes_for_a_stream_made_again_at_its_path_during_the_read() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s", ttl_s=1))
        await asyncio.sleep(5)
        with world.streams.watch("s") as watch:
            reading = asyncio.ensure_future(world.streams.read("s", From.NOW))
            await world.streams.create(create("s"))
            page = await reading
            await watch.wait(0)
            await world.streams.append(append("s", b"new"))
            assert await watch.wait(10), "the append was made after the read"
            assert isinstance(page, Page)

    simulate(main)


def test_a_window_ends_although_an_idle_node_is_killed_again_and_again() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s", ttl_s=60))
        for _ in range(9):
            chores = asyncio.ensure_future(Jobs(world.driver, world.streams, world.clock, world.metrics).run())
            await asyncio.sleep(jobs_module.STAMP_S + 2)
            chores.cancel()
            await settle()
            world = await started(kv)
        await asyncio.sleep(driver_module.STALL_RETRY_S + 2)
        assert not await alive(world, "s")

    simulate(main)


def test_no_time_is_kept_while_nothing_counts_on_it() -> None:
    async def entries(world: World) -> Index:
        before = world.group.core.log.last
        await asyncio.sleep(30)
        world.driver.stamp()
        await settle()
        return Index(world.group.core.log.last - before)

    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        assert await entries(world) == 0
        await world.streams.create(create("t", ttl_s=1_000))
        assert await entries(world) == 1
        await world.streams.delete(Delete("t"))
        assert await entries(world) == 0

    simulate(main)


def test_draining_keeps_the_time_that_passed() -> None:
    async def main() -> None:
        kv = StallingKv()
        world = await started(kv)
        await world.streams.create(create("s", ttl_s=60))
        await asyncio.sleep(59)
        await world.driver.drain()
        world.driver.close()
        again = await started(kv)
        await asyncio.sleep(6)
        assert await alive(again, "s"), "a new leader gives a tenth more"
        await asyncio.sleep(2)
        assert not await alive(again, "s")

    simulate(main)


@pytest.mark.parametrize("stage", ["the entry", "what it does"])
def test_a_stall_that_ends_in_a_failure_acknowledges_and_shows_nothing(stage: str) -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        world.disk.hold = stage == "what it does"
        if stage == "the entry":
            world.kv.stalls = 3
        appended = asyncio.ensure_future(world.streams.append(append("s")))
        closed = asyncio.ensure_future(world.streams.append(Append("s", None, b"", True, None, None)))
        with world.streams.watch("s") as watch:
            await settle()
            if stage == "what it does":
                world.kv.stalls = 3
                world.disk.release()
                await settle()
            assert await content(world, "s") == b""
            world.kv.broken = True
            assert not await watch.wait(1), "nobody is told"
        assert len(world.fatal) == 1
        assert not appended.done()
        assert not closed.done()
        with pytest.raises(Unavailable):
            await world.streams.head("s")
        await world.driver.drain()
        for task in (appended, closed):
            task.cancel()

    simulate(main)


def test_a_node_that_was_closed_during_a_stall_tries_nothing_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = await started(limits=Limits(drain_timeout_s=1.0))
        await world.streams.create(create("s"))
        world.kv.stalls = 1_000_000
        appended = asyncio.ensure_future(world.streams.append(append("s")))
        await settle()
        await world.driver.drain()
        world.driver.close()
        world.kv.close()
        world.kv.stalls = 0
        await asyncio.sleep(1)
        assert not world.fatal
        appended.cancel()

    simulate(main)
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


def test_a_read_that_fails_takes_back_no_earlier_renewal() -> None:
    async def main() -> None:
        world = await started()
        for path in ("s", "other"):
            await world.streams.create(create(path, ttl_s=100 if path == "s" else None))
        await asyncio.sleep(9)
        assert isinstance(await world.streams.read("s", From.NOW), Page), "renewed in memory until 109 s"
        await asyncio.sleep(41)
        world.disk.hold = True
        held = asyncio.ensure_future(world.streams.append(append("other")))
        await settle()
        failing = asyncio.ensure_future(world.streams.read("s", From.NOW))
        await asyncio.sleep(world.limits.proposal_timeout_s + 1)
        world.driver.give_up_overdue()
        with pytest.raises(Unavailable):
            await failing
        with pytest.raises(OutcomeUnknown):
            await held
        world.disk.release()
        await settle()
        await asyncio.sleep(108 - 9 - 41 - world.limits.proposal_timeout_s - 1)
        assert await alive(world, "s")
        await asyncio.sleep(1)
        assert not await alive(world, "s")

    simulate(main)


def test_an_expiry_index_that_cannot_be_read_ends_the_node() -> None:
    """An idle node would else go on for ever, and tell nobody."""

    async def main() -> None:
        world = await started(UnreadableKv())
        chores = asyncio.ensure_future(Jobs(world.driver, world.streams, world.clock, world.metrics).run())
        world.kv.broken = True
        await asyncio.sleep(2)
        assert len(world.fatal) == 1
        chores.cancel()

    simulate(main)
