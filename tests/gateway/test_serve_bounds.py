"""The HTTP server's bounds over real sockets: sizes, times, slow readers, how many."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from durable_streams_cluster.gateway import connection
from tests.gateway.serving import GET, SMALL, Gate, World, echo, read_all, run, serving, until

# --- Sizes.


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("size", "status"), [(512, 200), (513, 431), (100_000, 431)])
def test_bounds_the_head(size: int, status: int, at_once: bool) -> None:
    @run
    async def test() -> None:
        async with serving(echo) as world:
            client = await world.connect()
            head = b"GET / HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n"
            head %= b"y" * (size - len(head % b""))
            if at_once:
                client.send(head)
            else:
                for start in range(0, size, 100):
                    client.send(head[start : start + 100])
                    await asyncio.sleep(0)
            assert await client.status() == status
            assert status == 200 or await client.ended() == b""
            assert world.server.refused == ({} if status == 200 else {"431": 1})

    test()


@run
async def test_bounds_the_number_of_headers() -> None:
    async with serving(echo, replace(SMALL, max_header_bytes=8192)) as world:
        for count, status in ((connection.MAX_HEADERS, 200), (connection.MAX_HEADERS + 1, 431)):
            client = await world.connect()
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * (count - 1) + b"\r\n")
            assert await client.status() == status


@run
async def test_bounds_the_target() -> None:
    async with serving(echo) as world:
        for size, status in ((128, 200), (129, 414)):
            client = await world.connect()
            client.send(b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"x" * (size - 1)))
            assert await client.status() == status


@run
async def test_many_small_requests_in_one_read_are_no_large_head() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        for _ in range(3):
            client.send(GET * 30)
            for _ in range(30):
                assert await client.status() == 200


@run
async def test_bounds_the_requests_that_wait_and_answers_those_that_fit() -> None:
    gate = Gate()
    async with serving(gate) as world:
        client = await world.connect()
        client.send(GET * 1000)
        await until(lambda: world.server.refused["431"] == 1)
        gate.open.set()
        whole = await client.ended()
        assert whole.count(b"HTTP/1.1 200") == connection.MAX_PIPELINED + 1
        assert whole.count(b"HTTP/1.1") == connection.MAX_PIPELINED + 1


@run
async def test_trailers_are_no_headers_and_have_an_end() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if await read_all(receive) is not None:
            seen.append(scope["headers"])

    async with serving(app) as world:
        client = await world.connect()
        start = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
        client.send(start + b"producer-id: evil\r\n\r\n")
        await until(lambda: bool(seen))
        assert [name for name, _ in seen[0]] == [b"host", b"transfer-encoding"]
        other = await world.connect()
        other.send(start)
        for _ in range(10):
            other.send(b"x: " + b"y" * 100 + b"\r\n")
            await asyncio.sleep(0)
        assert await other.status() == 431
        assert len(seen) == 1


# --- Time.


@run
async def test_closes_a_connection_that_asks_nothing() -> None:
    async with serving(echo) as world:
        client = await world.accepted()
        world.pass_time(9)
        assert world.server.connections == 1
        world.pass_time(1)
        assert await client.ended() == b""


@run
async def test_half_a_head_gets_408_however_it_trickles() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        for second in range(11):
            client.send(b"GET / HTTP/1.1\r\n" if second == 0 else b"x: y\r\n")
            await until(lambda pieces=second + 1: received(world) == pieces)  # type: ignore[misc]
            world.pass_time(1)
        assert await client.status() == 408
        assert await client.ended() == b""


def received(world: World) -> int:
    """How many of the pieces that the test above sends were read by the server; all, when it has refused more."""
    return max(((one.unparsed - 10) // 6 for one in world.connections), default=11)


@run
async def test_closes_an_idle_connection_late_and_a_busy_one_not() -> None:
    gate = Gate()
    async with serving(gate) as world:
        busy = await world.connect()
        busy.send(GET)
        await until(lambda: gate.arrived == 1)
        world.pass_time(1000)
        gate.open.set()
        assert await busy.status() == 200
        world.pass_time(74)
        assert await busy.get() == 200
        world.pass_time(75)
        assert await busy.ended() == b""
        assert world.server.refused == {"idle": 1}


@run
async def test_an_early_answer_reaches_a_client_that_still_sends() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with serving(app, replace(SMALL, max_append_bytes=500_000)) as world:
        client = await world.connect()
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n" + bytes(900_000))
        assert await client.status() == 413
        await client.writer.drain()
        assert await client.get() == 413
        # What never ends is cut: by its size, and by the clock.
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000\r\n\r\n" + bytes(1_500_000))
        await client.ended()
        slow = await world.connect()
        slow.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000\r\n\r\n")
        assert await slow.status() == 413
        world.pass_time(10)
        assert await slow.ended() == b""
        assert world.server.refused == {"413": 1, "408": 1}


# --- Readers that do not read.


class Flood:
    """Sends for ever; counts what ``send`` let through."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        leaving = asyncio.ensure_future(self.left(receive))
        while not leaving.done():
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            self.sent += 1
            await asyncio.sleep(0)
        self.ended.set()

    async def left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


