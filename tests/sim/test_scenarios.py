"""Scenarios by hand in the simulated world: what a seed once found, with nothing else in it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.runtime.lifetimes import SETTLING_MS
from durable_streams_cluster.streams.commands import Append, Create, Expire
from durable_streams_cluster.streams.outcomes import Appended, Outcome
from tests.sim.clients import TEXT
from tests.sim.node import Life, Node
from tests.sim.world import World
from tests.sim.world import simulated as simulated_world

TTL_S = 3


def simulated(main: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Of three nodes the first stands first, then the second; nothing goes wrong by itself."""

    async def run(world: World) -> None:
        assert world.first == len(world.nodes) == 3
        weather = world.network.weather
        weather.loses = weather.doubles = weather.reorders = 0.0
        for number, node in enumerate(world.nodes):
            node.dice = lambda below, number=number: number * (below - 1) // 2  # type: ignore[method-assign, misc]
        for node in world.nodes:
            node.start()
        await world.observer.next_leader()
        assert world.leader is world.nodes[0]
        await ask(world.nodes[0], lambda life: life.streams.create(Create("w", TEXT, TTL_S, None, False, b"", None)))
        await main(world)

    with simulated_world() as loop:
        loop.run_until_complete(run(World(3, loop)))


async def ask(node: Node, what: Callable[[Life], Coroutine[Any, Any, Any]]) -> Any:
    life = node.life
    assert life is not None
    return await asyncio.wait_for(life.ask(lambda: what(life), 0.0, 0.0), 60)


async def append(node: Node) -> Any:
    return await ask(node, lambda life: life.streams.append(Append("w", TEXT, b"more", False, None, None)))


def test_a_read_that_waits_for_the_node_to_lead_begins_the_window_anew() -> None:
    """It was asked of a follower, which became the leader and answered it itself: nobody noted that."""

    async def main(world: World) -> None:
        first, second, third = world.nodes
        await asyncio.sleep(TTL_S - 0.5)
        world.end(first)
        page = await ask(second, lambda life: life.streams.read("w", From.START))
        assert isinstance(page, Page)
        assert world.leader is second
        await asyncio.sleep(TTL_S - 0.7)
        assert TTL_S - 0.7 > SETTLING_MS / 1000
        assert isinstance(await append(third), Appended)

    simulated(main)


def test_what_ended_for_a_leader_that_was_is_asked_of_the_one_that_is() -> None:
    """A leader that hung saw a window's end, and was deposed before its log held that; the next one was given it."""

    async def main(world: World) -> None:
        first, second, third = world.nodes
        life = second.life
        assert life is not None
        await asyncio.sleep(0.2)
        ref = life.replica.group.store.committed.find("w")
        meta = life.replica.group.store.committed.meta(ref) if ref is not None else None
        assert ref is not None
        assert meta is not None
        assert isinstance(await ask(third, lambda life: life.streams.read("w", From.START)), Page)
        late = Expire("w", ref.id, meta.touched_at)

        async def expire(life: Life) -> Outcome:
            return await life.driver.propose(late, 100)

        await ask(second, expire)
        assert isinstance(await append(first), Appended)

    simulated(main)
