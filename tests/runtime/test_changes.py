"""Changes of the membership through the driver of a node: whoever asks is answered."""

import asyncio

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import AddLearner, Member, Membership, Remove
from durable_streams_cluster.replica.members import Result, Wish
from durable_streams_cluster.runtime.outbox import Kind
from tests.runtime.world import simulate, started

N4, N5 = NodeId("n4"), NodeId("n5")


class Unreachable:
    """Whoever is added does not run yet."""

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        return False


def test_what_is_asked_of_a_node_that_is_alone_again_does_not_wait_for_others() -> None:
    """Of a node without others no message makes a turn, and no tick does."""

    async def play() -> None:
        world = await started()
        world.driver.transport = Unreachable()
        told: list[Result] = []
        wishes: list[Wish] = [AddLearner(Member(N4, 4)), Remove(N4), AddLearner(Member(N5, 5))]
        for wish in wishes:
            world.driver.change(wish, told.append)
        await asyncio.sleep(1)
        assert [each.learners for each in told if isinstance(each, Membership)] == [(N4,), (), (N5,)]
        assert world.group.leads

    simulate(play)


def test_a_node_that_is_alone_is_idle_when_all_is_answered() -> None:
    async def play() -> None:
        world = await started()
        world.driver.transport = Unreachable()
        told: list[Result] = []
        for wish in (AddLearner(Member(N4, 4)), Remove(N4)):
            world.driver.change(wish, told.append)
        await asyncio.sleep(1)
        turns = world.metrics.turns
        await asyncio.sleep(60)
        assert len(told) == 2
        assert world.metrics.turns == turns

    simulate(play)
