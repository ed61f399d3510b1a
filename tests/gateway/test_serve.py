"""The HTTP server over real sockets: what it answers, to good requests and to nonsense; start and drain."""

import asyncio
import json
import socket
from typing import Any

import pytest

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.gateway.headers import COMMON
from durable_streams_cluster.gateway.serve import HttpServer
from tests.gateway.serving import GET, SMALL, Gate, echo, read_all, run, serving, until

# --- Requests as they should be.


@run
async def test_answers_one_request_after_the_other_on_one_connection() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        for body in (b"one", b"", b"three"):
            client.send(b"POST /a%%20b?q HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            status, headers, answer = await client.response()
            assert (status, headers["x-path"], answer) == (200, "/a b", body)
            assert headers["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
            assert "server" not in headers
            assert "connection" not in headers
        assert world.server.requests == 3


@run
async def test_takes_chunked_and_large_bodies() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in (b"3\r\nabc\r\n", b"4\r\nde", b"fg\r\n", b"0\r\n\r\n"):
            client.send(part)
            await client.writer.drain()
        assert (await client.response())[2] == b"abcdefg"
        large = bytes(range(256)) * 8192
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(large), large))
        assert (await client.response())[2] == large


@run
async def test_asks_for_the_body_that_a_client_holds_back() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hi")
        assert (await client.response())[2] == b"hi"


@run
async def test_answers_pipelined_requests_in_order() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(20)))
        assert [(await client.response())[1]["x-path"] for _ in range(20)] == [f"/{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("target", "path"), [(b"http://host:1/p?q", "/p"), (b"http://host", "/"), (b"//a", "//a"), (b"/a#b", "/a")]
)
def test_reads_every_form_of_target(target: bytes, path: str) -> None:
    @run
    async def test() -> None:
        async with serving(echo) as world:
            client = await world.connect()
            client.send(b"GET %s HTTP/1.1\r\nhost: a\r\n\r\n" % target)
            assert (await client.response())[1]["x-path"] == path

    test()


@pytest.mark.parametrize("split", [False, True])
def test_an_offer_to_upgrade_loses_no_body(split: bool) -> None:
    """Java's client offers h2c on its first request, also when that is a POST."""

    @run
    async def test() -> None:
        async with serving(echo) as world:
            client = await world.connect()
            head = (
                b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\n"
                b"upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\ncontent-length: 5\r\n\r\n"
            )
            client.send(head)
            if split:
                await client.writer.drain()
                await until(lambda: bool(world.server.state.tasks))
            client.send(b"hello" + GET)
            assert (await client.response())[2] == b"hello"
            assert await client.status() == 200

    test()


@run
async def test_an_old_client_gets_no_chunks() -> None:
    gate = Gate()
    gate.open.set()
    async with serving(gate) as world:
        client = await world.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = (await client.ended()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body == b"done"


@run
async def test_white_space_around_a_header_value_is_no_part_of_it() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await echo(scope, receive, send)

    async with serving(app) as world:
        client = await world.connect()
        client.send(b"GET / HTTP/1.1\r\nhost: a \r\nproducer-id:\t p \t\r\nx: a \t b\r\ny: \t \r\n\r\n")
        assert await client.status() == 200
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue \r\ncontent-length: 0 \r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await client.status() == 200
    assert seen[0] == [(b"host", b"a"), (b"producer-id", b"p"), (b"x", b"a \t b"), (b"y", b"")]


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        *((b"1.1", [host], 200) for host in (b"", b"a-b.Example.:80", b"[::1]:4437", b"[fe80::1%25eth_0]", b"~a")),
        (b"1.0", [], 200),
        (b"1.0", [b"a"], 200),
        (b"1.1", [], 400),
        *((b"1.1", hosts, 400) for hosts in ([b"a", b"a"], [b"a", b"b"], [b"", b""], [b"", b"a"])),
        (b"1.0", [b"a", b"a"], 400),
        *(
            (b"1.1", [host], 400)
            for host in (b"a b", b"a/b", b"a@b", b"a,b", b'"a"', b"<a>", b"a\\b", b"a\xff", b"a?b")
        ),
        (b"1.0", [b"a/b"], 400),
    ],
)
@pytest.mark.parametrize("more", [b"", b"upgrade: h2c\r\nconnection: upgrade\r\n"])
def test_a_request_has_one_host_that_is_one(version: bytes, hosts: list[bytes], status: int, more: bytes) -> None:
    @run
    async def test() -> None:
        async with serving(echo) as world:
            lines = b"".join(b"Host: %s\r\n" % host for host in hosts)
            for after_a_good_one in (False, True):
                client = await world.connect()
                assert not after_a_good_one or await client.get() == 200
                client.send(b"GET / HTTP/%s\r\n%s%s\r\n" % (version, lines, more))
                assert await client.status() == status

    test()


