"""The composition root: builds every object of a node, starts it, and drains it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from durable_streams_cluster import __version__
from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.config import Addresses, Config
from durable_streams_cluster.errors import DiskHangs, StorageError
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.limits import OPS_CONNECTIONS, DiskPlan
from durable_streams_cluster.observe.health import HealthApp
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Membership
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.runtime.peers import Handlers, Identity, Peers
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.settings import Address
from durable_streams_cluster.storage.identity import cluster_id, know_oneself
from durable_streams_cluster.storage.kv import Family, Kv
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.space import measure


async def run_node(config: Config, stopping: asyncio.Event, on_ready: Callable[[Addresses], None]) -> None:
    """Run a node until ``stopping`` is set, then drain it.

    Args:
        config: Everything it is told.
        stopping: Set by a signal.
        on_ready: Called once, with the real addresses, when requests are served.

    Raises:
        ConfigError: an address is in use.
        StorageError: the store could not be opened, or failed later; what was in flight may or may not be stored.
        DiskHangs: the store could not be closed: only ``os._exit`` ends the process now, RocksDB's threads hold it.

    """
    kv: Kv
    if config.in_memory:
        kv = MemoryKv()
    else:
        config, kv = await asyncio.to_thread(_open, config)
    node = Node(config, kv, _identity(config, kv))
    try:
        # Of several nodes, the first ones wait for a majority: they can be stopped meanwhile.
        starting = asyncio.create_task(node.start(on_ready), name="start")
        await node.until(stopping, starting)
    finally:
        if not await node.stop():
            raise DiskHangs("the disk does not answer, and the store is left open; what was acknowledged is stored")


def _open(config: Config) -> tuple[Config, RocksKv]:
    """Open the store; what may be in flight is cut to what a small disk has room for."""
    limits, path = config.limits, Path(config.data_dir)
    try:
        plan = DiskPlan.of(limits, measure(path.absolute()).size)
    except OSError as error:
        raise StorageError(f"the disk of the data directory {path} cannot be looked at: {error}") from error
    kv = RocksKv.open(path, memory_budget=limits.memory_budget, flush_bytes=plan.flush_bytes, plan=plan)
    return replace(config, limits=replace(limits, max_inflight_bytes=plan.inflight_bytes)), kv


def _identity(config: Config, kv: Kv) -> Identity:
    """Which replica this is; its directory says so, from its first start on."""
    members = [member.node for member in config.initial_cluster] or [config.node]
    draw = SystemRandom().getrandbits
    if config.in_memory:
        return Identity(cluster_id(members), config.node, draw(63))
    used = any(True for _ in kv.scan(Family.LOG, b"", b"\xff"))
    found = know_oneself(Path(config.data_dir), config.node, members, used=used, draw=draw)
    return Identity(found.cluster, found.node, found.incarnation)


UNREADY_TICKS = 60
"""Three seconds. A node that knows no leader for so long is not ready."""


class Node:
    """One node over an open store."""

    def __init__(self, config: Config, kv: Kv, identity: Identity) -> None:
        self._config = config
        clock = SystemClock()
        self._failed = asyncio.Event()
        self.metrics = Metrics()
        rng = SystemRandom()
        others = {member.node: member.peer for member in config.initial_cluster if member.node != config.node}
        place = Place(config.node, Membership.of(config.node, *others), rng.getrandbits(63), __version__)
        replica = Replica(place, kv, Now(clock.steady_ms(), clock.wall_ms()), random=rng.randrange)
        self._driver = Driver(replica, kv, clock, config.limits, self.metrics, lambda _: self._failed.set())
        self._peers: Peers | None = None
        if others:
            driver = self._driver
            handlers = Handlers(driver.deliver, driver.lost, driver.lost)
            self._peers = Peers(identity, config.listen.peer, others, handlers, metrics=self.metrics, clock=clock)
            driver.transport = self._peers
        self.streams = LocalStreams(self._driver, config.limits, config.policies)
        self.app = GatewayApp(self.streams, config.limits, clock, SystemRandom(), self.metrics)
        if config.public_url is not None:
            self.app.public_url = config.public_url.rstrip("/").encode()
        http, ops = config.listen.http, config.listen.ops
        self._http = HttpServer(self.app, http.host, http.port, config.limits)
        self.app.crowd.unsent_bytes = lambda: self._http.state.unsent_bytes
        ready = {"leader": self._has_leader, "disk": self._has_room, "draining": self._not_draining}
        health = HealthApp(ready, self.metrics)
        few = replace(config.limits, max_connections=OPS_CONNECTIONS)
        self._ops = HttpServer(health, ops.host, ops.port, few, name="ops")
        self.metrics.inflight_bytes = lambda: self._driver.admission.inflight_bytes
        self.metrics.wall_clock_doubted = lambda: int(self._driver.wall.doubted)
        self.metrics.proposals_pending = lambda: self._driver.admission.waiting
        if isinstance(kv, RocksKv):
            self.metrics.store = lambda: {} if self._driver.failure is not None else kv.properties()
        self.metrics.disk = self._driver.space.metrics
        self.metrics.servers.update(http=self._http, ops=self._ops)
        self._chores = Jobs(self._driver, self.streams, clock, self.metrics)
        self._chores.end_live = self.app.live.end
        self._jobs: asyncio.Task[None] | None = None
        self._draining = False

    async def start(self, on_ready: Callable[[Addresses], None]) -> None:
        """Alone: elect, and replay what the log holds; else find the others. Then listen."""
        if self._peers is not None:
            await self._ops.start()
            await self._peers.start()
            await self._driver.start()
            await self._http.start()
            await self._driver.is_served()
        else:
            await self._driver.start()
            await self._http.start()
            await self._ops.start()
        self._jobs = asyncio.create_task(self._chores.run(), name="jobs")
        self._jobs.add_done_callback(self._jobs_ended)
        peer = Address(self._config.listen.peer.host, self._peers.port) if self._peers is not None else None
        on_ready(_addresses(self._http, self._ops, peer))

    async def until(self, stopping: asyncio.Event, starting: asyncio.Task[None]) -> None:
        """Return when ``stopping`` is set; raise what made the node unable to start or to go on."""
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self._failed.wait())]
        done, _ = await asyncio.wait([*waits, starting], return_when=asyncio.FIRST_COMPLETED)
        if starting in done and starting.exception() is None:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self._driver.failure is not None:
            starting.cancel()
            raise self._driver.failure
        if starting.done():
            starting.result()
        else:
            starting.cancel()

    async def stop(self) -> bool:
        """Not ready; live reads end with a control event; what is in flight is finished; then all is closed.

        Returns:
            Whether the store is closed; if not, the disk hangs.

        """
        self._draining = True
        await self._driver.hand_over.run()
        self.app.drain()
        if self._driver.failure is None:
            await self._http.drain(self._config.limits.drain_timeout_s)
            await self._driver.drain()
        if self._jobs is not None:
            self._jobs.cancel()
        await self._http.stop()
        await self._ops.stop()
        if self._peers is not None:
            await self._peers.stop()
        return await asyncio.to_thread(self._driver.close)

    def _jobs_ended(self, jobs: asyncio.Task[None]) -> None:
        if not jobs.cancelled() and (error := jobs.exception()) is not None:
            self._driver.fail(error)

    def _has_leader(self) -> tuple[bool, str]:
        if self._driver.failure is not None:
            return False, "failed, and stopping"
        group = self._driver.replica.group
        # An election takes less, and waits for it are bounded: a probe in the midst of one moves no traffic.
        led = group.can_read if group.alone else group.leaderless_ticks < UNREADY_TICKS
        return led, f"{group.core.role.value} in term {group.core.term}, led by {group.core.leader or 'nobody'}"

    def _has_room(self) -> tuple[bool, str]:
        # Reads go on without room. But of several nodes, those that take everything should get the traffic.
        space = self._driver.space
        return not space.refusing, f"{space}{': appends are refused' if space.refusing else ''}"

    def _not_draining(self) -> tuple[bool, str]:
        return not self._draining, "draining" if self._draining else "serving"


def _addresses(http: HttpServer, ops: HttpServer, peer: Address | None) -> Addresses:
    return Addresses(http=Address(http.host, http.port), peer=peer, ops=Address(ops.host, ops.port))
