"""What an operation costs must not grow with what is stored, and what one waits for must not stop the others."""

import asyncio
from collections.abc import Callable

import pytest

from durable_streams_cluster.streams.commands import Append, Command, Create, Fork, Producer
from tests.gateway import asgi
from tests.peers.asking import get, head, long_poll, offset, post, put, said, target
from tests.replica.node import Node, append, create
from tests.runtime.world import settle, simulate, started


def written(node: Node, command: Command) -> int:
    """Bytes that one command writes to the store, in all its batches."""
    before = len(node.batches)
    node.done(command)
    return sum(batch.size for batch in node.batches[before:])


def by_producer(number: int) -> Append:
    return Append("s", "text/plain", b"token", False, None, Producer(f"p{number:05d}", 0, 0))


GROWING: dict[str, Callable[[int], Command]] = {
    "appends": lambda _: append("s", b"token"),
    "producers": by_producer,
    "forks": lambda number: Create(f"fork-{number:05d}", None, None, None, False, b"", Fork("s", None, 0)),
    "streams": lambda number: create(f"stream-{number:05d}"),
}


@pytest.mark.parametrize("of", GROWING)
def test_an_operation_writes_no_more_when_a_thousand_came_before_it(of: str) -> None:
    """Elsewhere the whole producer map, a whole snapshot or a renamed file was written again for every append."""
    node = Node().boot()
    node.done(create("s"))
    node.done(append("s", b"first"))
    node.done(GROWING[of](0))
    early = written(node, GROWING[of](1))
    for number in range(2, 1000):
        node.propose(GROWING[of](number), number)
    node.settle()
    assert written(node, GROWING[of](1000)) <= early + 16, "numbers become a few bytes longer"


def test_a_thousand_streams_are_created_and_appended_to_with_a_few_syncs() -> None:
    """Servers with a file or a sync for each stream creep once there are thousands of them."""

    async def main() -> None:
        world = await started()
        syncs = world.disk.syncs
        await asyncio.gather(*(put(world, f"s{number}", "x") for number in range(1000)))
        await asyncio.gather(*(post(world, f"s{number}", "y") for number in range(1000)))
        assert world.disk.syncs - syncs <= 6
        assert (await get(world, "s999")).body == b"xy"

    simulate(main)


def test_a_read_writes_nothing() -> None:
    """A server with one file per stream wrote its metadata at every read."""

    async def main() -> None:
        world = await started()
        tail = offset(await put(world, "s", "one"))
        writes, syncs = world.kv.last_write, world.disk.syncs
        for query in ("offset=-1", f"offset={tail}", "offset=now", "offset=now&live=long-poll"):
            for _ in range(10):
                await get(world, "s", query)
        await head(world, "s")
        assert (world.kv.last_write, world.disk.syncs) == (writes, syncs)

    simulate(main)


def test_a_disk_that_hangs_stops_no_reader() -> None:
    """A plugin held one lock through every sync: a slow one stopped all streams, and those who only read as well."""

    async def main() -> None:
        world = await started()
        for path in ("s", "t"):
            await put(world, path, path)
        poll = await long_poll(world, "t")
        world.disk.hold = True
        exchange = asgi.parse(f"POST {target('s')}\ncontent-type: text/plain\n\nmore")
        exchange.begin(world.app)
        await settle()
        now = world.clock.steady_ms()
        for path in ("s", "t"):
            assert said(await get(world, path)) == (200, path.encode(), False)
            assert (await head(world, path)).status == 200
        assert world.clock.steady_ms() == now
        await poll.finish()
        assert poll.status == 204, "its time-out comes as ever"
        assert not exchange.done
        world.disk.release()
        await exchange.finish()

    simulate(main)


def test_an_idle_node_answers_after_one_sync_and_no_wait() -> None:
    """A server that writes to a bucket every 50 ms makes a single writer wait for that, token by token."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        now, syncs = world.clock.steady_ns(), world.disk.syncs
        for number in range(10):
            await post(world, "s", str(number))
        assert (world.clock.steady_ns(), world.disk.syncs) == (now, syncs + 10)

    simulate(main)
