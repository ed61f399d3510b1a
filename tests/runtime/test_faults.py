"""What goes wrong beside the disk's own failures: reads of a store that broke, stalls that last, paths made again."""

import asyncio
import logging

import pytest

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.errors import OutcomeUnknown, StorageError, Unavailable
from durable_streams_cluster.ids import Index
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.runtime import jobs as jobs_module
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.storage.kv import Family
from durable_streams_cluster.streams.commands import Delete
from tests.runtime.world import StallingKv, World, alive, append, create, settle, simulate, started


class UnreadableKv(StallingKv):
    """Once ``broken``, reads fail too."""

    def get(self, family: Family, key: bytes) -> bytes | None:
        if self.broken:
            raise StorageError("block checksum mismatch in 000012.sst")
        return super().get(family, key)


@pytest.mark.parametrize("operation", ["read", "head", "append"])
def test_a_store_that_cannot_be_read_ends_the_node_and_its_words_stay_inside(operation: str) -> None:
    async def main() -> None:
        world = await started(UnreadableKv())
        world.kv.broken = True
        asked = {
            "read": lambda: world.streams.read("s", From.START),
            "head": lambda: world.streams.head("s"),
            "append": lambda: world.streams.append(append("s")),
        }[operation]
        with pytest.raises(Unavailable) as refused:
            await asked()
        assert "checksum" not in str(refused.value)
        assert len(world.fatal) == 1

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