@run
async def test_a_host_in_the_trailers_is_none() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: b c\r\n\r\n")
            assert await client.status() == 200


# --- Nonsense.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nhost a\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"CONNECT example.com:80 HTTP/1.1\r\nhost: a\r\n\r\n", 501),
    ],
)
def test_refuses_what_is_no_request(sent: bytes, status: int) -> None:
    @run
    async def test() -> None:
        async with serving(echo) as world:
            client = await world.connect()
            client.send(sent)
            answer, headers, body = await client.response()
            assert answer == status
            assert headers["connection"] == "close"
            # Without these a script in a browser sees a network error.
            assert {name: headers.get(name.decode()) for name, _ in COMMON} == {n: v.decode() for n, v in COMMON}
            assert (headers["content-type"], headers["cache-control"]) == ("application/json", "no-store")
            assert json.loads(body)["error"].keys() == {"code", "message"}
            assert await client.ended() == b""

    test()


@run
async def test_a_broken_body_is_never_whole() -> None:
    bodies: list[bytes | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(await read_all(receive))

    async with serving(app) as world:
        client = await world.connect()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await until(lambda: bool(world.server.state.tasks))
        client.send(b"nonsense\r\n")
        assert await client.status() == 400
        await until(lambda: bool(bodies))
        other = await world.accepted()
        other.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        await until(lambda: bool(world.server.state.tasks))
        other.writer.close()
        await until(lambda: len(bodies) == 2)
        assert bodies == [None, None]


@run
async def test_a_request_that_breaks_in_one_read_is_not_begun() -> None:
    begun: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["path"])
        await echo(scope, receive, send)

    async with serving(app) as world:
        client = await world.connect()
        client.send(b"POST /broken HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n")
        assert await client.status() == 400
        other = await world.connect()
        assert await other.get() == 200
    assert begun == ["/v1/stream/x"]


@run
async def test_nonsense_behind_a_request_leaves_its_answer_alone() -> None:
    gate = Gate()
    async with serving(gate) as world:
        client = await world.connect()
        client.send(GET + b"nonsense\r\n\r\n")
        await until(lambda: world.server.refused["400"] == 1)
        gate.open.set()
        status, headers, body = await client.response()
        assert (status, headers["connection"], body) == (200, "close", b"done")
        assert await client.ended() == b""


# --- Applications that fail.


@pytest.mark.parametrize(
    ("headers", "body", "answer"),
    [
        ([(b"x", b"a\r\nset-cookie: b")], b"", b"HTTP/1.1 500"),
        ([(b"x", b"a\x00")], b"", b"HTTP/1.1 500"),
        ([(b"transfer-encoding", b"chunked")], b"", b"HTTP/1.1 500"),
        ([(b"content-length", b"5")], b"longer than that", b"HTTP/1.1 500"),
        ([(b"content-length", b"5")], b"less", b"HTTP/1.1 500"),
    ],
)
def test_a_wrong_answer_is_a_500(
    headers: list[tuple[bytes, bytes]], body: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @run
    async def test() -> None:
        async with serving(app) as world:
            client = await world.connect()
            client.send(GET)
            assert (await client.ended()).startswith(answer)

    test()
    assert "a request failed" in caplog.text


@run
async def test_a_failure_in_mid_body_ends_the_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})

    async with serving(app) as world:
        client = await world.connect()
        client.send(GET)
        assert (await client.ended()).endswith(b"5\r\nbegin\r\n")


