"""A server on loopback for the tests of ``gateway.serve``: raw clients, and time that the test moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import uvloop

from durable_streams_cluster.gateway.connection import Connection
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.limits import Limits

SMALL = replace(Limits(), max_header_bytes=512, max_target_bytes=128, max_connections=4)
GET = b"GET /v1/stream/x HTTP/1.1\r\nhost: a\r\n\r\n"


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def steady_ms(self) -> int:
        return self.ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000

    def steady_ns(self) -> int:
        return self.ms * 1_000_000


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split(" ")[1]), headers, body

    async def status(self) -> int:
        return (await self.response())[0]

    async def get(self) -> int:
        self.send(GET)
        return await self.status()

    async def ended(self) -> bytes:
        """What comes until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            return await self.reader.read()
        return b""


class World:
    """A server, its clock, and the clients of one test."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.clock = Clock()
        self.server = HttpServer(app, "127.0.0.1", 0, limits, clock=self.clock)
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self.clients.append(client)
        return client

    async def accepted(self) -> Client:
        """Connect, and return when the server has taken the connection."""
        before = self.server.connections
        client = await self.connect()
        await until(lambda: self.server.connections > before)
        return client

    @property
    def connections(self) -> list[Connection]:
        return cast("list[Connection]", list(self.server.state.connections))

    def pass_time(self, seconds: float) -> None:
        self.clock.ms += int(seconds * 1000)
        self.server.sweep()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until ``condition`` holds; the test's own time limit ends it otherwise."""
    while not condition():  # noqa: ASYNC110  # what is waited for happens in the server, which sets no event
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(app: Any, limits: Limits = SMALL) -> AsyncIterator[World]:
    world = World(app, limits)
    await world.server.start()
    try:
        yield world
    finally:
        await world.server.stop()
        for client in world.clients:
            client.writer.transport.abort()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test on the loop that the node uses, for at most 10 s."""

    def wrapper() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(), 10))

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


async def read_all(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes | None:
    """The whole body; None when the client left or sent nonsense."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await read_all(receive)
    headers = [(b"content-length", b"%d" % len(body or b"")), (b"x-path", scope["path"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body or b""})


class Gate:
    """An application that answers when the test lets it; notes who disconnected."""

    def __init__(self) -> None:
        self.arrived = 0
        self.gone: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.arrived += 1
        await read_all(receive)
        leaving = asyncio.ensure_future(receive())
        opening = asyncio.ensure_future(self.open.wait())
        await asyncio.wait([leaving, opening], return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if leaving.done() and not self.open.is_set():
            self.gone.append(scope["path"])
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
        await send({"type": "http.response.body", "body": b"done"})
        await leaving
