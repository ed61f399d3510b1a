"""Reads the short way: the same answers as by the long one, whether they are known at once or not."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from random import Random
from typing import Any, cast

import pytest

from durable_streams_cluster.api import BadOffset, From, OffsetGone, Page, ReadRejected
from durable_streams_cluster.errors import Overloaded, Unavailable
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import NotFound, SoftDeleted
from tests.gateway.serving import Client, Clock, World, run, serving, until
from tests.runs import alone

PATH = "GET /v1/stream/s"
Told = Page | ReadRejected | Exception


def page(*bodies: bytes, json: bool = False, closed: bool = False) -> Page:
    kind = "application/json" if json else "text/plain"
    ends = Offset(1, sum(map(len, bodies)))
    return Page("1-1", kind, json, Offset(1, 0), ends, alone(*bodies), True, closed, None, None, {})


class Streams:
    """Answers as a test says: at once, or when it is told to."""

    def __init__(self) -> None:
        self.told: Told = page(b"one", b"two")
        self.knows = True
        self.asked: list[Offset | From] = []
        self.held: asyncio.Event | None = None

    def read_now(self, path: str, at: Offset | From, max_bytes: int | None = None) -> Page | ReadRejected | None:
        if not self.knows:
            return None
        self.asked.append(at)
        return self._answer()

    async def read(self, path: str, at: Offset | From, max_bytes: int | None = None) -> Page | ReadRejected:
        self.asked.append(at)
        if self.held is not None:
            await self.held.wait()
        return self._answer()

    def _answer(self) -> Page | ReadRejected:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class Served(World):
    streams: Streams
    metrics: Metrics


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """A gateway that knows the path already: the first request to a path goes the long way."""
    streams, metrics = Streams(), Metrics()
    app = GatewayApp(cast("Any", streams), Limits(), Clock(), Random(1), metrics)
    async with serving(app, Limits()) as world:
        found = cast("Served", world)
        found.streams, found.metrics = streams, metrics
        client = await world.connect()
        client.send(get())
        assert await client.status() == 200
        streams.asked.clear()
        yield found


def get(query: str = "?offset=-1", more: str = "") -> bytes:
    return f"{PATH}{query} HTTP/1.1\r\nhost: a\r\n{more}\r\n".encode()


async def answer(client: Client, request: bytes) -> tuple[int, dict[str, str], bytes]:
    client.send(request)
    status, headers, body = await client.response()
    headers.pop("date")
    return status, headers, body


QUERIES = ["?offset=-1", "?offset=now", "", f"?offset={Offset(1, 3)}", "?offset=-1&other=1", "?offset=wrong"]
ANSWERS: list[Told] = [
    page(b"one", b"two"),
    page(),
    page(b"1", b"[2]", json=True, closed=True),
    NotFound(),
    SoftDeleted(),
    BadOffset(),
    OffsetGone(Offset(1, 7)),
    Unavailable("no leader yet"),
    Overloaded("later"),
]


@run
async def test_the_answer_is_that_of_the_long_way() -> None:
    async with served() as world:
        clients = [await world.connect() for _ in range(3)]
        for told in ANSWERS:
            world.streams.told = told
            for query in QUERIES:
                for more in ("", f'if-none-match: "1-1:{Offset(1, 0)}:{Offset(1, 6)}"\r\n'):
                    request = get(query, more)
                    world.streams.knows = True
                    answers = [await answer(clients[0], request), await answer(clients[0], request)]
                    world.streams.knows = False
                    answers += [await answer(clients[1], request), await answer(clients[1], request)]
                    # A body that comes late goes the long way.
                    clients[2].send(request[:-2] + b"content-length: 1\r\n\r\n")
                    await until(lambda: bool(world.server.state.tasks))
                    answers.append(await answer(clients[2], b"x"))
                    assert answers == [answers[0]] * 5


@run
async def test_what_is_known_at_once_has_no_task_and_is_counted() -> None:
    async with served() as world:
        client = await world.connect()
        client.send(get())
        await until(lambda: bool(world.streams.asked))
        assert not world.server.state.tasks
        assert (await client.response())[2] == b"onetwo"
        assert world.metrics.http_requests["GET", 200] == 2


@run
async def test_a_head_that_comes_again_reads_again() -> None:
    async with served() as world:
        client = await world.connect()
        for bodies in ([b"one"], [b"one", b"two"], []):
            world.streams.told = page(*bodies)
            assert (await answer(client, get()))[2] == b"".join(bodies)
        assert world.streams.asked == [From.START] * 3


@run
async def test_one_that_waits_holds_up_nobody_and_answers_in_its_order() -> None:
    async with served() as world:
        world.streams.knows, world.streams.held = False, asyncio.Event()
        waits, other = await world.connect(), await world.connect()
        waits.send(get())
        await until(lambda: bool(world.streams.asked))
        waits.send(get("?offset=now"))
        world.streams.knows = True
        assert (await answer(other, get()))[0] == 200
        world.streams.held.set()
        assert [(await waits.response())[1].get("etag") is None for _ in range(2)] == [False, True]


@run
async def test_who_left_is_not_answered() -> None:
    async with served() as world:
        world.streams.knows, world.streams.held = False, asyncio.Event()
        client = await world.connect()
        client.send(get())
        await until(lambda: bool(world.streams.asked))
        before = len(world.connections)
        client.writer.transport.abort()
        await until(lambda: len(world.connections) < before)
        world.streams.held.set()
        assert (await answer(await world.connect(), get("?offset=now")))[0] == 200


@pytest.mark.parametrize("knows", [True, False])
def test_a_mistake_is_answered_500_and_logged(knows: bool, caplog: pytest.LogCaptureFixture) -> None:
    @run
    async def main() -> None:
        async with served() as world:
            world.streams.knows, world.streams.told = knows, RuntimeError("ours")
            client = await world.connect()
            client.send(get())
            assert await client.status() == 500

    with caplog.at_level(logging.ERROR):
        main()
    assert "a read failed" in caplog.text
