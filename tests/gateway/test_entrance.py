"""The application that others mount: before its node, with it and after it; and requests that are cut off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from durable_streams_cluster.gateway.entrance import Entrance
from durable_streams_cluster.limits import Limits
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.runtime.world import World, content, settle, simulate, started

PUT = "PUT /v1/stream/s\ncontent-type: text/plain\n\nx"
POST = "POST /v1/stream/s\ncontent-type: text/plain\n"
PRODUCER = "producer-id: p\nproducer-epoch: 0\nproducer-seq: 7\n"
LIMITS = replace(Limits(), write_timeout_s=5)


class Inside:
    """A node behind an entrance."""

    def __init__(self, world: World, entrance: Entrance) -> None:
        self.world, self.entrance = world, entrance

    def begin(self, request: str) -> Exchange:
        exchange = asgi.parse(request)
        exchange.begin(self.entrance)
        return exchange

    async def ask(self, request: str) -> Exchange:
        exchange = self.begin(request)
        await exchange.finish()
        return exchange


@asynccontextmanager
async def inside() -> AsyncIterator[Inside]:
    world = await started(limits=LIMITS)
    it = Inside(world, Entrance(LIMITS))
    it.entrance.attach(world.app)
    await it.entrance.start()
    try:
        yield it
    finally:
        await it.entrance.stop()


def code(exchange: Exchange) -> tuple[int | None, str]:
    return exchange.status, json.loads(exchange.body)["error"]["code"]


def test_before_the_start_and_after_the_end_it_answers_at_once() -> None:
    async def main() -> None:
        world = await started()
        it = Inside(world, Entrance(LIMITS))

        async def refused() -> None:
            answered = await it.ask(PUT)
            assert (answered.status, answered.header(b"retry-after")) == (503, b"1")
            assert b"is not running" in answered.body
            head = await it.ask("HEAD /v1/stream/s\n\n")
            assert (head.status, head.body) == (503, b"")

        await refused()
        for _ in range(2):
            it.entrance.attach(world.app)
            await refused()
            await it.entrance.start()
            assert (await it.ask(PUT)).status in (200, 201)
            await it.entrance.stop()
            await refused()

    simulate(main)


def test_another_event_loop_is_refused_and_nothing_is_touched() -> None:
    entrance = Entrance(LIMITS)

    async def start() -> None:
        entrance.attach((await started()).app)
        await entrance.start()

    async def ask() -> None:
        exchange = asgi.parse(PUT)
        exchange.begin(entrance)
        await exchange.finish()
        assert exchange.status == 503
        assert b"another event loop" in exchange.body

    simulate(start)
    simulate(ask)


def test_what_else_a_server_asks_for() -> None:
    async def main() -> None:
        entrance, sent = Entrance(LIMITS), []

        async def send(message: Any) -> None:
            sent.append(message["type"])

        async def receive() -> Any:
            return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

        await entrance({"type": "lifespan"}, receive, send)
        await entrance({"type": "websocket"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]

    simulate(main)


# --- Which stream a request names, whatever the scope has.


@pytest.mark.parametrize(
    "scope",
    [
        {"raw_path": b"/v1/stream/a%2Fb%20%C3%A9%25", "path": "/v1/stream/a/b \u00e9%"},
        {"raw_path": None, "path": "/v1/stream/a/b \u00e9%"},
        {"path": "/v1/stream/a/b \u00e9%"},
        # Whoever mounts cuts the path (Starlette before 0.33, and others), and leaves what the client sent as it is.
        {"raw_path": b"/app/v1/stream/a%2Fb%20%C3%A9%25", "path": "/v1/stream/a/b \u00e9%", "root_path": "/app"},
        {"raw_path": b"/app/v1/stream/a%2Fb%20%C3%A9%25", "path": "/app/v1/stream/a/b \u00e9%", "root_path": "/app"},
        {"path": "/app/v1/stream/a/b \u00e9%", "root_path": "/app"},
        {"path": "/v1/stream/a/b \u00e9%", "root_path": "/app"},
        {"path": "/sub/v1/stream/a/b \u00e9%", "root_path": "/app/sub"},
        # Somebody sends it elsewhere, and does not say so in raw_path.
        {"raw_path": b"/old/place", "path": "/v1/stream/a/b \u00e9%"},
        {"raw_path": b"/v1/stream/a%2Fb%20%C3%A9%25?offset=-1", "path": "/v1/stream/a/b \u00e9%"},
    ],
)
def test_the_stream_is_the_same_however_the_path_comes(scope: dict[str, Any]) -> None:
    async def main() -> None:
        async with inside() as it:
            exchange = asgi.parse(PUT)
            made = exchange.scope()
            del made["raw_path"]
            exchange.scope = lambda _="": made | scope  # type: ignore[method-assign, misc]
            exchange.begin(it.entrance)
            await exchange.finish()
            assert exchange.status == 201, exchange.body
            assert await content(it.world, "a/b \u00e9%") == b"x"
            location = exchange.header(b"location")
            assert location is not None
            root = scope.get("root_path", "").encode()
            assert location.startswith(b"http://h%s/v1/stream/a" % root)
            assert location.endswith(b"b%20%C3%A9%25")

    simulate(main)


def test_a_path_that_is_no_text_is_refused() -> None:
    async def main() -> None:
        async with inside() as it:
            exchange = asgi.parse("GET /\n\n")
            made = exchange.scope() | {"path": "/v1/stream/\udcff", "raw_path": None}
            exchange.scope = lambda _="": made  # type: ignore[method-assign, misc]
            exchange.begin(it.entrance)
            await exchange.finish()
            assert exchange.status == 400
            assert b"is not UTF-8" in exchange.body

    simulate(main)


# --- The end.


def test_who_is_inside_is_waited_for_and_nobody_comes_in_meanwhile() -> None:
    async def main() -> None:
        async with inside() as it:
            await it.ask(PUT)
            late = Exchange("POST", b"/v1/stream/s", [(b"content-type", b"text/plain")], [])
            late.begin(it.entrance)
            await settle()
            draining = asyncio.ensure_future(it.entrance.drain(60))
            await settle()
            assert (await it.ask(PUT)).status == 503
            assert not draining.done()
            late.come(b"late")
            assert await draining
            assert late.status == 204

    simulate(main)


def test_what_does_not_come_to_its_end_is_told_what_is_known() -> None:
    async def main() -> None:
        async with inside() as it:
            await it.ask(PUT)
            it.world.disk.hold = True
            writes = [it.begin(POST + "\ny"), it.begin(POST + PRODUCER + "\ny"), it.begin("DELETE /v1/stream/s\n\n")]
            poll = it.begin("GET /v1/stream/s?offset=now&live=long-poll\n\n")
            tail = it.begin("GET /v1/stream/s?offset=-1&live=sse\n\n")
            await settle()
            assert tail.status == 200
            assert not await it.entrance.drain(3)
            for each in (*writes, poll, tail):
                assert each.done
                await each.finish()
            assert list(map(code, writes)) == [
                (409, "outcome_unknown"),
                (504, "outcome_unknown"),
                (504, "outcome_unknown"),
            ]
            assert writes[1].header(b"producer-expected-seq") == b"7"
            assert code(poll) == (503, "unavailable")
            assert not tail.ended, "its connection is to be closed, and its client to come back"
            it.world.disk.release()

    simulate(main)


def test_a_server_that_cancels_a_request_ends_it() -> None:
    async def main() -> None:
        async with inside() as it:
            await it.ask(PUT)
            tail = it.begin("GET /v1/stream/s?offset=-1&live=sse\n\n")
            await settle()
            assert it.world.metrics.live_readers["sse"] == 1
            tail.cut()
            with pytest.raises(asyncio.CancelledError):
                await tail.finish()
            assert it.world.metrics.live_readers["sse"] == 0
            assert not it.entrance._inside

    simulate(main)


def test_a_reader_that_takes_nothing_is_counted_and_then_let_go() -> None:
    async def main() -> None:
        async with inside() as it:
            await it.ask(PUT)
            exchange = asgi.parse("GET /v1/stream/s?offset=-1\n\n")
            taken = []

            async def send(message: dict[str, Any]) -> None:
                taken.append(message["type"])
                if message["type"] == "http.response.body":
                    await asyncio.Event().wait()

            began_ms = it.world.clock.steady_ms()
            reading = asyncio.ensure_future(it.entrance(exchange.scope(), exchange._receive, send))
            await settle()
            assert it.entrance.unsent_bytes == 1
            await reading
            assert it.world.clock.steady_ms() - began_ms == 5_000
            assert it.entrance.unsent_bytes == 0
            assert taken == ["http.response.start", "http.response.body"]

    simulate(main)
