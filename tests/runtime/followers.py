"""A leader of three in simulated time, whose followers are played."""

import asyncio

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Membership, Room
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
from durable_streams_cluster.runtime.outbox import Kind
from tests.runtime.world import SimulatedClock, SimulatedDisk, StallingKv

HERE, NEXT, OTHER = NodeId("n1"), NodeId("n2"), NodeId("n3")


class Followers:
    """Two members that agree to everything, as the transport of a third; told to stand, they are noted."""

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self.told: list[NodeId] = []
        self.gone: set[NodeId] = set()
        self.rooms: dict[NodeId, Room] = {}
        self.incarnations: dict[NodeId, int] = {}
        """Of their data directories, where a test cares."""
        self.heard: list[tuple[NodeId, PeerMessage]] = []
        """Who was sent what."""

    def leave(self, node: NodeId) -> None:
        """The process ends, and with it the connection."""
        assert self.driver is not None
        self.gone.add(node)
        self.driver.lost(node)

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        if to in self.gone:
            return False
        for message in wire.unpack(payload).messages:
            self.heard.append((to, message))
            answer = self._answer(to, message)
            if answer is not None:
                self.deliver(to, answer)
        return True

    def deliver(self, sender: NodeId, message: Message) -> None:
        assert self.driver is not None
        incarnation = self.incarnations.get(sender, 0)
        for _, _, payload in wire.pack([Addressed(HERE, ONLY_GROUP, message)]):
            asyncio.get_running_loop().call_soon(self.driver.deliver, sender, incarnation, payload)

    def _answer(self, to: NodeId, message: PeerMessage) -> Message | None:
        match message:
            case RequestVote(term, _, pre):
                return VoteReply(Term(term - 1) if pre else term, term, granted=True, pre=pre)
            case AppendEntries(term, previous, entries):
                return AppendReply(term, Index(previous.index + len(entries)))
            case Heartbeat(term, _, number):
                return HeartbeatReply(term, number, self.rooms.get(to, Room.PLENTY))
            case TimeoutNow():
                self.told.append(to)
        return None


def one_of(membership: Membership, kv: StallingKv | None = None) -> tuple[Driver, Followers]:
    """The first of three, on this store; not started."""
    clock, kv, followers = SimulatedClock(), kv or StallingKv(), Followers()
    member = membership.member(HERE)
    assert member is not None
    place = Place(HERE, membership, 1, directory=member.incarnation)
    replica = Replica(place, kv, Now(clock.steady_ms(), clock.wall_ms()), random=lambda _: 0)
    kept, driver_module.Disk = driver_module.Disk, SimulatedDisk  # type: ignore[misc, assignment]
    try:
        driver = Driver(replica, kv, clock, Limits(), Metrics(), lambda _: None, followers)
    finally:
        driver_module.Disk = kept  # type: ignore[misc]
    followers.driver = driver
    return driver, followers


async def leading() -> tuple[Driver, Followers]:
    driver, followers = one_of(Membership.of(HERE, NEXT, OTHER))
    replica = driver.replica
    await driver.start()
    while not replica.group.can_read:  # noqa: ASYNC110  # time is simulated
        await asyncio.sleep(0.01)
    return driver, followers