@run
async def test_a_slow_reader_holds_the_application_back_and_is_cut() -> None:
    flood = Flood()
    loop = asyncio.get_running_loop()
    async with serving(flood) as world:
        # Not a stream: asyncio's would read ahead of us.
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", world.server.port))
            client.setblocking(False)
            await loop.sock_sendall(client, GET)
            await stuck(world)
            (one,) = world.connections
            assert one.transport.get_write_buffer_size() < 65536 + 100
            assert flood.sent < 10, "the kernel took megabytes for a client that reads nothing"
            world.pass_time(29)
            held = flood.sent
            while flood.sent < held + 10:
                await loop.sock_recv(client, 65536)
            await stuck(world)
            world.pass_time(29)
            assert world.server.refused == {}
            world.pass_time(1)
            await flood.ended.wait()
            assert world.server.refused == {"slow_reader": 1}


async def stuck(world: World) -> None:
    """Return when output has stopped for good: the kernel's buffers may still grow at first."""
    turns = 0
    while turns < 100:
        await asyncio.sleep(0)
        turns = turns + 1 if any(one.flow.write_paused for one in world.connections) else 0


@run
async def test_tells_an_application_whose_client_left_even_behind_a_pipelined_one() -> None:
    gate = Gate()
    async with serving(gate) as world:
        client = await world.connect()
        client.send(b"GET /first HTTP/1.1\r\nhost: a\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\n\r\n")
        await until(lambda: gate.arrived == 1)
        client.writer.close()
        await until(lambda: bool(gate.gone))
        assert gate.gone == ["/first"]
        assert gate.arrived == 1


# --- How many.


@run
async def test_one_connection_too_many_gets_503_and_the_others_go_on() -> None:
    async with serving(echo) as world:
        clients = [await world.accepted() for _ in range(SMALL.max_connections)]
        late = await world.connect()
        status, headers, _ = await late.response()
        assert (status, headers["retry-after"], headers["access-control-allow-origin"]) == (503, "1", "*")
        assert await late.ended() == b""
        for client in clients:
            assert await client.get() == 200
        clients[0].writer.close()
        await until(lambda: world.server.connections == SMALL.max_connections - 1)
        assert await (await world.connect()).get() == 200


@run
async def test_refused_connections_that_stay_are_cut() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        client.send(b"nonsense\r\n\r\n")
        assert await client.status() == 400
        await until(lambda: len(world.server.state.lingering) == 1)
        client.send(bytes(100))
        world.pass_time(2)
        await until(lambda: not world.server.state.lingering)


@run
async def test_a_connection_refused_in_the_middle_of_a_body_is_cut_like_any_other() -> None:
    """It once counted as busy with the request whose body broke, and stayed for as long as the client liked."""
    async with serving(echo) as world:
        client = await world.connect()
        client.send(b"POST /v1/stream/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense")
        assert await client.status() == 400
        await until(lambda: len(world.server.state.lingering) == 1)
        world.pass_time(2)
        await until(lambda: not world.server.state.lingering)


@pytest.mark.parametrize(
    "sent",
    [
        b"HEAD /v1/stream/x HTTP/1.1\r\n\r\n",
        b"HEAD /v1/stream/x HTTP/1.1\r\nhost: a\r\nx\r\n\r\n",
        b"HEAD /v1/stream/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
    ],
    ids=["no host", "a broken header", "a broken body"],
)
def test_a_refused_head_gets_no_content(sent: bytes) -> None:
    """The content would be taken for the beginning of the next response."""

    @run
    async def refused() -> None:
        async with serving(echo) as world:
            for before in (b"", GET):
                client = await world.connect()
                if before:
                    client.send(before)
                    assert await client.status() == 200
                client.send(sent)
                head, _, content = (await client.ended()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 400 ")
                assert content == b""

    refused()


@run
async def test_what_is_refused_after_a_head_has_content() -> None:
    async with serving(echo) as world:
        client = await world.connect()
        client.send(GET.replace(b"GET", b"HEAD"))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        client.send(b"nonsense\r\n\r\n")
        assert await client.status() == 400
