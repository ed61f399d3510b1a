"""What a node serves once it is of a cluster, before and without a leader."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest.mock import AsyncMock

import httpx

from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.config import Config
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Member, Room
from durable_streams_cluster.raft.messages import Heartbeat
from durable_streams_cluster.replica.exchange import Addressed, Forward
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.runtime import driver as driver_module
from durable_streams_cluster.runtime import wire
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.outbox import Kind
from durable_streams_cluster.serving import Serving
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_cluster.storage.kv import Space
from durable_streams_cluster.storage.memory import MemoryKv
from tests.runtime.followers import NEXT, OTHER, Followers
from tests.runtime.world import SimulatedClock, SimulatedDisk, StallingKv, simulate

N1 = NodeId("n1")
N2 = NodeId("n2")
TEXT = {"content-type": "text/plain"}
STORED = StoredIdentity(N1, 1, "c-1", (Member(N1, 1), Member(N2, 2), Member(NodeId("n3"), 3)), begun=True)


class Played:
    """The others, as the transport of n1: they take everything and answer nothing."""

    def __init__(self) -> None:
        self.forwarded = asyncio.Event()

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        if any(isinstance(message, Forward) for message in wire.unpack(payload).messages):
            self.forwarded.set()
        return True


def one_of_three(**limits: float) -> tuple[Serving, HttpServer]:
    """The others are not there."""
    config = Config.load({}, {}, None)
    config = replace(config, limits=replace(config.limits, **limits))
    metrics = Metrics()
    calls = Calls(config.limits, metrics)
    serving = Serving(config, MemoryKv(), STORED, SystemClock(), metrics, calls, lambda _: None)
    http = HttpServer(serving.app, "127.0.0.1", 0, config.limits)
    serving.attach(http)
    return serving, http


async def listening(serving: Serving, http: HttpServer) -> tuple[asyncio.Task[None], str]:
    """Begin to start it: its start, and a stream's address once requests are taken there."""
    listen, listens = http.start, asyncio.Event()

    async def noting() -> None:
        await listen()
        listens.set()

    http.start = noting  # type: ignore[method-assign]
    starting = asyncio.create_task(serving.start())
    await listens.wait()
    return starting, f"http://127.0.0.1:{http.port}/v1/stream/s"


def test_who_asks_before_there_was_ever_a_leader_is_answered() -> None:
    """A member that started while the others were down held every request for ever: nothing looked at the time."""

    async def main() -> None:
        serving, http = one_of_three(proposal_timeout_s=0.1)
        starting, stream = await listening(serving, http)
        async with httpx.AsyncClient(timeout=20) as client:
            for answer in await asyncio.gather(
                client.get(stream),
                client.get(stream, params={"offset": "now", "live": "sse"}),
                client.put(stream, headers=TEXT),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert "no leader answers" in answer.json()["error"]["message"]
        assert not starting.done(), "nobody leads"
        starting.cancel()
        await serving.drain()
        assert serving.driver.close()

    asyncio.run(main())


def test_one_that_was_removed_ends_before_what_it_gave_to_a_leader_is_known() -> None:
    """Its clients hear that, and are not cut off: it is never said not to be stored."""

    async def main() -> None:
        (serving, http), others = one_of_three(proposal_timeout_s=600), Played()
        driver = serving.driver
        driver.transport = others
        starting, stream = await listening(serving, http)
        ((_, _, payload),) = wire.pack([Addressed(N1, ONLY_GROUP, Heartbeat(Term(1), Index(0), 0))])
        driver.deliver(N2, 2, payload)
        async with httpx.AsyncClient(timeout=60) as client:
            writing = asyncio.create_task(client.put(stream, headers=TEXT))
            await others.forwarded.wait()
            driver.removal.told("n3")
            assert (await client.get(stream)).status_code == 503
            assert not writing.done()
            starting.cancel()
            await serving.drain()
            answer = await writing
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "outcome_unknown")
        assert driver.close()

    asyncio.run(main())


@asynccontextmanager
async def simulated(kv: StallingKv) -> AsyncIterator[Serving]:
    """One of three, and the others are away."""
    config = Config.load({}, {}, None)
    kept, driver_module.Disk = driver_module.Disk, SimulatedDisk  # type: ignore[misc, assignment]
    try:
        calls = Calls(config.limits, metrics := Metrics())
        serving = Serving(config, kv, STORED, SimulatedClock(), metrics, calls, lambda _: None)  # type: ignore[arg-type]
    finally:
        driver_module.Disk = kept  # type: ignore[misc]
    serving.driver.transport = away = Followers()
    away.gone = {NEXT, OTHER}
    serving.attach(AsyncMock())  # A listener looks its address up in a thread, and time jumps meanwhile.
    start = asyncio.ensure_future(serving.start())
    try:
        await asyncio.sleep(0.1)
        assert not start.done()
        yield serving
    finally:
        start.cancel()
        await serving.drain()
        serving.driver.close()


def test_a_disk_that_was_full_at_the_start_is_looked_at_again() -> None:
    """Who takes no entries is not served: were that waited for, it would take none for ever."""

    async def main() -> None:
        kv = StallingKv()
        kv.space = Space(10 * MIB, 1000 * MIB, 100 * MIB, 0, 1000 * MIB)
        async with simulated(kv) as serving:
            await asyncio.sleep(2)
            assert serving.driver.replica.group.core.room is Room.NONE
            kv.space = Space(500 * MIB, 1000 * MIB, 100 * MIB, 0, 1000 * MIB)
            await asyncio.sleep(2)
            assert serving.driver.replica.group.core.room is Room.PLENTY

    simulate(main)