# --- Start and drain.


@run
async def test_says_so_when_it_cannot_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"http: cannot listen on 127.0.0.1:{port}: the address is in use"):
            await HttpServer(echo, "127.0.0.1", port, SMALL).start()
    with pytest.raises(ConfigError, match=r"ops: cannot listen on 203.0.113.1:0: "):
        await HttpServer(echo, "203.0.113.1", 0, SMALL, name="ops").start()


@run
async def test_listens_on_every_address_of_a_name_with_one_port() -> None:
    server = HttpServer(echo, "localhost", 0, SMALL)
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.close()
    await writer.wait_closed()
    await server.stop()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@run
async def test_the_wildcard_of_ipv6_takes_both() -> None:
    server = HttpServer(echo, "::", 0, SMALL)
    await server.start()
    for host in ("127.0.0.1", "::1"):
        _, writer = await asyncio.open_connection(host, server.port)
        writer.close()
        await writer.wait_closed()
    await server.stop()


@run
async def test_the_port_is_free_again_after_a_stop() -> None:
    first = HttpServer(echo, "127.0.0.1", 0, SMALL)
    await first.start()
    await first.stop()
    await first.stop()
    second = HttpServer(echo, "127.0.0.1", first.port, SMALL)
    await second.start()
    await second.stop()


@run
async def test_drain_closes_idle_connections_and_finishes_the_rest() -> None:
    gate = Gate()
    async with serving(gate) as world:
        idle = await world.accepted()
        busy = await world.connect()
        busy.send(GET)
        await until(lambda: gate.arrived == 1)
        begun = await world.connect()
        begun.send(GET[:10])
        await until(lambda: any(one.unparsed for one in world.connections))
        draining = asyncio.ensure_future(world.server.drain(10))
        assert await idle.ended() == b""
        with pytest.raises(ConnectionRefusedError):
            await world.connect()
        assert not draining.done()
        gate.open.set()
        begun.send(GET[10:])
        for client in (busy, begun):
            status, headers, body = await client.response()
            assert (status, headers["connection"], body) == (200, "close", b"done")
            assert await client.ended() == b""
        assert await draining
        assert world.server.connections == 0


@run
async def test_drain_answers_requests_that_were_under_way_to_an_idle_connection() -> None:
    """It had been told nothing: a connection closed in its face is an append of unknown outcome."""
    async with serving(echo) as world:
        idle = await world.accepted()
        draining = asyncio.ensure_future(world.server.drain(10))
        await until(lambda: world.server.state.draining)
        for _ in range(50):
            await asyncio.sleep(0)
        idle.send(GET)
        status, headers, _ = await idle.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await idle.ended() == b""
        assert await draining


@run
async def test_drain_serves_connections_that_the_kernel_had_made_already() -> None:
    """A listener that is closed resets what waits in its backlog, with the requests that came along."""
    async with serving(echo) as world:
        sockets = [socket.create_connection(("127.0.0.1", world.server.port)) for _ in range(3)]
        for each in sockets:
            each.sendall(GET)  # the loop had no turn: nothing is accepted yet
        assert await world.server.drain(10)
        for each in sockets:
            with each:
                assert each.recv(100).startswith(b"HTTP/1.1 200 ")


@run
async def test_drain_cuts_off_what_does_not_end() -> None:
    gate = Gate()
    async with serving(gate) as world:
        client = await world.connect()
        client.send(GET)
        await until(lambda: gate.arrived == 1)
        assert not await world.server.drain(0)
        assert await client.ended() == b""
        assert world.server.refused == {"drain": 1}
