"""Who is woken, or answered, finds what that was for, whatever the store did in between."""

import asyncio

import pytest

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.storage.kv import WriteBatch
from tests.runtime.world import append, create, simulate, started


@pytest.mark.parametrize("after", [0, 1], ids=["the entry", "what it does"])
def test_a_reader_that_is_woken_finds_what_the_store_refused_at_first(after: int) -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        write = world.kv.write
        seen = 0

        def refuses(batch: WriteBatch) -> None:
            nonlocal seen
            seen += 1
            if seen == after + 1:
                world.kv.stalls = 3
            write(batch)

        world.kv.write = refuses  # type: ignore[method-assign]
        found: list[bytes] = []

        async def follow() -> None:
            with world.streams.watch("s") as watch:
                await watch.wait(60)
                page = await world.streams.read("s", From.START, fresh=False)
                assert isinstance(page, Page)
                found.extend(page.bodies)

        following = asyncio.ensure_future(follow())
        await asyncio.sleep(0)
        await world.streams.append(append("s", b"x"))
        await following
        assert seen > after
        assert found == [b"x"]

    simulate(main)
