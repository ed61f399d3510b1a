"""A stand-alone gateway in this process: when it is ready, what it says until then, and how it ends."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx
import pytest
import uvloop

from durable_streams_client import errors
from durable_streams_client.grpc_transport import GrpcTransport
from durable_streams_cluster import stand_alone
from durable_streams_cluster.config import Addresses
from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.gateway_config import GatewayConfig
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.stand_alone import Gateway, Reach, run_gateway
from tests.gateway.remote.wire import Node, listening, transport_to
from tests.gateway.serving import until
from tests.runtime.world import World, append, content, create, simulate, started
from tests.server import LOOPBACK, free_ports

PATIENCE_S = 20.0
SSE = "GET /v1/stream/s?offset=-1&live=sse HTTP/1.1\r\nhost: h\r\n\r\n"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others or not (await asyncio.wait(others, timeout=PATIENCE_S))[1]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def config(limits: Limits | None = None, target: str = "nowhere:1", **flags: str) -> GatewayConfig:
    ports = {"http": f"{LOOPBACK}:0", "ops": f"{LOOPBACK}:0"}
    made = GatewayConfig.load({"target": target, **ports, **flags}, {}, None)
    return replace(made, limits=limits or made.limits)


class Served:
    """A gateway that begins in front of a node which answers when a test lets it."""

    def __init__(self, gateway: Gateway, node: Node, world: World) -> None:
        self.gateway, self.node, self.world = gateway, node, world
        self.ready: list[Addresses] = []
        self.starting = asyncio.ensure_future(gateway.start(self.ready.append))
        self.http = httpx.AsyncClient(timeout=PATIENCE_S)

    async def listens(self) -> None:
        await until(lambda: bool(self.gateway.http.port))

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(f"http://{LOOPBACK}:{self.gateway.http.port}{path}")

    async def post(self, path: str, text: str) -> httpx.Response:
        url = f"http://{LOOPBACK}:{self.gateway.http.port}{path}"
        return await self.http.post(url, headers={"Content-Type": "text/plain"}, content=text)

    async def ops(self, path: str) -> httpx.Response:
        return await self.http.get(f"http://{LOOPBACK}:{self.gateway.ops.port}{path}")

    async def readiness(self) -> tuple[int, str]:
        answer = await self.ops("/readyz?verbose")
        return answer.status_code, answer.text


@contextlib.asynccontextmanager
async def served(*, reaches: bool = True, limits: Limits | None = None) -> AsyncIterator[Served]:
    """In front of a node with a stream ``s`` of text."""
    world = await started()
    await world.streams.create(create("s"))
    await world.streams.append(append("s", b"one"))
    node = listening(world)
    node.reaches = reaches
    one = Served(Gateway(config(limits), transport_to(node)), node, world)
    await one.listens()
    try:
        if reaches:
            await one.starting
        yield one
    finally:
        one.starting.cancel()
        await one.gateway.stop()
        await one.http.aclose()
        assert node.open == []
        assert one.gateway._transport._closed  # type: ignore[attr-defined]
        for port in (one.gateway.http.port, one.gateway.ops.port):
            socket.create_server((LOOPBACK, port)).close()


# --- When it is ready.


def test_it_is_ready_when_the_cluster_answers() -> None:
    async def main() -> None:
        async with served(reaches=False) as one:
            status, said = await one.readiness()
            assert (status, one.ready) == (503, [])
            assert "[-]cluster: no node " in said
            assert (await one.ops("/livez")).status_code == 200
            one.node.reaches = True
            await one.starting
            (addresses,) = one.ready
            assert addresses.http.port == one.gateway.http.port
            assert addresses.ops is not None
            assert addresses.ops.port == one.gateway.ops.port
            assert await one.readiness() == (
                200,
                "[+]cluster: answers at nowhere:1\n[+]draining: serving\nok\n",
            )
            assert (await one.get("/v1/stream/s?offset=-1")).text == "one"

    run(main)


def test_without_a_cluster_it_says_so_and_refuses(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(stand_alone, "UNSERVED_S", 0.5)
    monkeypatch.setattr(stand_alone, "PATIENCE_S", 0.1)
    caplog.set_level(logging.WARNING, "durable_streams_cluster")

    async def main() -> None:
        async with served(reaches=False, limits=replace(Limits(), proposal_timeout_s=0.3)) as one:
            for path in ("/v1/stream/s", "/v1/stream/s?offset=-1&live=sse", "/v1/stream/s?offset=now&live=long-poll"):
                answer = await one.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert "no node answers; the last one asked was node:1" in answer.json()["error"]["message"]
            await until(lambda: "nothing is served yet" in caplog.text)
            assert one.ready == []
            _, said = await one.readiness()
            assert "start a node there (durable-streams serve), or give --target its --grpc address" in said

    run(main)
    assert caplog.text.count("nothing is served yet") == 1


def test_a_cluster_that_answers_no_more_is_seen_and_so_is_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_alone, "LOOK_S", 0.01)
    monkeypatch.setattr(stand_alone, "PATIENCE_S", 0.1)

    async def main() -> None:
        async with served() as one:
            for reaches in (False, True):
                one.node.reaches = reaches
                while (await one.readiness())[0] != (200 if reaches else 503):
                    pass
            assert len(one.ready) == 1

    run(main)


class Answers:
    """A transport whose lists are what a test says."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)

    async def list_streams(self, *_: object) -> list[Any]:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (errors.UnavailableError("a:1: refused"), "a:1: refused. Next step: start a node there"),
        (errors.DurableStreamError("a:1: not implemented"), "a:1: not implemented. Next step"),
        (errors.AuthenticationError("expired"), "does not take this gateway's token (DURABLE_STREAMS_TOKEN): expired"),
        (ValueError("what"), "what"),
    ],
)
def test_why_the_cluster_is_not_reached(answer: Exception, says: str) -> None:
    async def main() -> None:
        reach = Reach(Answers(answer), "a:1")  # type: ignore[arg-type]
        assert reach.check() == (False, "no node has answered yet; asked: a:1")
        looking = asyncio.ensure_future(reach.run())
        await asyncio.sleep(0.5)
        reached, words = reach.check()
        assert not reached
        assert says in words
        assert not reach.found.is_set()
        await asyncio.sleep(1)
        assert reach.check() == (True, "answers at a:1")
        assert reach.found.is_set()
        assert not looking.done()
        looking.cancel()

    simulate(main)


