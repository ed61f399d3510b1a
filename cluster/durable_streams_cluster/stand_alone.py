"""The composition root of a stand-alone gateway: builds every object of one, starts it, and drains it.

It has no replica: all that it holds is what is on its way, and the newest pages of the streams that are followed.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import SystemRandom

from durable_streams_client.errors import (
    AuthenticationError,
    DurableStreamError,
    OverloadedError,
    PermissionDeniedError,
)
from durable_streams_client.grpc_transport import GrpcTransport
from durable_streams_client.transport import Transport
from durable_streams_cluster.clock import Clock, SystemClock
from durable_streams_cluster.config import Addresses
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.gateway.remote.streams import RemoteStreams
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.gateway_config import GatewayConfig
from durable_streams_cluster.limits import OPS_CONNECTIONS
from durable_streams_cluster.observe.health import HealthApp
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.settings import Address

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the cluster is asked whether it answers."""
PATIENCE_S = 3.0
"""How long it may take. A cluster that elects a leader takes less."""
UNSERVED_S = 10.0
"""A start that waits so long for a node says what it takes, in the log."""

LAST_S = 3.0
"""So long before the time to drain is up, what still waits for the cluster is told so. Cut off without an answer, who
appends would do it again."""


async def run_gateway(
    config: GatewayConfig, stopping: asyncio.Event, on_ready: Callable[[Addresses], None], *, shares_port: bool = False
) -> None:
    """Run a gateway until ``stopping`` is set, then drain it.

    Args:
        config: Everything it is told.
        stopping: Set by a signal.
        on_ready: Called once, with the real addresses, when requests are answered.
        shares_port: Other processes listen at the same address.

    Raises:
        ConfigError: an address is in use.

    """
    gateway = Gateway(config, GrpcTransport(config.target, config.token, waits_for_room=False), shares_port=shares_port)
    starting = asyncio.create_task(gateway.start(on_ready), name="start")
    stopped = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await stopped
    finally:
        starting.cancel()
        stopped.cancel()
        await gateway.stop()


class Gateway:
    """One gateway."""

    def __init__(
        self, config: GatewayConfig, transport: Transport, clock: Clock | None = None, *, shares_port: bool = False
    ) -> None:
        """``transport`` is closed at the end."""
        limits, clock = config.limits, clock or SystemClock()
        self._config = config
        self._transport = transport
        self._draining = False
        self._reach = Reach(transport, ", ".join(config.target))
        self.metrics = Metrics()
        streams = self.streams = RemoteStreams(transport, limits)
        app = self.app = GatewayApp(streams, limits, clock, SystemRandom(), self.metrics)
        if config.public_url is not None:
            app.public_url = config.public_url.encode()
        http = self.http = HttpServer(app, config.http.host, config.http.port, limits, shares_port=shares_port)
        app.crowd.unsent_bytes = lambda: http.state.unsent_bytes
        health = HealthApp({"cluster": self._reach.check, "draining": self._not_draining}, self.metrics)
        few = replace(limits, max_connections=OPS_CONNECTIONS)
        self.ops = HttpServer(health, config.ops.host, config.ops.port, few, name="ops")
        self.metrics.servers.update(http=http, ops=self.ops)
        self.metrics.inflight_bytes = lambda: streams.inflight_bytes
        self.metrics.proposals_pending = lambda: streams.waiting
        self.metrics.upstream = lambda: {"tails": len(streams.tails), "broken": streams.tails.broken}
        self._looking: asyncio.Task[None] | None = None

    async def start(self, on_ready: Callable[[Addresses], None]) -> None:
        """Listen, and call back when the cluster answers; until then requests are told that it does not."""
        await self.ops.start()
        await self.http.start()
        self._looking = asyncio.create_task(self._reach.run(), name="reach")
        try:
            async with asyncio.timeout(UNSERVED_S):
                await self._reach.found.wait()
        except TimeoutError:
            log.warning("nothing is served yet: %s", self._reach.check()[1])
            await self._reach.found.wait()
        http, ops = (Address(server.host, server.port) for server in (self.http, self.ops))
        on_ready(Addresses(http=http, ops=ops))

    async def stop(self) -> None:
        """Not ready; live reads end with a control event; what is in flight is finished; then all is closed."""
        self._draining = True
        self.app.drain()
        limit_s = self._config.limits.drain_timeout_s
        draining = asyncio.ensure_future(self.http.drain(limit_s))
        await asyncio.wait({draining}, timeout=limit_s - LAST_S)
        if self._looking is not None:
            self._looking.cancel()
        await self.streams.aclose()
        await self._transport.aclose()
        await draining
        await self.ops.stop()

    def _not_draining(self) -> tuple[bool, str]:
        return not self._draining, "draining" if self._draining else "serving"


@dataclass(slots=True)
class _Seen:
    reached: bool
    words: str


class Reach:
    """Whether the cluster answers. A gateway that nobody writes through would not know."""

    def __init__(self, transport: Transport, target: str) -> None:
        """``target``: what was dialed, for people."""
        self._transport = transport
        self._target = target
        self._seen = _Seen(False, f"no node has answered yet; asked: {target}")
        self.found = asyncio.Event()
        """It answered once."""

    def check(self) -> tuple[bool, str]:
        """See ``health.Check``."""
        return self._seen.reached, self._seen.words

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask for what only a cluster with a leader answers."""
        try:
            await self._transport.list_streams("", "", 1, PATIENCE_S)
        except (PermissionDeniedError, OverloadedError):
            pass  # It answers: this token may do other things, or it has much to do.
        except AuthenticationError as error:
            words = "the cluster does not take this gateway's token (DURABLE_STREAMS_TOKEN)"
            self._seen = _Seen(False, f"{words}: {error}")
            return
        except DurableStreamError as error:
            advice = "start a node there (durable-streams serve), or give --target its --grpc address"
            self._seen = _Seen(False, f"{error}. Next step: {advice}")
            return
        except Exception as error:  # This goes on for as long as the gateway.
            log.exception("the cluster could not be looked at")
            self._seen = _Seen(False, f"this gateway failed: {error}")
            return
        self._seen = _Seen(True, f"answers at {self._target}")
        self.found.set()
