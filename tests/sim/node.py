"""One node: its disk, its clocks, and one life of its process after the other, all of production code."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import RaftCore, Role
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.runtime.belonging import Belonging
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.introductions import Asked
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.settings import Address, parse_address
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ReportReply
from tests.sim.disk import NodeDisk
from tests.sim.loop import context_of
from tests.sim.network import Port

if TYPE_CHECKING:
    from tests.sim.world import World

WALL_START_MS = 1_750_000_000_000
LIMITS = Limits(proposal_timeout_s=6.0, drain_timeout_s=3.0)
SPINS = 2000
"""Turns in a tenth of a second: a busy node takes some forty."""
INTRODUCE_S, CHANGE_S = 2.0, 20.0
"""As long as ``runtime.grpc_asking`` waits for an answer."""
T = TypeVar("T")


class BrokenConnection(Exception):
    """The node went away before it answered."""


class Clock:
    """A node's clocks while one process runs: the steady one begins anywhere, and may be fast."""

    def __init__(self, node: "Node", begun_ms: int) -> None:
        self._node, self._begun_ms = node, begun_ms

    def steady_ns(self) -> int:
        return self._begun_ms * 1_000_000 + round(self._node.world.loop.now_s * self._node.rate * 1e9)

    def steady_ms(self) -> int:
        return self.steady_ns() // 1_000_000

    def wall_ms(self) -> int:
        return WALL_START_MS + round(self._node.world.loop.now_s * 1000) + self._node.wall_skew_ms


class Contacts:
    """Questions to a peer's listener, one call each: in place of ``runtime.grpc_asking.Contacts``."""

    def __init__(self, life: "Life") -> None:
        self._life = life

    async def introduce(self, address: str, said: Said) -> Said:
        async def ask(there: Belonging) -> Said:
            return there.introduced(said)

        return await self._ask(address, ask, INTRODUCE_S)

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        return await self._ask(address, lambda there: there.change(wish, cluster, handed_on=handed_on), CHANGE_S)

    async def _ask(self, address: str, what: Callable[[Belonging], Awaitable[T]], within_s: float) -> T:
        node, network = self._life.node, self._life.node.world.network
        place, delay_s = parse_address(address), node.random.uniform(0.0005, 0.005)
        await asyncio.sleep(delay_s)
        there = network.at(place, node.name)
        if there is None:
            raise ConnectionError(f"nobody listens at {address}")
        life = there.life
        try:
            async with asyncio.timeout(within_s):
                answer: T = await life.ask(lambda: what(life.belonging), 0.0, delay_s)
        except (BrokenConnection, TimeoutError) as error:
            raise ConnectionError(f"{address} does not answer") from error
        if network.at(place, node.name) is not there:
            raise ConnectionError(f"{address} is not reached any more")
        return answer


