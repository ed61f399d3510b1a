"""Syncs: one at a time, each for all that was written before."""

import asyncio
from collections.abc import Callable

from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.syncs import Syncs
from tests.runtime.world import SimulatedClock, SimulatedDisk, StallingKv, simulate


def test_one_at_a_time_and_it_covers_what_was_written_before() -> None:
    async def main() -> None:
        kv = StallingKv()
        disk = SimulatedDisk(kv, asyncio.get_running_loop())
        ended: list[int | None] = []
        syncs = Syncs(kv, disk, SimulatedClock(), Metrics(), ended.append, lambda _: None)  # type: ignore[arg-type]
        syncs.begin_if_due()
        assert not syncs.under_way, "nobody waits for one"
        syncs.want(1)
        syncs.want(2)
        disk.hold = True
        syncs.begin_if_due()
        syncs.want(3)
        syncs.begin_if_due()
        assert (disk.waiting, syncs.under_way) == (1, True)
        disk.release()
        await asyncio.sleep(0)
        assert (ended, syncs.under_way) == ([2], False), "3 may have been written after it began"
        syncs.begin_if_due()
        await asyncio.sleep(0)
        syncs.begin(flush=False)
        await asyncio.sleep(0)
        assert ended == [2, 3, None], "the last one made nothing durable that was not"

    simulate(main)


def test_one_that_begins_later_is_under_way_at_once() -> None:
    async def main() -> None:
        kv = StallingKv()
        disk = SimulatedDisk(kv, asyncio.get_running_loop())
        later: list[Callable[[], None]] = []
        syncs = Syncs(kv, disk, SimulatedClock(), Metrics(), lambda _: None, lambda _: None)  # type: ignore[arg-type]
        syncs.want(1)
        syncs.begin_if_due(later.append)
        assert (syncs.under_way, disk.syncs) == (True, 0)
        later[0]()
        assert disk.syncs == 1

    simulate(main)
