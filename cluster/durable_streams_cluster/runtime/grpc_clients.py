"""The listener for clients (``--grpc``): streams, what operators ask, and whether this node is ready."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from durable_streams_cluster.limits import GRPC_CALLS, GrpcLimits
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_admin import Operations, serve_admin
from durable_streams_cluster.runtime.grpc_binding import bind
from durable_streams_cluster.runtime.grpc_options import serving
from durable_streams_cluster.runtime.grpc_standard import Health, serve_standard
from durable_streams_cluster.runtime.grpc_streams import serve_streams
from durable_streams_cluster.settings import Address

LOOK_S = 0.5
"""How often it is seen whether the node is ready: nothing tells, and who watches its health is to be told."""


class ClientListener:
    """Open from before the node is of a cluster until it ends."""

    def __init__(
        self,
        address: Address,
        operations: Operations,
        calls: Calls,
        limits: GrpcLimits,
        is_ready: Callable[[], bool],
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """``is_ready``: as ``/readyz`` says; ``pause`` waits between two looks at it, in seconds."""
        self._address = address
        self._operations = operations
        self._calls = calls
        self._limits = limits
        self.health = Health(is_ready)
        self._pause = pause
        self._looking: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None
        self.port = address.port
        """The port asked for; after :meth:`start`, the real one."""

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be had."""
        server = grpc.aio.server(options=serving(self._limits), maximum_concurrent_rpcs=GRPC_CALLS)
        serve_admin(server, self._operations)
        serve_streams(server, self._calls)
        serve_standard(server, self.health)
        self.port = await bind(server, "grpc", self._address)
        self._server = server
        await server.start()
        self._looking = asyncio.create_task(self._look(), name="health")

    async def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls; those under way have ``grace_s`` to end. A change that is asked for may yet happen."""
        self.health.end()
        if self._looking is not None:
            self._looking.cancel()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    async def _look(self) -> None:
        while True:
            await self._pause(LOOK_S)
            self.health.look()
