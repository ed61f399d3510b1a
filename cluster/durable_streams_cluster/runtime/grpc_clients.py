"""The listener for clients (``--grpc``): streams, and what operators ask."""

import grpc

from durable_streams_cluster.limits import GRPC_CALLS, GrpcLimits
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_admin import Operations, serve_admin
from durable_streams_cluster.runtime.grpc_binding import bind
from durable_streams_cluster.runtime.grpc_options import serving
from durable_streams_cluster.runtime.grpc_streams import serve_streams
from durable_streams_cluster.settings import Address


class ClientListener:
    """Open from before the node is of a cluster until it ends."""

    def __init__(self, address: Address, operations: Operations, calls: Calls, limits: GrpcLimits) -> None:
        self._address = address
        self._operations = operations
        self._calls = calls
        self._limits = limits
        self._server: grpc.aio.Server | None = None
        self.port = address.port
        """The port asked for; after :meth:`start`, the real one."""

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be had."""
        server = grpc.aio.server(options=serving(self._limits), maximum_concurrent_rpcs=GRPC_CALLS)
        serve_admin(server, self._operations)
        serve_streams(server, self._calls)
        self.port = await bind(server, "grpc", self._address)
        self._server = server
        await server.start()

    async def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls; those under way have ``grace_s`` to end. A change that is asked for may yet happen."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)