@pytest.mark.parametrize("answer", [errors.PermissionDeniedError("not lists"), errors.OverloadedError("too much")])
def test_a_cluster_that_refuses_this_question_is_reached(answer: Exception) -> None:
    """All gateways would be taken out of service while it has much to do."""

    async def main() -> None:
        reach = Reach(Answers(answer), "a:1")  # type: ignore[arg-type]
        await reach.look()
        assert reach.check() == (True, "answers at a:1")

    simulate(main)


# --- How it ends.


def test_a_stop_ends_live_reads_with_a_control_event() -> None:
    async def main() -> None:
        async with served() as one:
            reader, writer = await asyncio.open_connection(LOOPBACK, one.gateway.http.port)
            writer.write(SSE.encode())
            begun = await reader.readuntil(b'"upToDate":true}\n\n')
            poll = asyncio.ensure_future(one.get("/v1/stream/s?offset=now&live=long-poll"))
            await until(lambda: one.gateway.metrics.live_readers["long-poll"] == 1)
            stopping = asyncio.ensure_future(one.gateway.stop())
            last = await reader.read()
            assert b"data:one" in begun
            assert b"event: control" in last
            assert last.endswith(b"0\r\n\r\n")
            assert (await poll).status_code == 204
            await stopping
            writer.close()

    run(main)


def test_it_is_not_ready_while_it_drains() -> None:
    async def main() -> None:
        async with served() as one:
            one.node.delay_of["Read"] = 0.5
            answer = asyncio.ensure_future(one.get("/v1/stream/s?offset=-1"))
            await until(lambda: one.node.asked["Read"] == 1)
            stopping = asyncio.ensure_future(one.gateway.stop())
            await asyncio.sleep(0)
            status, said = await one.readiness()
            assert (status, "[-]draining: draining" in said) == (503, True)
            assert (await answer).text == "one"
            await stopping

    run(main)


def test_what_still_waits_for_the_cluster_at_the_end_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off without an answer, a client would append a second time what may be stored."""
    monkeypatch.setattr(stand_alone, "LAST_S", 1.0)

    async def main() -> None:
        async with served(limits=replace(Limits(), drain_timeout_s=1.2)) as one:
            one.node.delay_of["reply to Write"] = 60
            post = asyncio.ensure_future(one.post("/v1/stream/s", "two"))
            while await content(one.world, "s") != b"onetwo":  # noqa: ASYNC110  # it is stored; nobody is told
                await asyncio.sleep(0)
            one.node.reaches = False
            read = asyncio.ensure_future(one.get("/v1/stream/s?offset=-1"))
            await until(lambda: bool(one.node.asked["Read"]))
            await one.gateway.stop()
            answers = [await read, await post]
            assert [answer.status_code for answer in answers] == [503, 409]
            assert answers[0].headers["retry-after"] == "1"
            assert [answer.json()["error"]["code"] for answer in answers] == ["unavailable", "outcome_unknown"]

    run(main)


def test_a_stop_before_the_cluster_answers() -> None:
    async def main() -> None:
        (port,) = free_ports(1)
        stopping = asyncio.Event()
        ready: list[Addresses] = []
        running = asyncio.ensure_future(run_gateway(config(target=f"{LOOPBACK}:{port}"), stopping, ready.append))
        await asyncio.sleep(0.1)
        stopping.set()
        await running
        assert ready == []

    run(main)


@pytest.mark.parametrize("taken", ["http", "ops"])
def test_an_address_in_use_ends_it_and_leaves_nothing(taken: str) -> None:
    async def main() -> None:
        ports = dict(zip(("http", "ops"), free_ports(2), strict=True))
        with socket.create_server((LOOPBACK, ports[taken])):
            flags = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
            with pytest.raises(ConfigError, match=f"{taken}: cannot listen on {flags[taken]}: the address is in use"):
                await run_gateway(config(**flags), asyncio.Event(), lambda _: None)
        for port in ports.values():
            socket.create_server((LOOPBACK, port)).close()

    run(main)


def test_what_it_tells_prometheus() -> None:
    async def main() -> None:
        async with served() as one:
            reader, writer = await asyncio.open_connection(LOOPBACK, one.gateway.http.port)
            writer.write(SSE.encode())
            await reader.readuntil(b'"upToDate":true}\n\n')
            said = (await one.ops("/metrics")).text
            assert "durable_streams_upstream_tails 1.0" in said
            assert 'durable_streams_live_readers{mode="sse"} 1.0' in said
            writer.close()

    run(main)


def test_the_transport_is_of_the_nodes_that_are_named() -> None:
    async def main() -> None:
        made = config(target="a:1,b:2")
        transport = GrpcTransport(made.target, made.token)
        assert sorted(transport._routes._targets) == ["a:1", "b:2"]
        await transport.aclose()

    run(main)
