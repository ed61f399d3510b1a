"""The composition root: builds every object of a node, starts it, and drains it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from durable_streams_cluster import opening
from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.config import Addresses, Config
from durable_streams_cluster.errors import CorruptData, DiskHangs
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.limits import OPS_CONNECTIONS, GrpcLimits, PeerLimits
from durable_streams_cluster.observe.health import HealthApp, failing
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.belonging import Belonging
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.greeting import Identity
from durable_streams_cluster.runtime.grpc_asking import Contacts
from durable_streams_cluster.runtime.grpc_clients import ClientListener
from durable_streams_cluster.runtime.operating import Operating
from durable_streams_cluster.runtime.peers import Handlers, Peers
from durable_streams_cluster.runtime.reports import Reports, Standing
from durable_streams_cluster.runtime.whereabouts import Whereabouts
from durable_streams_cluster.serving import LOST_FOR_GOOD, Serving
from durable_streams_cluster.settings import Address
from durable_streams_cluster.storage import repair
from durable_streams_cluster.storage.data_dir import DataDir
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from durable_streams_cluster.storage.kv import Kv
from durable_streams_cluster.storage.memory import MemoryKv

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""Of calls over gRPC, at the end: for their answers to leave."""


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
    node = Node(config, opening.volatile(config), None, MemoryKv()) if config.in_memory else await _on_disk(config)
    try:
        # Of several nodes, the first ones wait for a majority: they can be stopped meanwhile.
        starting = asyncio.create_task(node.start(on_ready), name="start")
        await node.until(stopping, starting)
    except CorruptData as damage:
        if not config.in_memory:
            await asyncio.to_thread(opening.note_damage, config, damage, others=node.knows_others)
        raise
    finally:
        if not await node.stop():
            raise DiskHangs("the disk does not answer, and the store is left open; what was acknowledged is stored")


async def _on_disk(config: Config) -> "Node":
    try:
        opened = await asyncio.to_thread(opening.open_directory, config)
    except CorruptData as damage:
        former = await asyncio.to_thread(opening.note_damage, config, damage)
        if former is None:
            raise
        log.critical("this node needs repair: %s", damage)
        await asyncio.to_thread(opening.check_repair, config, former, damage)
        fresh = StoredIdentity(former.node, SystemRandom().getrandbits(63) or 1)
        return Node(config, fresh, IdentityFile(Path(config.data_dir)), None, opening.Former(former, str(damage)))
    return Node(opened.config, opened.stored, opened.file, opened.kv)


