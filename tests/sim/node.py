"""One node: its disk, its clocks, and one life of its process after the other, all of production code."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Membership, Role, Settings
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.runtime.service import LocalStreams
from tests.sim.disk import NodeDisk, SimDisk
from tests.sim.loop import context_of
from tests.sim.network import Port

if TYPE_CHECKING:
    from tests.sim.world import World

WALL_START_MS = 1_750_000_000_000
LIMITS = Limits(proposal_timeout_s=6.0, drain_timeout_s=3.0)


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


class Life:
    """One process, from its start until it is killed or ends."""

    def __init__(self, node: "Node") -> None:
        world = node.world
        self.node = node
        self.ended = self.paused = self.stopping = self.draining = False
        self.rate = node.rate
        self.kept: list[asyncio.Handle] = []
        self.context = context_of(self)
        self.requests: dict[asyncio.Future[Any], None] = {}
        """Those that are not answered, as their clients hold them."""
        self.metrics = Metrics()
        clock = Clock(node, node.random.randrange(10**6))
        kv = node.disk.open()
        place = Place(node.name, world.membership, node.random.getrandbits(62) + 1)
        now = Now(clock.steady_ms(), clock.wall_ms())
        self.replica = Replica(place, kv, now, random=node.dice, settings=world.settings)
        self.port = Port(world.network, node.name, self._deliver)
        self.port.context = self.context
        driver_module.Disk = SimDisk  # type: ignore[misc, assignment]
        self.driver = Driver(self.replica, kv, clock, LIMITS, self.metrics, self._fatal, self.port)
        self.port.lost = self.driver.lost
        self.streams = LocalStreams(self.driver, LIMITS)
        self.app = GatewayApp(self.streams, LIMITS, clock, Random(1), self.metrics)
        self.jobs = Jobs(self.driver, self.streams, clock, self.metrics)
        self._turn, self.replica.turn = self.replica.turn, self._watched_turn  # type: ignore[method-assign]
        sessions = self.replica.group._applier.sessions
        self._is_new, sessions.is_new = sessions.is_new, self._watched_is_new  # type: ignore[method-assign]

    def _watched_turn(self, now: Now, *, syncing: bool = False) -> Effects:
        effects = self._turn(now, syncing=syncing)
        if effects.events:
            self.node.world.observer.events(self, effects.events)
        self.node.world.observer.sent(self.node, effects.outbox)
        return effects

    def _watched_is_new(self, origin: int, number: int) -> bool:
        new = self._is_new(origin, number)
        self.node.world.marks["given twice"] += not new
        return new

    def _deliver(self, sender: NodeId, payload: bytes) -> None:
        self.driver.deliver(sender, 0, payload)

    def _fatal(self, error: BaseException) -> None:
        self.node.world.node_failed(self, error)

    async def run(self) -> None:
        await self.driver.start()
        with contextlib.suppress(Unavailable):  # It failed already.
            await self.driver.is_served()
            await self.jobs.run()

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
        if self.node.world.faults.stopped:
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
        self.rate = 1.0
        self.hesitates = 0
        """By how many ticks it stands later than it would."""
        self.wall_skew_ms = 0
        self.life: Life | None = None
        self.disk = NodeDisk(Random(random.getrandbits(62)), lambda number, batch: world.observer.written(self, batch))

    def dice(self, below: int) -> int:
        """By chance, but perhaps not by as much as that: then several stand for election at once."""
        return min(below - 1, self.hesitates + self.random.randrange(min(below, self.world.spread)))

    def start(self) -> None:
        """A process starts on what the disk holds."""
        assert self.life is None
        loop = self.world.loop
        self.world.observer.starts(self)
        life = self.life = Life(self)
        self.world.network.join(life.port)
        loop.call_soon(lambda: loop.create_task(life.run()), context=life.context)


__all__ = ["LIMITS", "BrokenConnection", "Life", "Membership", "Node", "Settings"]
