"""Live reads and the leader: when it is asked, and what happens where there is none."""

import asyncio
from typing import Any

from durable_streams_cluster.api import From
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime.jobs import ALONE_TICKS, Jobs
from durable_streams_cluster.streams.offsets import Offset
from tests.gateway.asgi import Exchange
from tests.peers.asking import control, data, long_poll, post, put, said, sse
from tests.runtime.world import World, settle, simulate, started


def test_who_is_woken_asks_no_leader_and_who_waited_in_vain_does() -> None:
    """Asking costs a round trip: what woke a reader is here already. Silence may be that of a node that is cut off."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        asked: list[bool] = []
        read = world.streams.read

        async def noting(path: str, at: Offset | From, max_bytes: int | None = None, *, fresh: bool = True) -> Any:
            asked.append(fresh)
            return await read(path, at, max_bytes, fresh=fresh)

        world.streams.read = noting  # type: ignore[method-assign]
        stream, poll = await sse(world, "s"), await long_poll(world, "s")
        assert asked == [True, True]
        await post(world, "s", "two")
        await settle()
        assert data(stream).endswith("two")
        assert said(poll)[1] == b"two"
        assert asked == [True, True, False, False]
        await asyncio.sleep(Limits().sse_keepalive_s + 1)
        assert asked == [True, True, False, False, True]
        stream.leave()
        await stream.finish()

    simulate(main)


async def watched() -> tuple[World, asyncio.Future[None], Exchange, Exchange]:
    """A node with its chores, an SSE and a long-poll."""
    world = await started()
    await put(world, "s", "one")
    jobs = Jobs(world.driver, world.streams, world.clock, world.metrics)
    jobs.end_live = world.app.live.end
    return world, asyncio.ensure_future(jobs.run()), await sse(world, "s"), await long_poll(world, "s")


def test_a_node_that_is_alone_ends_no_live_reads() -> None:
    """It leads from its first tick on, and there is no second one that could take note of that."""

    async def main() -> None:
        _, chores, stream, poll = await watched()
        await asyncio.sleep(5)
        assert (stream.done, poll.done) == (False, False)
        chores.cancel()
        stream.leave()
        poll.leave()
        await asyncio.gather(stream.finish(), poll.finish())

    simulate(main)


def test_a_node_without_a_leader_ends_its_live_reads() -> None:
    async def main() -> None:
        world, chores, stream, poll = await watched()
        world.group.leaderless_ticks = ALONE_TICKS - 1
        await asyncio.sleep(2)
        assert not stream.done
        assert not poll.done
        world.group.leaderless_ticks = ALONE_TICKS
        await asyncio.sleep(2)
        assert stream.done
        assert control(stream)["streamNextOffset"]
        assert poll.status == 204
        chores.cancel()

    simulate(main)
