"""What gRPC's own tools ask of a node, over a real channel: whether it is ready, and what it serves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from durable_streams_cluster.limits import GrpcLimits, Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_clients import ClientListener
from durable_streams_cluster.runtime.operating import Operating
from durable_streams_cluster.settings import Address
from tests.gateway.serving import until
from tests.runtime.peering import run

STREAMS, ADMIN = "durable_streams.v1.Streams", "durable_streams.v1.Admin"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Probed:
    """A listener for clients whose readiness, and whose next look at it, is for the test to say."""

    def __init__(self) -> None:
        self.ready = False
        self.looks = asyncio.Semaphore(0)
        calls = Calls(Limits(), Metrics())
        self.listener = ClientListener(
            Address("127.0.0.1", 0), Operating(None), calls, GrpcLimits(), lambda: self.ready, self._pause
        )
        self.channel: Any = None
        self.stub: Any = None

    async def _pause(self, _: float) -> None:
        await self.looks.acquire()

    async def check(self, service: str = "") -> int:
        return int((await self.stub.Check(HealthCheckRequest(service=service))).status)

    def watch(self, service: str = "") -> Any:
        return self.stub.Watch(HealthCheckRequest(service=service))


@asynccontextmanager
async def probed() -> AsyncIterator[Probed]:
    it = Probed()
    await it.listener.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{it.listener.port}") as it.channel:
            it.stub = HealthStub(it.channel)
            yield it
    finally:
        await it.listener.stop()


@pytest.mark.parametrize("service", ["", STREAMS])
def test_a_check_says_how_it_is_now(service: str) -> None:
    async def play() -> None:
        async with probed() as it:
            for it.ready in (False, True, False):
                assert await it.check(service) == (SERVING if it.ready else NOT_SERVING)

    run(play())


def test_what_has_no_health_is_not_found_and_not_forgotten() -> None:
    async def play() -> None:
        async with probed() as it:
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await it.check(ADMIN)
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
            watch = it.watch("nobody")
            assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
            await it.listener.stop(1.0)
            assert await watch.read() is grpc.aio.EOF

    run(play())


def test_who_watches_is_told_of_each_change_by_the_next_look() -> None:
    async def play() -> None:
        async with probed() as it:
            watches = [it.watch(), it.watch(STREAMS)]
            for it.ready in (False, True, False):
                it.looks.release()
                assert [(await watch.read()).status for watch in watches] == [SERVING if it.ready else NOT_SERVING] * 2

    run(play())


def test_one_that_leaves_takes_nothing_from_the_others() -> None:
    """In grpcio-health-checking 1.76 the others hear nothing any more."""

    async def play() -> None:
        async with probed() as it:
            stays, leaves = it.watch(), it.watch()
            for watch in (stays, leaves):
                assert (await watch.read()).status == NOT_SERVING
            leaves.cancel()
            await until(lambda: len(it.listener.health._watchers) == 1)
            it.ready = True
            it.looks.release()
            assert (await stays.read()).status == SERVING

    run(play())


def test_a_change_that_a_check_saw_first_is_told_to_who_watches() -> None:
    """The look behind it would find nothing new."""

    async def play() -> None:
        async with probed() as it:
            watch = it.watch()
            assert (await watch.read()).status == NOT_SERVING
            it.ready = True
            assert await it.check() == SERVING
            assert (await watch.read()).status == SERVING

    run(play())


def test_who_watches_is_told_the_end_and_does_not_hold_it_up() -> None:
    async def play() -> None:
        async with probed() as it:
            it.ready = True
            watch = it.watch()
            assert (await watch.read()).status == SERVING
            await it.listener.stop(3600)
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
            assert await watch.code() is grpc.StatusCode.OK

    run(play())


def test_reflection_lists_the_services_and_describes_their_messages() -> None:
    async def play() -> None:
        async with probed() as it:
            asks: Any = ServerReflectionStub(it.channel)
            call = asks.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
            listed = (await call.read()).list_services_response.service
            health, reflection = "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"
            assert sorted(each.name for each in listed) == [ADMIN, STREAMS, health, reflection]

    run(play())


def test_a_tool_finds_out_by_reflection_how_to_ask() -> None:
    async def play() -> None:
        async with probed() as it:
            target = f"127.0.0.1:{it.listener.port}"

            def look() -> set[str]:
                with grpc.insecure_channel(target) as channel:
                    found = ProtoReflectionDescriptorDatabase(channel)
                    file = found.FindFileContainingSymbol(STREAMS)
                    return {method.name for method in file.service[0].method}

            assert {"Create", "Append", "Follow", "Write"} <= await asyncio.to_thread(look)

    run(play())
