"""Services that gRPC itself defines: whether this node is ready (``grpc.health.v1``), and what it serves (reflection).

Health is what ``/readyz`` says, for probes and balancers that speak gRPC. The servicer of grpcio-health-checking is not
used: it keeps a copy of the status, which is as old as the last look, and in 1.76 one watcher that leaves makes all the
others deaf.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer, add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from durable_streams_proto.v1 import admin_pb2, streams_pb2

STREAMS: Final[str] = streams_pb2.DESCRIPTOR.services_by_name["Streams"].full_name
ADMIN: Final[str] = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name

_WATCHED = ("", STREAMS)
"""What has a health: the node as a whole, and streams, which are the same. Operators are answered whatever it is."""

_Context = ServicerContext[Any, Any]


class Health(HealthServicer):
    """The service ``grpc.health.v1.Health``."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        """``is_ready``: quick, and asked often."""
        self._is_ready = is_ready
        self._ready = False
        """As it was last found, and as every watcher knows or is about to be told."""
        self._ended = False
        self._watchers: set[asyncio.Event] = set()

    def look(self) -> None:
        """Tell those who watch if it changed."""
        ready = not self._ended and self._is_ready()
        if ready is not self._ready:
            self._ready = ready
            self._wake()

    def end(self) -> None:
        """Not ready from now on; the calls of those who watch end once they were told."""
        self._ended = True
        self.look()
        self._wake()

    async def Check(self, request: HealthCheckRequest, context: _Context) -> HealthCheckResponse:  # noqa: N802
        """How it is now."""
        if request.service not in _WATCHED:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is the health of {STREAMS} here, and of '', all")
        return self._found(request.service)

    async def Watch(self, request: HealthCheckRequest, context: _Context) -> None:  # noqa: N802
        """How it is now, and whenever that changes."""
        moved = asyncio.Event()
        self._watchers.add(moved)
        try:
            told = None
            while True:
                moved.clear()
                found = self._found(request.service)
                if found != told:
                    await context.write(found)
                    told = found
                elif self._ended:
                    return
                else:
                    await moved.wait()
        finally:
            self._watchers.discard(moved)

    def _found(self, service: str) -> HealthCheckResponse:
        if service not in _WATCHED:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        self.look()
        return HealthCheckResponse(status="SERVING" if self._ready else "NOT_SERVING")

    def _wake(self) -> None:
        for moved in self._watchers:
            moved.set()


def serve_standard(server: grpc.aio.Server, is_healthy: Health) -> None:
    """Let ``server`` answer probes, and tools that ask what it serves."""
    add_HealthServicer_to_server(is_healthy, server)
    names = (STREAMS, ADMIN, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
