"""What a node is once it is of a cluster: the replica and all that serves its streams."""

import asyncio
import logging
from collections.abc import Callable
from random import SystemRandom
from typing import Protocol

from durable_streams_cluster import __version__
from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.config import Config
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.observe.health import Check
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Room
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_cluster.storage.kv import Kv
from durable_streams_cluster.storage.rocks import RocksKv

log = logging.getLogger(__name__)

UNREADY_TICKS = 60
"""Three seconds. A node that knows no leader for so long is not ready."""
UNSERVED_S = 10.0
"""A start that waits so long for a leader says what it takes, in the log."""
LOST_FOR_GOOD = (
    "Next step: start the nodes that are down; if a majority is lost for good, see durable-streams admin recover --help"
)


class Front(Protocol):
    """How requests over HTTP come to ``Serving.app``: by a listener (``HttpServer``), or from another server."""

    @property
    def unsent_bytes(self) -> int:
        """What it holds of responses that clients have not taken."""
        ...

    async def start(self) -> None:
        """From now on requests come in. Raises ConfigError."""
        ...

    async def drain(self, timeout_s: float) -> bool:
        """No more come in; return when all are answered, or with False when the time was up, and the rest cut off."""
        ...

    async def stop(self) -> None:
        """Cut off whatever is left."""
        ...


class Serving:
    """Built at once, started once, stopped once."""

    def __init__(
        self,
        config: Config,
        kv: Kv,
        stored: StoredIdentity,
        clock: SystemClock,
        metrics: Metrics,
        calls: Calls,
        fatal: Callable[[BaseException], None],
    ) -> None:
        """``calls`` are answered from here; ``fatal``: see ``Driver``. Before the start: :meth:`attach`."""
        self._config = config
        rng = SystemRandom()
        place = Place(stored.node, stored.first_membership, rng.getrandbits(63), __version__, stored.incarnation)
        replica = Replica(place, kv, Now(clock.steady_ms(), clock.wall_ms()), random=rng.randrange)
        driver = self.driver = Driver(replica, kv, clock, config.limits, metrics, fatal)
        driver.removal.data_dir = config.data_dir
        self.streams = LocalStreams(driver, config.limits, config.policies)
        app = self.app = GatewayApp(self.streams, config.limits, clock, SystemRandom(), metrics)
        if config.public_url is not None:
            app.public_url = config.public_url.rstrip("/").encode()
        self._front: Front | None = None
        calls.attach(self.streams, app.crowd)
        self._calls = calls
        metrics.inflight_bytes = lambda: driver.admission.inflight_bytes
        metrics.wall_clock_doubted = lambda: int(driver.wall.doubted)
        metrics.proposals_pending = lambda: driver.admission.waiting
        if isinstance(kv, RocksKv):
            metrics.store = lambda: {} if driver.failure is not None else kv.properties()
        metrics.disk = driver.space.metrics
        metrics.takes_no_entries = lambda: int(not replica.group.leads and replica.group.core.room is Room.NONE)
        self._chores = Jobs(driver, self.streams, clock, metrics)
        self._chores.end_live = self._end_live
        self._jobs: asyncio.Task[None] | None = None

    def attach(self, front: Front) -> None:
        """Let requests over HTTP come in by ``front``, once it is started."""
        self._front = front
        follows = self._calls.follows
        self.app.crowd.unsent_bytes = lambda: front.unsent_bytes + follows.unsent_bytes

    async def start(self) -> None:
        """Replay what the log holds, find a leader or be it, and listen; returns when requests are answered."""
        assert self._front is not None
        await self.driver.start()
        # Before anything is served, which may take for ever: requests are given up, and a disk that gets room is seen.
        self._jobs = asyncio.create_task(self._chores.run(), name="jobs")
        self._jobs.add_done_callback(self._jobs_ended)
        await self._front.start()
        try:
            async with asyncio.timeout(UNSERVED_S):
                await self.driver.is_served()
        except TimeoutError:
            if not self.driver.removal.known:
                log.warning("nothing is served yet: %s", self._has_leader()[1])
            await self.driver.is_served()

    async def drain(self) -> None:
        """Let another node lead; live reads end with a control event; what is in flight is finished."""
        assert self._front is not None
        await self.driver.hand_over.run()
        self.driver.removal.end()
        self.app.drain()
        self._calls.drain()
        if self.driver.failure is None:
            await self._front.drain(self._config.limits.drain_timeout_s)
            await self.driver.drain()
        if self._jobs is not None:
            self._jobs.cancel()
        await self._front.stop()

    def _end_live(self) -> None:
        self.app.live.end()
        self._calls.follows.end()

    def _jobs_ended(self, jobs: asyncio.Task[None]) -> None:
        if not jobs.cancelled() and (error := jobs.exception()) is not None:
            self.driver.fail(error)

    @property
    def checks(self) -> dict[str, Check]:
        """Of ``/readyz``."""
        return {"leader": self._has_leader, "disk": self._has_room}

    def _has_leader(self) -> tuple[bool, str]:
        if self.driver.failure is not None:
            return False, "failed, and stopping"
        group = self.driver.replica.group
        # An election takes less, and waits for it are bounded: a probe in the midst of one moves no traffic.
        led = group.can_read if group.alone else group.leaderless_ticks < UNREADY_TICKS
        text = f"{group.core.role.value} in term {group.core.term}, led by {group.core.leader or 'nobody'}"
        if group.core.leader is not None:
            return led, text
        if self.driver.removal.known:
            return False, text
        return led, f"{text} (a majority of {', '.join(group.core.membership.voters)} is needed). {LOST_FOR_GOOD}"

    def _has_room(self) -> tuple[bool, str]:
        # Reads go on without room. But of several nodes, those that take everything should get the traffic: also those
        # that give to a leader with room what they have none for. One that takes nothing falls behind.
        space, group = self.driver.space, self.driver.replica.group
        if group.leads or group.alone:
            lacking = group.core.lacks_room
            others = "; the disks of too many others are almost full: appends are refused" if lacking else ""
            return not space.refusing, f"{space}{': appends are refused' if space.refusing else others}"
        if group.core.room is Room.NONE:
            return False, f"{space}: nothing is taken from the leader, and what is new is not shown"
        return True, f"{space}{': not fit to lead' if space.refusing else ''}"