class Life:
    """One process, from its start until it is killed or ends."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.ended = self.paused = self.stopping = self.draining = False
        self.rate = node.rate
        self.kept: list[asyncio.Handle] = []
        self.context = context_of(self)
        self.requests: dict[asyncio.Future[Any], None] = {}
        """Those that are not answered, as their clients hold them."""
        self._turns = (0, 0)
        """Which tenth of a second it is, and how many turns were taken in it."""
        self.metrics = Metrics()
        self._clock = Clock(node, node.random.randrange(10**6))
        self._former = node.identity if node.marked else None
        self.belonging = Belonging(
            node.new_identity() if node.marked else node.own_identity(),
            node.name,
            self._keep,
            Contacts(self),
            lambda identity, handlers: Port(self, parse_address(node.address), identity, handlers),
        )
        self.serves = False
        """Whether it is of a cluster and answers clients; the rest of its parts are there then only."""
        self.replica: Replica
        self.driver: Driver
        self.streams: LocalStreams
        self.app: GatewayApp

    async def _keep(self, stored: StoredIdentity) -> None:
        await asyncio.sleep(self.node.random.uniform(0.0005, 0.01))
        self.node.identity = stored

    async def run(self) -> None:
        """As ``node.Node.start`` does."""
        node = self.node
        await self.belonging.start()
        if self._former is None:
            stored = await self.belonging.be_born(node.initial, node.join)
        else:
            others = [address for name, address in node.initial.items() if name != node.name]
            asked = dict.fromkeys([*others, *node.join, *(address for _, address in self._former.others)])
            stored = await self.belonging.be_born({}, list(asked), self._former.cluster)
            await asyncio.sleep(node.random.uniform(0.0, 0.02))
            node.set_aside()
        try:
            self._serve(stored)
        except CorruptData as damage:
            node.world.node_failed(self, damage)
            return
        await self.driver.start()
        self.serves = True
        await self._jobs.run()

    def _serve(self, stored: StoredIdentity) -> None:
        node, clock = self.node, self._clock
        node.world.observer.starts(node)
        kv = node.disk.open()
        place = Place(node.name, stored.first_membership, node.random.getrandbits(62) + 1, "", stored.incarnation)
        now = Now(clock.steady_ms(), clock.wall_ms())
        self.replica = Replica(place, kv, now, random=node.dice, settings=node.world.settings)
        self.driver = Driver(self.replica, kv, clock, LIMITS, self.metrics, self._fatal)
        self.streams = LocalStreams(self.driver, LIMITS)
        self.app = GatewayApp(self.streams, LIMITS, clock, Random(1), self.metrics)
        self._jobs = Jobs(self.driver, self.streams, clock, self.metrics)
        self._turn, self.replica.turn = self.replica.turn, self._watched_turn  # type: ignore[method-assign]
        sessions = self.replica.group._applier.sessions
        self._is_new, sessions.is_new = sessions.is_new, self._watched_is_new  # type: ignore[method-assign]
        self.belonging.attach(self.driver, ReportReply)

    def _watched_turn(self, now: Now, *, syncing: bool = False) -> Effects:
        tenth, (at, count) = int(self.node.world.loop.now_s * 10), self._turns
        self._turns = (tenth, count + 1 if tenth == at else 1)
        assert self._turns[1] < SPINS, f"it took {SPINS} turns in a tenth of a second, and would not end"
        effects = self._turn(now, syncing=syncing)
        if effects.events:
            self.node.world.observer.events(self, effects.events)
        self.node.world.observer.sent(self.node, effects.outbox)
        return effects

    def _watched_is_new(self, origin: int, number: int) -> bool:
        new = self._is_new(origin, number)
        self.node.world.marks["given twice"] += not new
        return new

    def _fatal(self, error: BaseException) -> None:
        self.node.world.node_failed(self, error)

    # ------------------------------------------------------------------------------------------------------ requests

    def ask(self, what: Callable[[], Awaitable[Any]], there_s: float, back_s: float) -> asyncio.Future[Any]:
        """Let this process do something for a client; raises what it raised, or ``BrokenConnection``."""
        loop = self.node.world.loop
        answer: asyncio.Future[Any] = loop.create_future()
        if self.ended:
            answer.set_exception(BrokenConnection())
            return answer
        self.requests[answer] = None

        async def run() -> Any:
            return await what()

        def begin() -> None:
            loop.create_task(run()).add_done_callback(
                lambda done: loop.call_later(back_s, self._answered, answer, done, context=self.node.world.outside)
            )

        loop.call_later(there_s, begin, context=self.context)
        return answer

    def _answered(self, answer: asyncio.Future[Any], done: "asyncio.Task[Any]") -> None:
        self.requests.pop(answer, None)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if answer.done():
            return
        if error is not None:
            answer.set_exception(BrokenConnection() if isinstance(error, asyncio.CancelledError) else error)
        else:
            answer.set_result(done.result())

    def end(self) -> None:
        """Nothing of it runs any more; its clients see their connections end."""
        self.ended = True
        self.kept = []
        self.node.world.network.leave(self.node.name)
        for answer in self.requests:
            if not answer.done():
                answer.set_exception(BrokenConnection())
        self.requests.clear()
        self.node.life = None

    async def stop(self) -> None:
        """SIGTERM: as ``node.Node.stop`` does; not one that came to a process that was paused until all was healed."""
        if self.node.world.faults.stopped or not self.serves:
            return
        self.stopping = True
        led = self.replica.group.core.role is Role.LEADER
        await self.driver.hand_over.run()
        self.node.world.marks["transfer"] += led and self.replica.group.core.role is not Role.LEADER
        self.app.drain()
        self.draining = True
        if self.driver.failure is None:
            await self.driver.drain()


class Node:
    """See the module."""

    def __init__(self, world: "World", name: NodeId, random: Random) -> None:
        self.world, self.name, self.random = world, name, random
        self.address = str(Address(name, 1))
        """Of its peer listener."""
        self.initial: Mapping[NodeId, str] = {}
        self.join: Sequence[str] = ()
        """What it is told when it starts."""
        self.identity: StoredIdentity | None = None
        """As the directory says."""
        self.marked = False
        """The store needs repair, says the directory."""
        self.rate = 1.0
        self.hesitates = 0
        """By how many ticks it stands later than it would."""
        self.wall_skew_ms = 0
        self.life: Life | None = None
        self.disk = NodeDisk(Random(random.getrandbits(62)), lambda number, batch: world.observer.written(self, batch))

    @property
    def serving(self) -> Life | None:
        """Its process, if that is of a cluster and answers clients."""
        return self.life if self.life is not None and self.life.serves else None

    @property
    def core(self) -> RaftCore | None:
        """Its part in Raft, if it has one now."""
        return self.life.replica.group.core if self.life is not None and self.life.serves else None

    def dice(self, below: int) -> int:
        """By chance, but perhaps not by as much as that: then several stand for election at once."""
        return min(below - 1, self.hesitates + self.random.randrange(min(below, self.world.spread)))

    def start(self) -> None:
        """A process starts on what the disk holds."""
        assert self.life is None
        loop = self.world.loop
        life = self.life = Life(self)
        loop.call_soon(lambda: loop.create_task(life.run()), context=life.context)

    # ----------------------------------------------------------------------------------------------------- directory

    def own_identity(self) -> StoredIdentity:
        """Who the directory is; a new one draws its number."""
        if self.identity is None:
            self.identity = self.new_identity()
        return self.identity

    def new_identity(self) -> StoredIdentity:
        """As of an empty directory."""
        return StoredIdentity(self.name, self.random.getrandbits(62) + 1)

    def wipe(self) -> None:
        """Somebody empties the directory, while no process runs."""
        assert self.life is None
        self.world.observer.lost(self)
        self.disk.wipe()
        self.identity, self.marked = None, False

    def set_aside(self) -> None:
        """An empty store takes the damaged one's place."""
        self.world.observer.lost(self)
        self.disk.wipe()
        self.marked = False
        self.world.marks["repaired"] += 1


__all__ = ["LIMITS", "BrokenConnection", "Life", "Node"]
