"""A leader that ends hands over and goes on serving until another one leads."""

import asyncio

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Membership, Role
from durable_streams_cluster.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.exchange import Addressed, PeerMessage
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import ONLY_GROUP, Replica
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.runtime import wire
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.hand_over import ATTEMPT_S, ATTEMPTS
from durable_streams_cluster.runtime.outbox import Kind
from tests.runtime.world import SimulatedClock, SimulatedDisk, StallingKv, settle, simulate

HERE, NEXT, OTHER = NodeId("n1"), NodeId("n2"), NodeId("n3")


class Followers:
    """Two members that agree to everything, as the transport of a third; told to stand, they are noted."""

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self.told: list[NodeId] = []
        self.gone: set[NodeId] = set()

    def leave(self, node: NodeId) -> None:
        """The process ends, and with it the connection."""
        assert self.driver is not None
        self.gone.add(node)
        self.driver.lost(node)

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        if to in self.gone:
            return False
        for message in wire.unpack(payload).messages:
            answer = self._answer(to, message)
            if answer is not None:
                self.deliver(to, answer)
        return True

    def deliver(self, sender: NodeId, message: Message) -> None:
        assert self.driver is not None
        for _, _, payload in wire.pack([Addressed(HERE, ONLY_GROUP, message)]):
            asyncio.get_running_loop().call_soon(self.driver.deliver, sender, 0, payload)

    def _answer(self, to: NodeId, message: PeerMessage) -> Message | None:
        match message:
            case RequestVote(term, _, pre):
                return VoteReply(Term(term - 1) if pre else term, term, granted=True, pre=pre)
            case AppendEntries(term, previous, entries):
                return AppendReply(term, Index(previous.index + len(entries)))
            case Heartbeat(term, _, number):
                return HeartbeatReply(term, number)
            case TimeoutNow():
                self.told.append(to)
        return None


async def leading() -> tuple[Driver, Followers]:
    clock, kv, followers = SimulatedClock(), StallingKv(), Followers()
    place = Place(HERE, Membership.of(HERE, NEXT, OTHER), 1)
    replica = Replica(place, kv, Now(clock.steady_ms(), clock.wall_ms()), random=lambda _: 0)
    kept, driver_module.Disk = driver_module.Disk, SimulatedDisk  # type: ignore[misc, assignment]
    try:
        driver = Driver(replica, kv, clock, Limits(), Metrics(), lambda _: None, followers)
    finally:
        driver_module.Disk = kept  # type: ignore[misc]
    followers.driver = driver
    await driver.start()
    while not replica.group.can_read:  # noqa: ASYNC110  # time is simulated
        await asyncio.sleep(0.01)
    return driver, followers


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
