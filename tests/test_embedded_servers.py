"""An embedded node mounted in FastAPI, under the servers that people run: addresses, live reads, and who leaves."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import hypercorn
import hypercorn.asyncio
import pytest
import uvicorn
from fastapi import FastAPI, Request

from durable_streams_cluster import EmbeddedNode
from tests.gateway.serving import until
from tests.runtime.peering import run

TEXT = {"content-type": "text/plain"}
App = Callable[..., Any]


class Program:
    """A node in an application of FastAPI, at /streams."""

    def __init__(self, *, proxied: str = "", rewritten: bool = False, **settings: Any) -> None:
        """``proxied``: what it is told that a proxy took from the path; ``rewritten``: raw_path is left out."""
        self.node = EmbeddedNode(None, **settings)
        app = FastAPI(lifespan=self._lifespan)
        # Mounted when the module is imported, as people do; and behind a middleware, which has a receive of its own.
        app.mount("/streams", self.node.asgi)
        app.mount("/tenants/{name}", self.node.asgi)
        app.middleware("http")(self._pass)
        self.app = _before(app, proxied, rewritten=rewritten)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with self.node:
            yield

    async def _pass(self, request: Request, call_next: Any) -> Any:
        return await call_next(request)

    @property
    def live(self) -> dict[str, int]:
        assert self.node._run is not None
        return self.node._run._metrics.live_readers


def _before(app: App, root_path: str, *, rewritten: bool) -> App:
    async def change(scope: Any, receive: Any, send: Any) -> None:
        if rewritten:
            scope.pop("raw_path", None)
        if root_path:
            # As FastAPI does with its argument of that name, whatever the path is.
            scope["root_path"] = root_path
        await app(scope, receive, send)

    return change


@contextlib.asynccontextmanager
async def under_uvicorn(app: App, root_path: str = "", **more: Any) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, root_path=root_path, ws="none", **more))
        serving = asyncio.create_task(server.serve([listener]))
        await until(lambda: server.started or serving.done())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def under_h11(app: App, root_path: str = "") -> Any:
    return under_uvicorn(app, root_path, http="h11")


@contextlib.asynccontextmanager
async def under_hypercorn(app: App, root_path: str = "") -> AsyncIterator[str]:
    listener, stopping, started = socket.create_server(("127.0.0.1", 0)), asyncio.Event(), asyncio.Event()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = hypercorn.Config()
    config.bind, config.root_path = [f"fd://{listener.detach()}"], root_path

    async def stop() -> None:
        started.set()  # It waits for this once it serves.
        await stopping.wait()

    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop))
    await started.wait()
    try:
        yield address
    finally:
        stopping.set()
        await serving


SERVERS = pytest.mark.parametrize("under", [under_uvicorn, under_h11, under_hypercorn])


def client(base: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base, trust_env=False, timeout=30)


# --- Addresses.

PLACES = {
    "plain": ("", "", "/streams", "/streams"),
    # A proxy takes /api away, and the framework, or the server, is told so.
    "the framework's root_path": ("/api", "", "/streams", "/api/streams"),
    "the server's root_path": ("", "/api", "/streams", "/api/streams"),
    "a mount with a space": ("", "", "/tenants/a%20b%C3%A9", "/tenants/a%20b%C3%A9"),
}


@SERVERS
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rewritten", [False, True], ids=["raw_path", "no raw_path"])
def test_streams_have_the_addresses_that_clients_see(under: Any, place: str, rewritten: bool) -> None:
    proxied, root_path, asked, seen = PLACES[place]

    async def main() -> None:
        program = Program(proxied=proxied, rewritten=rewritten)
        async with under(program.app, root_path) as base, client(base) as http:
            stream = f"{base}{asked}/v1/stream/a%2Fb%20%C3%A9%25"
            made = await http.put(stream, headers=TEXT, content=b"one")
            assert made.status_code == 201
            located = made.headers["location"]
            path = "a/b%20%C3%A9%25" if rewritten else "a%2Fb%20%C3%A9%25"
            assert located == f"{base}{seen}/v1/stream/{path}"
            assert (await http.get(located.replace(seen, asked, 1))).content == b"one"
            assert (await http.get(f"{base}{asked}/v1/stream/a/b%20%c3%a9%25")).content == b"one"
            fork = {"stream-forked-from": f"{seen}/v1/stream/a%2Fb%20%C3%A9%25"}
            made = await http.put(f"{base}{asked}/v1/stream/fork", headers=fork)
            assert (made.status_code, made.headers["location"]) == (201, f"{base}{seen}/v1/stream/fork")
            assert (await http.get(f"{base}{asked}/v1/stream/fork")).content == b"one"
            listed = (await http.get(f"{base}{asked}/v1/stream/")).json()["streams"]
            assert [each["path"] for each in listed] == ["a/b \u00e9%", "fork"]
            assert f"{seen}/v1/stream/hello" in (await http.get(f"{base}{asked}/")).text
            assert (await http.get(f"{base}{asked}/v2/stream/fork")).status_code == 404

    run(main(), asyncio.new_event_loop)


def test_the_public_address_is_the_one_that_is_given() -> None:
    async def main() -> None:
        program = Program(public_url="https://example.com/pub")
        async with under_uvicorn(program.app) as base, client(f"{base}/streams/v1/stream") as http:
            made = await http.put("/s", headers=TEXT)
            assert made.headers["location"] == "https://example.com/pub/v1/stream/s"
            assert (await http.put("/f", headers={"stream-forked-from": "/pub/v1/stream/s"})).status_code == 201

    run(main())


# --- Live reads.


@SERVERS
def test_live_reads_get_what_comes_and_are_over_when_their_client_leaves(under: Any) -> None:
    async def main() -> None:
        program = Program()
        async with under(program.app) as base, client(f"{base}/streams/v1/stream") as http:
            assert (await http.put("/s", headers=TEXT, content=b"one")).status_code == 201
            async with http.stream("GET", "/s", params={"offset": "-1", "live": "sse"}) as tail:
                lines = tail.aiter_lines()
                assert [await anext(lines) for _ in range(2)] == ["event: data", "data:one"]
                poll = asyncio.create_task(http.get("/s", params={"offset": "now", "live": "long-poll"}))
                await until(lambda: program.live["long-poll"] == 1)
                assert (await http.post("/s", headers=TEXT, content=b"two")).status_code == 204
                assert (await poll).content == b"two"
                async for line in lines:
                    if line == "data:two":
                        break
            await until(lambda: program.live["sse"] == 0)
            poll = asyncio.create_task(http.get("/s", params={"offset": "now", "live": "long-poll"}))
            await until(lambda: program.live["long-poll"] == 1)
            poll.cancel()
            await until(lambda: program.live["long-poll"] == 0)

    run(main())


@SERVERS
def test_live_reads_end_with_a_control_event_when_the_node_is_drained_first(under: Any) -> None:
    """Servers wait for them, and the node is left behind that."""

    async def main() -> None:
        program = Program()
        async with client("") as http, under(program.app) as base:
            stream = f"{base}/streams/v1/stream/s"
            await http.put(stream, headers=TEXT, content=b"one")
            tail = asyncio.create_task(http.get(stream, params={"offset": "-1", "live": "sse"}))
            await until(lambda: program.live["sse"] == 1)
            program.node.drain()
        text = (await tail).text
        assert "data:one" in text
        assert text.rstrip().splitlines()[-1].startswith('data:{"streamNextOffset"')

    run(main())


def test_a_server_that_does_not_wait_for_live_reads_ends_with_them() -> None:
    async def main() -> None:
        program = Program()
        async with client("") as http:
            async with under_uvicorn(program.app, timeout_graceful_shutdown=0) as base:
                stream = f"{base}/streams/v1/stream/s"
                await http.put(stream, headers=TEXT, content=b"one")
                tail = asyncio.create_task(http.get(stream, params={"offset": "-1", "live": "sse"}))
                await until(lambda: program.live["sse"] == 1)
            with contextlib.suppress(httpx.RemoteProtocolError):
                await tail
        assert program.node._run is None

    run(main())
