"""Turns: one for all that is noted until the loop comes to it, and one in bounded time whatever happens."""

import asyncio

from durable_streams_cluster.runtime.turns import Turns
from tests.runtime.world import simulate


def test_a_turn_that_is_asked_for_often_is_taken_once() -> None:
    async def main() -> None:
        taken: list[float] = []
        loop = asyncio.get_running_loop()
        turns = Turns(loop, lambda: taken.append(loop.time()))
        for _ in range(3):
            turns.soon()
        assert turns.due
        await asyncio.sleep(0)
        assert (len(taken), turns.due) == (1, False)
        turns.soon()
        await asyncio.sleep(0)
        assert len(taken) == 2

    simulate(main)


def test_a_turn_in_time_comes_when_it_was_first_asked_for() -> None:
    async def main() -> None:
        taken: list[float] = []
        loop = asyncio.get_running_loop()
        turns = Turns(loop, lambda: taken.append(loop.time()))
        turns.within(20)
        await asyncio.sleep(0.015)
        turns.within(20)
        assert turns.in_time
        await asyncio.sleep(0.010)
        assert (taken, turns.in_time) == ([0.020], False)
        await asyncio.sleep(0.1)
        assert len(taken) == 1

    simulate(main)
