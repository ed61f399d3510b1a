"""A node among others, but for what is behind its driver: that remembers what it is asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import (
    Begun,
    EntryId,
    Lives,
    Member,
    Membership,
    MembershipChanged,
)
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.members import MembershipApplied, Result, Wish
from durable_streams_cluster.runtime.belonging import Belonging
from durable_streams_cluster.runtime.introductions import Asked
from durable_streams_cluster.runtime.peers import Handlers, Identity, Peers
from durable_streams_cluster.settings import Address
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ReportReply

N1, N2, N3, N9 = (NodeId(name) for name in ("n1", "n2", "n3", "n9"))
THREE = (Member(N1, 1, "127.0.0.1:1"), Member(N2, 2, "127.0.0.1:2"), Member(N3, 3, "127.0.0.1:3"))
BEGUN = Begun(17, Term(3), EntryId(Term(2), Index(40)))
STORED = StoredIdentity(N1, 1, "c-1", THREE, begun=True, others=((N2, "127.0.0.1:2"), (N3, "127.0.0.1:3")))


class Core:
    """What is known of the group; as a test says."""

    def __init__(self, leader: NodeId | None) -> None:
        self.membership = self.applied_membership = Membership(THREE)
        self.leader = leader
        self.lives = Lives()


class Removal:
    """Remembers who said that the node was removed."""

    def __init__(self) -> None:
        self.by: list[str] = []

    def told(self, by: str) -> None:
        self.by.append(by)

    @property
    def text(self) -> str:
        return f"removed, says {self.by[0]}" if self.by else ""


class Driver:
    """Remembers the changes it is asked for."""

    def __init__(self, leader: NodeId | None) -> None:
        self.core = Core(leader)
        self.begun = BEGUN
        self.failures: list[BaseException] = []
        self.transport: Any = None
        self.watchers: list[Callable[[object], None]] = []
        self.wishes: list[Wish] = []
        self.told: list[Callable[[Result], None]] = []
        self.handed: list[NodeId | None] = []
        self.takes_over = True
        self.hand_over = self
        self.removal = Removal()
        self.replica = SimpleNamespace(group=self)
        self.asked = asyncio.Event()

    @property
    def leads(self) -> bool:
        return self.core.leader == N1

    def change(self, wish: Wish, told: Callable[[Result], None]) -> None:
        self.wishes.append(wish)
        self.told.append(told)
        self.asked.set()

    async def run(self, to: NodeId | None) -> bool:
        self.handed.append(to)
        return self.takes_over

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)

    def say(self, event: object) -> None:
        for watch in self.watchers:
            watch(event)

    def know(self, *members: Member, removed: tuple[int, ...] = ()) -> None:
        self.core.membership = Membership(members, removed)
        self.say(MembershipChanged(self.core.membership))

    def apply(self) -> None:
        self.core.applied_membership = self.core.membership
        self.say(MembershipApplied(self.core.membership))


class Contacts:
    """Remembers who is asked for what; answers as a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Asked, str, bool]] = []
        self.answer: ChangeReply | ConnectionError = ChangeReply(result=ChangeReply.DONE, text="there")

    async def introduce(self, address: str, said: Said) -> Said:
        raise ConnectionError(f"{address}: nobody")

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        self.asked.append((address, wish, cluster, handed_on))
        if isinstance(self.answer, ConnectionError):
            raise self.answer
        return self.answer


def _listening(identity: Identity, handlers: Handlers) -> Peers:
    return Peers(identity, Address("127.0.0.1", 0), {}, handlers, metrics=Metrics(), clock=SystemClock())


class Place:
    """A node of three, but for what is behind its driver."""

    def __init__(self, leader: NodeId | None, stored: StoredIdentity = STORED) -> None:
        self.driver = Driver(leader)
        self.driver.core.membership = stored.first_membership
        self.contacts = Contacts()
        self.kept: list[StoredIdentity] = []
        self.node = Belonging(stored, "127.0.0.1", self._keep, self.contacts, _listening)

    async def _keep(self, stored: StoredIdentity) -> None:
        self.kept.append(stored)

    @property
    def own(self) -> str:
        return f"127.0.0.1:{self.node.peers.port}"

    @property
    def dialed(self) -> dict[str, str]:
        return {node: str(address) for node, address in self.node.peers.addresses.items()}

    async def change(self, wish: Asked, cluster: str = "c-1", *, handed_on: bool = False) -> ChangeReply:
        return await self.node.change(wish, cluster, handed_on=handed_on)


@asynccontextmanager
async def place(leader: NodeId | None, stored: StoredIdentity = STORED, **initial: str) -> AsyncIterator[Place]:
    made = Place(leader, stored)
    try:
        await made.node.start()
        await made.node.be_born({NodeId(node): address for node, address in initial.items()}, ())
        made.node.attach(made.driver, ReportReply)  # type: ignore[arg-type]
        yield made
    finally:
        await made.node.stop()
