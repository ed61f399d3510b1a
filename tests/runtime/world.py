"""A node without threads, sockets and waiting: its time jumps to the next timer whenever nothing is left to do."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from durable_streams_cluster.api import Described, From, Page
from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.storage.kv import Space, WriteBatch, WriteStalled
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.streams.commands import Append, Create, Fork
from tests.replica.node import alone

T = TypeVar("T")
WALL_START_MS = 1_750_000_000_000
"""2025-06-15T15:06:40Z."""
Done = Callable[[BaseException | None], None]


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: a time-out passes at once, and is added to the time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everything waits and no timer runs: a deadlock"
            self.now_s += max(0.0, timeout)
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is simulated."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s


def simulate(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on a loop with simulated time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


class SimulatedClock:
    """The loop's time; the wall clock can be moved by itself."""

    def __init__(self, begun_ms: int = 5_000) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun_ms = begun_ms
        self.wall_offset_ms = 0

    def steady_ns(self) -> int:
        return round(self._loop.time() * 1e9) + self._begun_ms * 1_000_000

    def steady_ms(self) -> int:
        return (self.steady_ns() + 1_000) // 1_000_000

    def wall_ms(self) -> int:
        return WALL_START_MS + self.steady_ms() - self._begun_ms + self.wall_offset_ms


class SimulatedDisk:
    """``runtime.disk.Disk`` on the loop itself; ``hold`` keeps syncs back, ``failure`` makes them fail."""

    def __init__(self, kv: "StallingKv", loop: asyncio.AbstractEventLoop) -> None:
        self._kv, self._loop = kv, loop
        self.hold = False
        self.failure: BaseException | None = None
        self.syncs = self.flushes = 0
        self._held: list[tuple[Done, bool]] = []

    def sync(self, done: Done, *, then_flush: bool = False) -> None:
        if self.hold:
            self._held.append((done, then_flush))
            return
        self.syncs += 1
        self._kv.sync()
        self.flushes += then_flush
        self._loop.call_soon(done, self.failure)

    def tend(self, done: Callable[[Space | None, BaseException | None], None]) -> None:
        self._loop.call_soon(lambda: done(self._kv.space, self.failure))

    def release(self) -> None:
        """Let the syncs that were held end, and hold no more."""
        self.hold, held, self._held = False, self._held, []
        for done, then_flush in held:
            self.sync(done, then_flush=then_flush)

    @property
    def waiting(self) -> int:
        return len(self._held)

    def close(self) -> None:
        pass


class StallingKv(MemoryKv):
    """Refuses as many writes as ``stalls`` says; ``broken`` is for good."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls = 0
        self.broken = False
        self.flushable = False
        self.space: Space | None = None
        """The room that a look at the disk finds."""

    def flush_due(self) -> bool:
        return self.flushable

    def write(self, batch: WriteBatch) -> None:
        if self.broken:
            raise StorageError("no space left on device")
        if self.stalls:
            self.stalls -= 1
            raise WriteStalled
        super().write(batch)


class World:
    """One node on a store, from the driver up to the HTTP application."""

    def __init__(self, kv: StallingKv, limits: Limits, clock: SimulatedClock) -> None:
        self.kv, self.limits, self.clock = kv, limits, clock
        self.metrics = Metrics()
        self.fatal: list[BaseException] = []
        replica = alone(kv, Now(clock.steady_ms(), clock.wall_ms()))
        kept, driver_module.Disk = driver_module.Disk, SimulatedDisk  # type: ignore[misc, assignment]
        try:
            self.driver = Driver(replica, kv, clock, limits, self.metrics, self.fatal.append)
        finally:
            driver_module.Disk = kept  # type: ignore[misc]
        self.disk: SimulatedDisk = self.driver._disk  # type: ignore[assignment]
        self.streams = LocalStreams(self.driver, limits)
        self.app = GatewayApp(self.streams, limits, clock, Random(1), self.metrics)

    @property
    def group(self) -> Any:
        return self.driver.replica.group


async def started(kv: StallingKv | None = None, limits: Limits | None = None, begun_ms: int = 5_000) -> World:
    """A node that serves."""
    world = World(kv or StallingKv(), limits or Limits(), SimulatedClock(begun_ms))
    await world.driver.start()
    return world


async def settle() -> None:
    """Let everything happen that needs no time to pass."""
    for _ in range(50):
        await asyncio.sleep(0)


def create(path: str, ttl_s: int | None = None, expires_at_ms: int | None = None, fork: Fork | None = None) -> Create:
    return Create(path, "text/plain", ttl_s, expires_at_ms, False, b"", fork)


def append(path: str, body: bytes = b"x") -> Append:
    return Append(path, "text/plain", body, False, None, None)


async def alive(world: World, path: str) -> bool:
    return isinstance(await world.streams.head(path), Described)


async def content(world: World, path: str) -> bytes:
    page = await world.streams.read(path, From.START)
    assert isinstance(page, Page)
    return b"".join(page.bodies)
