"""A leader that ends hands over and goes on serving until another one leads."""

import asyncio

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import Role
from durable_streams_cluster.raft.messages import (
    Heartbeat,
)
from durable_streams_cluster.runtime.hand_over import ATTEMPT_S, ATTEMPTS
from tests.runtime.followers import NEXT, OTHER, leading
from tests.runtime.world import settle, simulate


def test_it_waits_until_another_one_leads() -> None:
    async def main() -> None:
        driver, followers = await leading()
        handing = asyncio.ensure_future(driver.hand_over.run())
        await settle()
        assert followers.told, "the next one is told to stand"
        assert not handing.done(), "nobody else leads yet"
        term = driver.replica.group.core.term
        followers.deliver(followers.told[0], Heartbeat(Term(term + 1), Index(0), 0))
        await settle()
        assert handing.done()
        assert len(set(followers.told)) == 1, "one is told, not one after the other"
        driver.close()

    simulate(main)


def test_it_gives_up_in_bounded_time() -> None:
    async def main() -> None:
        driver, followers = await leading()
        began = asyncio.get_running_loop().time()
        await driver.hand_over.run()
        assert asyncio.get_running_loop().time() - began <= ATTEMPTS * ATTEMPT_S + 0.1
        assert driver.replica.group.core.role is Role.LEADER
        assert followers.told
        driver.close()

    simulate(main)


def test_it_hands_over_to_nobody_who_is_gone() -> None:
    async def main() -> None:
        driver, followers = await leading()
        followers.leave(NEXT)
        handing = asyncio.ensure_future(driver.hand_over.run())
        await settle()
        assert set(followers.told) == {OTHER}
        handing.cancel()
        driver.close()

    simulate(main)


def test_who_goes_while_being_told_is_not_waited_for() -> None:
    async def main() -> None:
        driver, followers = await leading()
        handing = asyncio.ensure_future(driver.hand_over.run())
        await settle()
        (first,) = set(followers.told)
        followers.leave(first)
        await settle()
        assert set(followers.told) == {NEXT, OTHER}
        handing.cancel()
        driver.close()

    simulate(main)


def test_others_may_go_meanwhile() -> None:
    async def main() -> None:
        driver, followers = await leading()
        handing = asyncio.ensure_future(driver.hand_over.run())
        await settle()
        (first,) = set(followers.told)
        (other,) = {NEXT, OTHER} - {first}
        for _ in range(ATTEMPTS):
            followers.leave(other)
            await settle()
        assert not handing.done(), "the one that was told may yet lead"
        handing.cancel()
        driver.close()

    simulate(main)


def test_when_all_go_it_waits_for_none() -> None:
    """As when the machines of a cluster are shut down together."""

    async def main() -> None:
        driver, followers = await leading()
        began = asyncio.get_running_loop().time()
        handing = asyncio.ensure_future(driver.hand_over.run())
        await settle()
        followers.leave(NEXT)
        followers.leave(OTHER)
        await handing
        assert asyncio.get_running_loop().time() - began < ATTEMPT_S / 2
        driver.close()

    simulate(main)
