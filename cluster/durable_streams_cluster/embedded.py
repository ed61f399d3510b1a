"""A node inside another program: ``async with EmbeddedNode("./data") as node``, and ``node.asgi`` mounted in its app.

It is the composition root of a node without its doors: no HTTP listener, no peers, no probes, no signals, no logging.
Requests come from the program's server (``gateway.entrance``), and over gRPC if that was asked for.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from durable_streams_cluster import opening
from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import ConfigError, DataDirLocked, DiskHangs, Unavailable
from durable_streams_cluster.gateway.entrance import Entrance
from durable_streams_cluster.limits import GrpcLimits
from durable_streams_cluster.observe.health import Check, failing
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_clients import ClientListener
from durable_streams_cluster.runtime.operating import Operating
from durable_streams_cluster.runtime.reports import Reports, Standing
from durable_streams_cluster.runtime.whereabouts import Whereabouts
from durable_streams_cluster.serving import Serving
from durable_streams_cluster.settings import BY_KEY, SETTINGS, Address, unknown_key
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_cluster.storage.kv import Kv
from durable_streams_cluster.storage.memory import MemoryKv

log = logging.getLogger(__name__)

TAKEN = ("node", "allow-unauthenticated", *(setting.key for setting in SETTINGS if setting.group == "limits"))
"""Settings that an embedded node has; others are of listeners, of a cluster or of a process."""
NO_LISTENER = "127.0.0.1:0"
GRACE_S = 1.0
"""Of live reads, after a failure, to end by themselves; and of calls over gRPC, at the end, for answers to leave."""


class EmbeddedNode:
    """One node, alone in its cluster, in this process and on the event loop that enters it.

    ::

        node = EmbeddedNode("./data")
        app.mount("/streams", node.asgi)  # answers 503 until the node runs
        async with node:  # in the application's lifespan, say
            ...

    It can be entered again once it was left. Leaving it drains: live reads end with a control event, what is in flight
    is finished, the store is closed.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None,
        *,
        grpc: str | None = None,
        public_url: str | None = None,
        **settings: object,
    ) -> None:
        """A node that is not started yet.

        Args:
            data_dir: Where streams are stored, by one process at a time; None: in memory, and all is lost at the end.
            grpc: ``HOST:PORT`` to listen at for the client SDK and ``durable-streams admin``; port 0: any that is free.
                None: there is no such listener.
            public_url: What clients reach the mounted application by, if requests do not tell: scheme, host and path.
            settings: Limits, by their names in the configuration (``max_append_bytes="16MiB"``,
                ``sse_lifetime="30s"``), ``node`` (the name), and ``allow_unauthenticated`` for a ``grpc`` that other
                machines reach.

        Raises:
            ConfigError: a setting is unknown, or wrong.

        """
        given: dict[str, object] = {"public-url": public_url or "", "grpc": grpc or NO_LISTENER, **_keys(settings)}
        given |= {"in-memory": True} if data_dir is None else {"data-dir": os.fspath(data_dir)}
        given |= dict.fromkeys(("http", "peer", "ops"), NO_LISTENER)
        self._config = Config.of(given)
        self._listens = grpc is not None
        self._entrance = Entrance(self._config.limits)
        self._run: _Run | None = None
        self._entered = False
        self.failed = asyncio.Event()
        """Set when the node cannot go on (:attr:`failure` says why): requests get 503, and leaving it raises that. Each
        start has an event of its own."""

    @property
    def asgi(self) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """The ASGI application, always the same one: 503 before the start, after the end and after a failure."""
        return self._entrance

    @property
    def target(self) -> str | None:
        """``HOST:PORT`` of the listener for gRPC, what ``durable_streams_client.Client`` takes; None: there is none."""
        return self._run.target if self._run is not None else None

    @property
    def failure(self) -> BaseException | None:
        """What made the node that runs unable to go on."""
        return self._run.failure if self._run is not None else None

    def drain(self) -> None:
        """End live reads with a control event, and new ones after their first answer; other requests go on.

        For a server that waits for open responses before it ends the application, and so before this node is left.
        """
        if self._run is not None:
            self._run.drain()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            DataDirLocked: another process, or another node of this one, has the data directory.
            ConfigError: the directory is of a cluster of several; or the address for gRPC cannot be had.
            StorageError: the store cannot be opened.
            RuntimeError: the node runs already.

        """
        if self._entered:
            raise RuntimeError("this node runs already")
        self._entered = True
        try:
            config, stored, kv = await self._open()
            self.failed = asyncio.Event()
            run = self._run = _Run(config, stored, kv, self._entrance, self.failed)
            try:
                await run.start(config.listen.grpc if self._listens else None)
            except BaseException:
                await self._stop(run)
                raise
        except BaseException:
            self._entered = False
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and stop, in bounded time.

        Raises:
            DiskHangs: the store could not be closed, and its threads hold the process: only ``os._exit`` ends it.
            StorageError: what made the node fail, unless something else is raised already.

        """
        run = self._run
        assert run is not None
        try:
            await self._stop(run)
        finally:
            self._entered = False
        if run.failure is not None and error is None:
            raise run.failure

    async def _open(self) -> tuple[Config, StoredIdentity, Kv]:
        config = self._config
        if config.in_memory:
            return config, opening.volatile(config), MemoryKv()
        opens = asyncio.ensure_future(asyncio.to_thread(opening.open_alone, config))
        try:
            opened = await asyncio.shield(opens)
        except DataDirLocked as locked:
            raise DataDirLocked(
                f"{locked}. An embedded node has its directory for itself. Next step: run one worker process; or one "
                "node beside them (durable-streams serve), which all workers use"
            ) from None
        except asyncio.CancelledError:
            # The thread goes on: what it opens must not stay open, or the next start finds the directory locked.
            await asyncio.wait({opens})
            if opens.exception() is None:
                await asyncio.to_thread(opens.result().kv.close)
            raise
        return opened.config, opened.stored, opened.kv

    async def _stop(self, run: "_Run") -> None:
        stopping = asyncio.ensure_future(run.stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await asyncio.wait({stopping})
            raise
        finally:
            self._run = None


class _Run:
    """From one start to its end."""

    def __init__(
        self, config: Config, stored: StoredIdentity, kv: Kv, entrance: Entrance, failed: asyncio.Event
    ) -> None:
        self._config = config
        self._stored = stored
        self._entrance = entrance
        self._failed = failed
        self._metrics = Metrics()
        self._calls = Calls(config.limits, self._metrics)
        serving = Serving(config, kv, stored, SystemClock(), self._metrics, self._calls, self._fail)
        self._serving = serving
        entrance.attach(serving.app)
        serving.attach(entrance)
        self._ready: Mapping[str, Check] = {"draining": self._not_draining, **serving.checks}
        self._draining = False
        self._clients: ClientListener | None = None
        self._ending: asyncio.Task[None] | None = None
        self.target: str | None = None
        """See ``EmbeddedNode``."""

    @property
    def failure(self) -> BaseException | None:
        """See ``EmbeddedNode``."""
        return self._serving.driver.failure

    async def start(self, grpc: Address | None) -> None:
        """Serve, also at ``grpc``."""
        await self._serving.start()
        if grpc is None:
            return
        operating = Operating(None, "this node is part of another program, and stays alone")
        operating.attach(Reports(self._stored, self._serving.driver, self._standing, None))
        limits = GrpcLimits.of(self._config.limits)
        clients = ClientListener(grpc, operating, self._calls, limits, lambda: not failing(self._ready))
        await clients.start()
        self._clients, self.target = clients, str(Address(grpc.host, clients.port))
        self._calls.whereabouts = Whereabouts(self._stored, self.target, self._serving.driver, dict)

    def drain(self) -> None:
        """See ``EmbeddedNode``."""
        self._draining = True
        self._serving.app.drain()
        self._calls.drain()
        if self._clients is not None:
            self._clients.health.look()

    async def stop(self) -> None:
        """Drain, and close everything. Raises DiskHangs."""
        self.drain()
        try:
            await self._serving.drain()
            if self._clients is not None:
                await self._clients.stop(GRACE_S)
            closed = await asyncio.to_thread(self._serving.driver.close)
        finally:
            if self._ending is not None:
                self._ending.cancel()
        if not closed:
            raise DiskHangs("the disk does not answer, and the store is left open; what was acknowledged is stored")

    def _fail(self, failure: BaseException) -> None:
        self._failed.set()
        self._entrance.refuse(Unavailable(f"the node of this program has failed: {failure}"))
        self.drain()
        self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        """Nothing is answered any more by a store that failed: whoever waits for it is told that nobody knows."""
        await asyncio.sleep(GRACE_S)
        await self._entrance.cut()
        if self._clients is not None:
            await self._clients.stop(GRACE_S)

    def _standing(self) -> Standing:
        return Standing(failing(self._ready), self._draining)

    def _not_draining(self) -> tuple[bool, str]:
        return not self._draining, "draining" if self._draining else "serving"


def _keys(settings: Mapping[str, object]) -> dict[str, object]:
    """Arguments by setting. Raises ConfigError."""
    found = {}
    for name, value in settings.items():
        key = name.replace("_", "-")
        if key not in BY_KEY:
            unknown_key(key, "EmbeddedNode", TAKEN)
        if key not in TAKEN:
            raise ConfigError(f"EmbeddedNode: {name} is of durable-streams serve; here are {', '.join(TAKEN)}")
        found[key] = value
    return found