class Node:
    """One node."""

    def __init__(
        self,
        config: Config,
        stored: StoredIdentity,
        file: IdentityFile | None,
        kv: Kv | None,
        former: opening.Former | None = None,
    ) -> None:
        """A node on a store.

        Args:
            config: Everything it is told.
            stored: Who it is.
            file: Keeps what ``stored`` becomes; None: it is forgotten, and the node stays alone.
            kv: The store; None: what is there cannot be trusted, and an empty one takes its place once this node, under
                the name that it had, is a member anew.
            former: Who the directory was before that, and what is wrong; it asks the same cluster only.

        """
        self._config = config
        self._kv = kv
        self._stored = stored
        self._file = file
        self._former = former
        self._clock = SystemClock()
        self._failed = asyncio.Event()
        self.metrics = Metrics()
        self._contacts = Contacts(PeerLimits())
        self._belonging: Belonging | None = None
        if file is not None:
            self._belonging = Belonging(stored, config.advertise, self._keep, self._contacts, self._links)
        self._ready = {"cluster": self._belongs, "draining": self._not_draining}
        self._operating = Operating(self._belonging)
        self._calls = Calls(config.limits, self.metrics)
        self._clients = ClientListener(
            config.listen.grpc,
            self._operating,
            self._calls,
            GrpcLimits.of(config.limits),
            lambda: not failing(self._ready),
        )
        few = replace(config.limits, max_connections=OPS_CONNECTIONS)
        health = HealthApp(self._ready, self.metrics)
        self._ops = HttpServer(health, config.listen.ops.host, config.listen.ops.port, few, name="ops")
        self._serving: Serving | None = None
        """Once it is known of which cluster this node is."""
        self._draining = False

    async def start(self, on_ready: Callable[[Addresses], None]) -> None:
        """Find out of which cluster this node is, or begin one; then serve it."""
        await self._ops.start()
        await self._clients.start()
        clients = str(Address(self._config.advertise, self._clients.port))
        peer: Address | None = None
        if self._belonging is not None:
            self._belonging.clients = clients
            await self._belonging.start()
            await self._be_born(self._belonging)
            peer = Address(self._config.listen.peer.host, self._belonging.peers.port)
        assert self._kv is not None
        serving = self._serving = Serving(
            self._config,
            self._kv,
            self._stored,
            self._clock,
            self.metrics,
            self._calls,
            lambda _: self._failed.set(),
        )
        listen = self._config.listen
        http = HttpServer(serving.app, listen.http.host, listen.http.port, self._config.limits)
        serving.attach(http)
        self._ready |= serving.checks
        self.metrics.servers.update(http=http, ops=self._ops)
        asks = self._contacts if self._belonging is not None else None
        reports = Reports(self._stored, serving.driver, self._standing, asks)
        self._operating.attach(reports)
        if self._belonging is not None:
            self._belonging.attach(serving.driver, reports.own)
        others = self._belonging.peers if self._belonging is not None else None
        self._calls.whereabouts = Whereabouts(
            self._stored, clients, serving.driver, lambda: others.clients if others is not None else {}
        )
        await serving.start()
        grpc, ops = Address(listen.grpc.host, self._clients.port), Address(self._ops.host, self._ops.port)
        on_ready(Addresses(http=Address(http.host, http.port), grpc=grpc, peer=peer, ops=ops))

    async def _be_born(self, belonging: Belonging) -> None:
        initial = {member.node: str(member.peer) for member in self._config.initial_cluster}
        join = [str(each) for each in self._config.join]
        if self._former is None:
            self._stored = await belonging.be_born(initial, join)
            return
        # Where this node is told that others are, too: they may have moved since it last heard of them.
        former = self._former.identity
        others = [address for node, address in initial.items() if node != former.node]
        asked = dict.fromkeys([*others, *join, *(address for _, address in former.others)])
        log.warning(
            "asks %s to take this node into cluster %s anew; until one does, the unusable store is not touched. %s",
            ", ".join(asked),
            former.cluster,
            LOST_FOR_GOOD,
        )
        held = await asyncio.to_thread(DataDir.hold, Path(self._config.data_dir))
        try:
            self._stored = await belonging.be_born({}, list(asked), former.cluster)
            place = await asyncio.to_thread(repair.set_aside, Path(self._config.data_dir))
        finally:
            held.close()
        log.warning("the damaged store is in %s; it may be removed once this node is a voter again", place)
        assert self._file is not None
        self._config, kv = await asyncio.to_thread(opening.open_store, self._config)
        self._kv = kv
        await asyncio.to_thread(opening.own, kv, self._stored)

    @property
    def knows_others(self) -> bool:
        """Whether there is anybody whom it speaks to, or tries to."""
        return self._belonging is not None and bool(self._belonging.peers.addresses)

    async def until(self, stopping: asyncio.Event, starting: asyncio.Task[None]) -> None:
        """Return when ``stopping`` is set; raise what made the node unable to start or to go on."""
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self._failed.wait())]
        done, _ = await asyncio.wait([*waits, starting], return_when=asyncio.FIRST_COMPLETED)
        if starting in done and starting.exception() is None:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self._serving is not None and self._serving.driver.failure is not None:
            starting.cancel()
            raise self._serving.driver.failure
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
        self._clients.health.look()
        if self._serving is not None:
            await self._serving.drain()
        await self._ops.stop()
        await self._clients.stop(GRACE_S)
        if self._belonging is not None:
            await self._belonging.stop()
        if self._serving is not None:
            return await asyncio.to_thread(self._serving.driver.close)
        if (kv := self._kv) is not None:
            await asyncio.to_thread(kv.close)
        return True

    def _links(self, identity: Identity, handlers: Handlers) -> Peers:
        return Peers(identity, self._config.listen.peer, {}, handlers, metrics=self.metrics, clock=self._clock)

    async def _keep(self, stored: StoredIdentity) -> None:
        assert self._file is not None
        await asyncio.to_thread(self._file.write, stored)

    def _belongs(self) -> tuple[bool, str]:
        waits_for = self._belonging.waits_for if self._belonging is not None else ""
        if waits_for and self._former is not None:
            asks = f"asks to be taken in anew ({waits_for}), for its store cannot be used: {self._former.reason}"
            return False, f"{asks}. {LOST_FOR_GOOD}"
        if self._serving is not None and self._serving.driver.removal.known:
            return False, self._serving.driver.removal.text
        return not waits_for, waits_for or self._stored.cluster

    def _standing(self) -> Standing:
        return Standing(failing(self._ready), self._draining)

    def _not_draining(self) -> tuple[bool, str]:
        return not self._draining, "draining" if self._draining else "serving"
