"""Bytes on the way in and out: bodies in chunks, lines cut in two, large responses, and what must not be said."""

import logging
from dataclasses import replace

import pytest

from durable_streams_cluster.limits import Limits
from tests.gateway.serving import run, serving, until
from tests.peers.asking import ask, data, get, head, offset, post, put, said, sse, target
from tests.runtime.world import settle, simulate, started


def framed(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@run
async def test_the_chunks_of_a_body_are_its_content() -> None:
    """A plugin took a PUT with a chunked body for an empty one, and answered 201."""
    world = await started()
    async with serving(world.app, Limits()) as server:
        client = await server.connect()
        for method, path, status in (b"PUT", b"s", 201), (b"POST", b"s", 204):
            client.send(b"%s /v1/stream/%s HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\n" % (method, path))
            client.send(b"transfer-encoding: chunked\r\n\r\n" + framed(b"one\r", b"\ntwo", b" "))
            assert await client.status() == status
        assert said(await get(world, "s")) == (200, b"one\r\ntwo " * 2, False)


@run
async def test_a_body_that_ends_before_its_time_leaves_nothing() -> None:
    """A plugin kept the bytes of a write that failed half-way: every later offset was wrong."""
    world = await started()
    tail = offset(await put(world, "s", "one"))
    async with serving(world.app, Limits()) as server:
        head_ = b"POST /v1/stream/s HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\n"
        for begun in (
            head_ + b"content-length: 10\r\n\r\nhalf",
            head_ + b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            head_ + b"transfer-encoding: chunked\r\n\r\n8\r\nhalf",
            head_ + b"stream-closed: true\r\ncontent-length: 10\r\n\r\nhalf",
        ):
            client = await server.accepted()
            client.send(begun)
            await until(lambda: world.app._buffered > 0 or not server.server.connections)
            client.writer.close()
            await until(lambda: not server.server.connections)
        await until(lambda: world.app._buffered == 0)
    assert offset(await head(world, "s")) == tail
    assert offset(await post(world, "s", "two")) == tail[:-1] + "6"
    assert said(await get(world, "s")) == (200, b"onetwo", False)


@pytest.mark.parametrize("body", ['[1,2,{"a":}]', "[1,2", '{"a":1}{"b":2}', "[1,2]x", '["\\ud83d"'])
def test_a_batch_with_a_bad_message_leaves_none_of_it(body: str) -> None:
    """A plugin stored the messages before the one that it refused."""

    async def main() -> None:
        world = await started()
        json = "content-type: application/json"
        tail = offset(await ask(world, f"PUT {target('j')}\n{json}\n\n[0]"))
        assert (await ask(world, f"POST {target('j')}\n{json}\nstream-closed: true\n\n{body}")).status == 400
        answer = await get(world, "j")
        assert (offset(answer), said(answer)) == (tail, (200, b"[0]", False))

    simulate(main)


# ---------------------------------------------------------------------------------------------------------- line ends

LINES = ["a\r\nb", "a\rb", "a\n\rb\r\n", "\r\n\r\n", "\r\r\n\n", " \r\n a\r\n", "\n\n", "a\r\n"]


def shown(text: str) -> str:
    """What a reader of server-sent events gets of ``text``: every line end is a line feed (WHATWG HTML 9.2.5)."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("page", [1, 1000], ids=["a page an append", "one page"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("text", LINES, ids=repr)
def test_a_line_end_split_over_two_appends_is_one_line_end(text: str, when: str, page: int) -> None:
    """A server with a sharded log encoded each chunk alone: CR in one and LF in the next became an empty line."""

    async def main() -> None:
        world = await started(limits=replace(Limits(), max_read_bytes=page))
        offsets = [offset(await put(world, "s", ""))]
        streams = [await sse(world, "s")] if when == "after" else []
        for character in text:
            answer = await ask(world, f"POST {target('s')}\ncontent-type: text/plain\n\n{escaped(character)}")
            offsets.append(offset(answer))
            await settle()
        if when == "before":
            streams = [await sse(world, "s", at) for at in offsets]
        for number, stream in enumerate(streams):
            assert data(stream) == shown(text)[len(shown(text[:number])) :], f"from {number} on"
            stream.leave()
            await stream.finish()

    simulate(main)


def test_a_line_end_at_a_fork_point_is_one_line_end() -> None:
    """The same where the two halves are of two streams, and where the first was cut out of an append."""

    async def main() -> None:
        world = await started(limits=replace(Limits(), max_read_bytes=1))
        await put(world, "s", "a\\r\\n")
        fork = ("stream-forked-from: /v1/stream/s", "stream-fork-offset: -1", "stream-fork-sub-offset: 2")
        branch = offset(await put(world, "f", "", *fork))
        await ask(world, f"POST {target('f')}\ncontent-type: text/plain\n\n\\nb")
        for at, text in (("-1", "a\nb"), (branch, "b")):
            stream = await sse(world, "f", at)
            assert data(stream) == text
            stream.leave()
            await stream.finish()

    simulate(main)


def escaped(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


# ------------------------------------------------------------------------------------------------- large, and private


def test_a_response_is_bounded_whatever_is_stored() -> None:
    """A server with a sharded log sent all that was left in one response: four readers took 3 GiB of memory."""

    async def main() -> None:
        limits = Limits()
        world = await started(limits=limits)
        await put(world, "s", "")
        for number in range(100):
            await post(world, "s", f"{number:08d}" * 8000)
        at, bodies = "-1", list[bytes]()
        while at != offset(await head(world, "s")):
            answer = await get(world, "s", f"offset={at}")
            bodies.append(answer.body)
            at = offset(answer)
        assert max(map(len, bodies)) <= limits.max_read_bytes
        assert b"".join(bodies) == b"".join(b"%08d" % number * 8000 for number in range(100))

    simulate(main)


def test_what_a_query_holds_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A server with telemetry recorded whole query strings: whatever token a client puts there was in the logs."""
    caplog.set_level(logging.DEBUG)

    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("no luck")

    @run
    async def main() -> None:
        world = await started()
        for app, statuses in (world.app, {404, 400}), (broken, {500}):
            async with serving(app, Limits()) as server:
                for query in (b"offset=-1&token=hidden", b"offset=hidden"):
                    client = await server.connect()
                    client.send(b"GET /v1/stream/s?%s HTTP/1.1\r\nhost: h\r\nauthorization: hidden\r\n\r\n" % query)
                    assert await client.status() in statuses

    main()
    assert "a request failed" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize("path", ["/v1/streams/s", "/stream/s", "/v1/streamx", "/s", "/_test/inject", "/v1/proxy"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
def test_a_path_that_is_nobodys_is_not_found(method: str, path: str) -> None:
    """Behind a plugin, a route that did not match was 200 and empty; a reference server served a test-only path."""

    async def main() -> None:
        world = await started()
        assert (await ask(world, f"{method} {path}\ncontent-type: text/plain\n\n")).status == 404

    simulate(main)
