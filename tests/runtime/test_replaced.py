"""Another data directory under the name of a member: it may lead, and what it promises counts for nobody."""

import asyncio

import pytest

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import Heartbeat, Member, Membership
from tests.runtime.followers import HERE, NEXT, OTHER, one_of
from tests.runtime.world import settle, simulate

THREE = Membership((Member(HERE, 1, voter=True), Member(NEXT, 2, voter=True), Member(OTHER, 3, voter=True)))


@pytest.mark.parametrize(("next_", "other", "elected"), [(2, 3, True), (22, 3, True), (22, 33, False)])
def test_its_vote_is_not_counted(next_: int, other: int, *, elected: bool) -> None:
    async def main() -> None:
        driver, followers = one_of(THREE)
        followers.incarnations = {NEXT: next_, OTHER: other}
        await driver.start()
        await asyncio.sleep(20)
        assert driver.replica.group.leads is elected
        driver.close()

    simulate(main)


def test_who_learns_late_that_it_took_the_members_place_is_led_by_it() -> None:
    """n4 joined, and its log came to where n1 was another directory: it hung up on n1, which led, for ever."""

    async def main() -> None:
        driver, others = one_of(THREE)
        others.gone = {NEXT, OTHER}
        others.incarnations = {NEXT: 22}
        await driver.start()
        others.deliver(NEXT, Heartbeat(Term(7), Index(0), 0))
        await settle()
        assert (driver.replica.group.core.leader, driver.replica.group.core.term) == (NEXT, 7)
        driver.close()

    simulate(main)
