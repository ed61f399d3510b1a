"""Readers that wait: nothing falls between their read and their wait, and what ends a stream ends them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime.jobs import Jobs
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.gateway.serving import run, serving, until
from tests.peers.asking import (
    ask,
    begin,
    close,
    control,
    data,
    delete,
    events,
    get,
    long_poll,
    offset,
    post,
    put,
    said,
    sse,
    target,
)
from tests.runtime.world import World, settle, simulate, started

Act = Callable[[], Awaitable[Any]]


class Between:
    """The node's streams, with something that happens once, just before or just after a read of them."""

    def __init__(self, world: World, act: Act | None = None, *, before: bool = False) -> None:
        self._streams: Any = world.streams
        self._act, self._before = act, before
        self.reads = 0
        world.app.live._streams = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams, name)

    async def read(self, path: str, at: Any, max_bytes: int | None = None, *, fresh: bool = True) -> Any:
        self.reads += 1
        act, self._act = self._act, None
        if act is not None and self._before:
            await act()
        found = await self._streams.read(path, at, max_bytes, fresh=fresh)
        if act is not None and not self._before:
            await act()
        return found


async def recreated(world: World) -> None:
    await delete(world, "s")
    await put(world, "s", "other")


@pytest.mark.parametrize("live", ["long-poll", "sse"])
@pytest.mark.parametrize("before", [False, True], ids=["after the read", "before the read"])
@pytest.mark.parametrize("what", ["append", "append and close", "close", "delete", "recreate"])
def test_no_wake_is_lost_between_read_and_wait(what: str, before: bool, live: str) -> None:
    """A plugin registered the waiter after it had read: an append between the two was found 30 s later."""

    async def main() -> None:
        world = await started()
        tail = offset(await put(world, "s", "one"))
        acts: dict[str, Act] = {
            "append": lambda: post(world, "s", "two"),
            "append and close": lambda: post(world, "s", "two", "stream-closed: true"),
            "close": lambda: close(world, "s"),
            "delete": lambda: delete(world, "s"),
            "recreate": lambda: recreated(world),
        }
        Between(world, acts[what], before=before)
        now = world.clock.steady_ms()
        exchange = await begin(world, f"GET {target('s')}?offset={tail}&live={live}")
        assert world.clock.steady_ms() == now, "no time passed"
        if live == "long-poll":
            assert (
                said(exchange)
                == {
                    "append": (200, b"two", False),
                    "append and close": (200, b"two", True),
                    "close": (204, b"", True),
                    "delete": (404, exchange.body, False),
                    "recreate": (410, exchange.body, False),
                }[what]
            )
            return
        if before and what in ("delete", "recreate"):
            assert exchange.status == (404 if what == "delete" else 410)
            return
        assert data(exchange) == ("two" if "append" in what else "")
        assert exchange.done is (what != "append")
        assert control(exchange).get("streamClosed", False) is ("close" in what)
        exchange.leave()
        await exchange.finish()

    simulate(main)


@pytest.mark.parametrize("live", ["long-poll", "sse"])
@pytest.mark.parametrize("before", [False, True], ids=["after the read", "before the read"])
@pytest.mark.parametrize("what", ["drain", "leave"])
def test_no_end_is_lost_between_read_and_wait(what: str, before: bool, live: str) -> None:
    """The same for what is no change of the stream: the node drains, or the client goes away."""

    async def main() -> None:
        world = await started()
        tail = offset(await put(world, "s", "one"))
        exchange = asgi.parse(f"GET {target('s')}?offset={tail}&live={live}")

        async def act() -> None:
            world.app.drain() if what == "drain" else exchange.leave()
            await settle()

        Between(world, act, before=before)
        now = world.clock.steady_ms()
        exchange.begin(world.app)
        await settle()
        await settle()
        assert exchange.done
        assert world.clock.steady_ms() == now
        if what == "drain":
            assert exchange.status == (204 if live == "long-poll" else 200)
            assert exchange.ended
        assert world.metrics.live_readers == {"long-poll": 0, "sse": 0}
        assert not world.driver.tails._waiting

    simulate(main)


