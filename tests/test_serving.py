"""A node that is of a cluster and is not served yet: it gives up what waits, and sees what its disk has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import pytest

from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Member, Room
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.serving import Serving
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_cluster.storage.kv import Space
from tests.runtime.followers import HERE, NEXT, OTHER, Followers
from tests.runtime.world import SimulatedClock, SimulatedDisk, StallingKv, create, simulate

THREE = tuple(Member(node, number, f"127.0.0.1:{number}") for number, node in enumerate((HERE, NEXT, OTHER), 1))
STORED = StoredIdentity(HERE, 1, "c-1", THREE, begun=True)


@asynccontextmanager
async def starting(kv: StallingKv) -> AsyncIterator[Serving]:
    """One of three, and the others are away."""
    config = Config.load({}, {}, None)
    kept, driver_module.Disk = driver_module.Disk, SimulatedDisk  # type: ignore[misc, assignment]
    try:
        serving = Serving(config, kv, STORED, SimulatedClock(), Metrics(), lambda _: None)  # type: ignore[arg-type]
    finally:
        driver_module.Disk = kept  # type: ignore[misc]
    serving.driver.transport = away = Followers()
    away.gone = {NEXT, OTHER}
    serving.http = AsyncMock()  # It looks its address up in a thread, and time jumps meanwhile.
    start = asyncio.ensure_future(serving.start())
    try:
        await asyncio.sleep(0.1)
        assert not start.done()
        yield serving
    finally:
        start.cancel()
        await serving.drain()
        serving.driver.close()


def test_what_is_asked_of_a_node_that_nobody_leads_is_answered_in_time() -> None:
    async def main() -> None:
        async with starting(StallingKv()) as serving:
            timeout_s = serving._config.limits.proposal_timeout_s
            with pytest.raises(Unavailable):
                await asyncio.wait_for(serving.streams.create(create("s")), timeout_s + 2)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(serving.streams.head("s"), timeout_s + 2)

    simulate(main)


def test_a_disk_that_was_full_at_the_start_is_looked_at_again() -> None:
    """Who takes no entries is not served: were that waited for, it would take none for ever."""

    async def main() -> None:
        kv = StallingKv()
        kv.space = Space(10 * MIB, 1000 * MIB, 100 * MIB, 0, 1000 * MIB)
        async with starting(kv) as serving:
            await asyncio.sleep(2)
            assert serving.driver.replica.group.core.room is Room.NONE
            kv.space = Space(500 * MIB, 1000 * MIB, 100 * MIB, 0, 1000 * MIB)
            await asyncio.sleep(2)
            assert serving.driver.replica.group.core.room is Room.PLENTY

    simulate(main)
