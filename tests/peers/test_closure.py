"""The end of a stream: state like any other, stored with the bytes it follows, told to everybody who asks."""

import asyncio

import pytest

from durable_streams_cluster.streams.commands import Append, Producer
from tests.gateway.asgi import Exchange
from tests.peers.asking import close, control, data, get, head, long_poll, offset, post, put, said, sse
from tests.replica.node import Node, append, create
from tests.runtime.world import settle, simulate, started

CLOSED = "stream-closed: true"


@pytest.mark.parametrize("at", ["now", "-1", "tail"])
def test_an_append_that_closes_reaches_a_waiting_long_poll(at: str) -> None:
    """A server with one file per stream woke readers with "closed" at the old offset: the last message was lost."""

    async def main() -> None:
        world = await started()
        created = await put(world, "s", "" if at == "-1" else "one")
        poll = await long_poll(world, "s", offset(created) if at == "tail" else at)
        end = offset(await post(world, "s", "last", CLOSED))
        await settle()
        assert said(poll) == (200, b"last", True)
        assert offset(poll) == end

    simulate(main)


def test_an_append_that_closes_reaches_an_open_sse_read() -> None:
    """The same, live: data and closure come in one event, and the connection ends."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one ")
        stream = await sse(world, "s")
        end = offset(await post(world, "s", "last", CLOSED))
        await settle()
        assert (stream.ended, data(stream)) == (True, "one last")
        assert control(stream) == {"streamNextOffset": end, "streamClosed": True, "upToDate": True}
        assert stream.pieces[-1].startswith(b"event: data\n"), "in one piece"

    simulate(main)


@pytest.mark.parametrize("first", ["append", "close"])
def test_an_acked_close_stays_when_it_races_an_append(first: str) -> None:
    """A server with one file per stream wrote back what it had read before: one close in ten was forgotten."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "")
        world.disk.hold = True
        requests = [post(world, "s", "a"), close(world, "s")]
        tasks = [asyncio.ensure_future(each) for each in (requests if first == "append" else reversed(requests))]
        await settle()
        world.disk.release()
        answers = [(await task).status for task in tasks]
        assert answers == ([204, 204] if first == "append" else [204, 409])
        for node in (world, await started(world.kv)):
            assert (await head(node, "s")).header(b"stream-closed") == b"true"
            assert (await post(node, "s", "late")).status == 409
            assert said(await get(node, "s")) == (200, b"a" if first == "append" else b"", True)

    simulate(main)


@pytest.mark.parametrize("value", ["true", "True", "TRUE", "tRuE"])
def test_a_close_is_asked_for_in_any_case(value: str) -> None:
    """A server with one file per stream took only lower case, and went on as if nothing had been asked."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "")
        await post(world, "s", "x", f"stream-closed: {value}")
        await put(world, "t", "x", f"stream-closed: {value}")
        for path in "st":
            assert (await head(world, path)).header(b"stream-closed") == b"true"

    simulate(main)


@pytest.mark.parametrize("at", ["-1", "tail"])
def test_an_etag_does_not_hide_the_closure(at: str) -> None:
    """A plugin's tag was the next offset alone: after the close a reader was told "not modified", for ever."""

    async def main() -> None:
        world = await started()
        tail = offset(await put(world, "s", "one"))
        query = f"offset={tail if at == 'tail' else at}"
        before = await get(world, "s", query)
        assert (await get(world, "s", query, f"if-none-match: {tag(before)}")).status == 304
        await close(world, "s")
        after = await get(world, "s", query, f"if-none-match: {tag(before)}")
        assert said(after) == (200, before.body, True)
        assert tag(after) != tag(before)

    simulate(main)


def test_two_ranges_never_share_an_etag() -> None:
    """A plugin's tag had no start: what one range was cached as answered for another that ends at the same place."""

    async def main() -> None:
        world = await started()
        middle = offset(await put(world, "s", "one"))
        await post(world, "s", "two")
        whole, rest = await get(world, "s"), await get(world, "s", f"offset={middle}")
        assert offset(whole) == offset(rest)
        assert tag(whole) != tag(rest)
        assert said(await get(world, "s", f"offset={middle}", f"if-none-match: {tag(whole)}")) == (200, b"two", False)

    simulate(main)


def test_the_end_is_told_to_who_comes_late_and_after_a_restart() -> None:
    """Where "done" is only a message on a channel, who was not listening waits for ever."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        await post(world, "s", " last", CLOSED)
        for node in (world, await started(world.kv)):
            for query in ("offset=-1", "offset=-1&live=long-poll"):
                assert said(await get(node, "s", query)) == (200, b"one last", True)
            for query in ("offset=now&live=long-poll", f"offset={offset(await head(node, 's'))}&live=long-poll"):
                assert said(await get(node, "s", query)) == (204, b"", True)
            for query in ("offset=-1&live=sse", "offset=now&live=sse"):
                answer = await get(node, "s", query)
                assert control(answer)["streamClosed"] is True
            assert (await head(node, "s")).header(b"stream-closed") == b"true"

    simulate(main)


def test_a_crash_leaves_the_last_append_and_the_closure_or_neither() -> None:
    """A server with a journal wrote the append, then the closure: a crash between left the stream open."""
    node = Node().boot()
    node.done(create("s"))
    node.done(append("s", b"one"))
    begun = len(node.batches)
    producer = Producer("p", 0, 0)
    node.done(Append("s", "text/plain", b" last", True, None, producer))
    seen = []
    for survived in range(begun, len(node.batches) + 1):
        again = Node(node.batches[:survived]).boot()
        view = again.replica.group.store.committed
        ref = view.find("s")
        assert ref is not None
        meta, state = view.meta(ref), view.producer(ref, "p")
        assert meta is not None
        seen.append((again.content("s"), meta.closed, meta.closer is not None, state is not None))
    assert list(dict.fromkeys(seen)) == [(b"one", False, False, False), (b"one last", True, True, True)]


def tag(exchange: Exchange) -> str:
    value = exchange.header(b"etag")
    assert value is not None
    return value.decode()