@pytest.mark.parametrize("path", ["s", "forked"], ids=["plain", "with forks"])
def test_sse_on_a_deleted_stream_ends(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server with one file per stream kept it open for ever, and then sent a second head on it."""

    async def main() -> None:
        world = await started()
        await put(world, path, "one")
        if path == "forked":
            await put(world, "f", "", f"stream-forked-from: {target(path)}")
        streams = [await sse(world, path), await sse(world, path, "now")]
        await delete(world, path)
        await settle()
        assert [stream.ended for stream in streams] == [True, True]
        assert data(streams[0]) == "one"
        assert (await get(world, path, "offset=-1&live=sse")).status == (410 if path == "forked" else 404)
        assert world.metrics.live_readers["sse"] == 0

    simulate(main)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_long_poll_on_a_deleted_stream_is_answered() -> None:
    """A plugin dereferenced nothing when the stream went away under a reader, and the request was lost."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        polls = [await long_poll(world, "s") for _ in range(3)]
        await delete(world, "s")
        await settle()
        assert [poll.status for poll in polls] == [404, 404, 404]

    simulate(main)


@pytest.mark.parametrize("lifetime", ["stream-ttl: 10", "stream-expires-at: 2025-06-15T15:06:50Z"], ids=["ttl", "date"])
def test_the_end_of_a_streams_time_reaches_who_waits(lifetime: str) -> None:
    """Where expiry is only seen by the next request, whoever waits learns of it at the time-out."""

    async def main() -> None:
        world = await started(limits=replace(Limits(), long_poll_timeout_s=3000, sse_lifetime_s=3000))
        await put(world, "s", "one", lifetime)
        poll, stream = await long_poll(world, "s"), await sse(world, "s")
        jobs = Jobs(world.driver, world.streams, world.clock, world.metrics)
        await asyncio.sleep(9.5)
        await jobs.expire()
        assert not poll.done
        await asyncio.sleep(20)
        await jobs.expire()
        await settle()
        kept = "ttl" in lifetime
        assert (poll.done, stream.done) == (not kept, not kept), "readers that are open renew a window, and no date"
        for exchange in (poll, stream):
            exchange.leave()
            await exchange.finish()
        await asyncio.sleep(11)
        await jobs.expire()
        assert (await get(world, "s")).status == 404

    simulate(main)


def test_idle_readers_poll_nothing() -> None:
    """A plugin looked ten times a second for every SSE connection; a thousand idle ones took a processor."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        between = Between(world)
        readers = [await sse(world, "s"), await long_poll(world, "s")]
        before, turns = between.reads, world.metrics.turns
        await asyncio.sleep(14)
        assert (between.reads, world.metrics.turns) == (before, turns)
        for reader in readers:
            reader.leave()
            await reader.finish()

    simulate(main)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_each_page_of_an_sse_catch_up_has_its_own_control_event(content_type: str) -> None:
    """A server with one file per stream sent several arrays before one control event: joined, they are no JSON."""

    async def main() -> None:
        world = await started(limits=replace(Limits(), max_read_bytes=8))
        await ask(world, f"PUT {target('s')}\ncontent-type: {content_type}\n\n")
        offsets = []
        for number in range(10, 20):
            answer = await ask(world, f"POST {target('s')}\ncontent-type: {content_type}\n\n{number}")
            offsets.append(offset(answer))
        stream = await sse(world, "s")
        found = events(stream)
        assert [kind for kind, _ in found] == ["data", "control"] * (len(found) // 2)
        assert len(found) > 4
        assert all(piece.count(b"event: data") == piece.count(b"event: control") == 1 for piece in stream.pieces)
        ends = [fields["streamNextOffset"] for kind, fields in found if kind == "control"]
        assert ends == [end for end in offsets if end in ends]
        assert [fields.get("upToDate", False) for kind, fields in found if kind == "control"] == [
            end == offsets[-1] for end in ends
        ]
        stream.leave()
        await stream.finish()

    simulate(main)


def test_a_read_is_answered_with_the_offset_it_asked_for() -> None:
    """A server with one file per stream answered an offset past the tail with the tail: the client went back."""

    async def main() -> None:
        world = await started()
        generation = offset(await put(world, "s", "one")).partition("_")[0]
        beyond = f"{generation}_{4:016d}"
        for query in (f"offset={beyond}", f"offset={beyond}&live=long-poll"):
            answer = await get(world, "s", query)
            assert (offset(answer), answer.body) == (beyond, b"")
        stream = await sse(world, "s", beyond)
        assert control(stream)["streamNextOffset"] == beyond
        stream.leave()
        await stream.finish()

    simulate(main)


@pytest.mark.parametrize("position", [1, 2, 4, 5])
def test_an_offset_inside_an_append_is_no_place_to_read_from(position: int) -> None:
    """A plugin took what stood at an invented offset for the length of a frame."""

    async def main() -> None:
        world = await started()
        generation = offset(await put(world, "s", "\x00\x00\x7f")).partition("_")[0]
        await post(world, "s", "two")
        for live in ("", "&live=long-poll", "&live=sse"):
            answer: Exchange = await get(world, "s", f"offset={generation}_{position:016d}{live}")
            assert answer.status == 400

    simulate(main)


@run
async def test_a_drain_ends_live_reads_with_their_offset() -> None:
    """A server cut its readers off: three short SSE connections in a row, and clients never use SSE again."""
    world = await started()
    tail = offset(await put(world, "s", "one")).encode()
    async with serving(world.app, Limits()) as server:
        poll, stream = await server.connect(), await server.connect()
        for client, live in (poll, b"long-poll"), (stream, b"sse"):
            client.send(b"GET /v1/stream/s?offset=%s&live=%s HTTP/1.1\r\nhost: h\r\n\r\n" % (tail, live))
        await until(lambda: sum(world.metrics.live_readers.values()) == 2)
        world.app.drain()
        assert await server.server.drain(5), "nobody had to be cut off"
        status, headers, _ = await poll.response()
        assert (status, headers["stream-next-offset"], headers["connection"]) == (204, tail.decode(), "close")
        status, _, body = await stream.response()
        assert (status, body.count(tail)) == (200, 2), "where it began, and where it ends"
