"""A head that comes again means what it meant when it was parsed, wherever the reads are cut."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams_cluster.gateway.connection import Connection
from durable_streams_cluster.gateway.direct import Direct
from durable_streams_cluster.gateway.heads import MAX_BYTES, MAX_MISSES, Head
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.limits import Limits
from tests.gateway.serving import Clock

LIMITS = replace(Limits(), max_header_bytes=512, max_target_bytes=128)
LINE = b"POST /v1/stream/s?x=1 HTTP/1.1\r\n"
POST = LINE + b"Host: a\r\nProducer-Seq: 7\r\nContent-Length: 3\r\n\r\nabc"
SCOPE = {
    "method": "POST",
    "raw_path": b"/v1/stream/s",
    "query_string": b"x=1",
    "headers": [(b"host", b"a"), (b"producer-seq", b"7"), (b"content-length", b"3")],
    "state": {},
}


def taken_apart(read: bytes = POST, **changed: Any) -> Head | None:
    return Head.of(read, {**SCOPE, **changed}, len(read) - read.find(b"\r\n\r\n") - 4)


def test_numbers_may_change() -> None:
    head = taken_apart()
    assert head is not None
    found = head.again(
        POST.replace(b"Seq: 7", b"Seq: 1000").replace(b": 3\r\n\r\nabc", b": 12\r\n\r\nabc\r\n\r\n56789")
    )
    assert found is not None
    scope = found[0].scope()
    assert found[1] == b"abc\r\n\r\n56789"
    assert scope == {**SCOPE, "headers": [(b"host", b"a"), (b"producer-seq", b"1000"), (b"content-length", b"12")]}
    assert scope["headers"] is not SCOPE["headers"], "the application may change its scope"
    again = head.again(POST)
    assert again is not None
    assert (again[0].scope(), again[1], again[0].head.method) == (SCOPE, b"abc", "POST")


@pytest.mark.parametrize(
    "read",
    [
        b"",
        POST[:-1],
        POST + b"P",
        POST[1:],
        POST.replace(b"POST", b"PUT"),
        POST.replace(b"Host", b"host"),
        POST.replace(b"x=1", b"x=2"),
        POST.replace(b"Seq: 7", b"Seq: "),
        POST.replace(b"Seq: 7", b"Seq: +7"),
        POST.replace(b"Seq: 7", b"Seq: 7 "),
        POST.replace(b"Seq: 7", b"Seq: \xb2"),
        POST.replace(b"Seq: 7", b"Seq: " + b"7" * 17),
        POST.replace(b": 3", b": 03") + b"d",
        POST.replace(b": 3\r\n", b": 3\n"),
        POST.replace(b"\r\n\r\n", b"\r\nA: b\r\n\r\n"),
    ],
)
def test_all_else_is_parsed(read: bytes) -> None:
    head = taken_apart()
    assert head is not None
    assert head.again(read) is None


@pytest.mark.parametrize(
    ("read", "changed"),
    [
        (b"\r\n" + POST, {}),  # its meaning depends on what was before
        (POST[1:], {}),
        (POST.replace(b"Content-Length: ", b"Content-Length:"), {}),
        (LINE + b"Host: a\r\n\r\nabc", {"headers": [(b"host", b"a")]}),  # a body without a length
        (
            LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            {"headers": [(b"transfer-encoding", b"chunked"), (b"content-length", b"0")]},
        ),
        (LINE + b"A: %s\r\n\r\n" % (b"b" * MAX_BYTES), {"headers": [(b"a", b"b" * MAX_BYTES)]}),
    ],
)
def test_what_is_special_is_parsed_again(read: bytes, changed: dict[str, Any]) -> None:
    assert taken_apart(read, **changed) is None


# --- A connection that learns heads, beside one that parses each.


class App:
    """Answers each request with what it was; the short way, or for some paths by a task."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def begin(self, request: Direct) -> bool:
        if request.scope["raw_path"].endswith((b"long", b"early")):
            return False
        self.note(request.scope, bytes(request.body), "begin")
        request.answer(200, [(b"content-length", b"%d" % len(request.body))], bytes(request.body))
        return True

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        body = b""
        more = not scope["raw_path"].endswith(b"early")  # answers, and what comes of the body is dropped
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.note(scope, body, "task")
        for _ in range(20 - 4 * min(len(self.seen), 5)):  # the first takes longest: they must not overtake it
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def note(self, scope: Any, body: bytes, way: str) -> None:
        shown = {key: value for key, value in scope.items() if key not in {"headers", "extensions"}}
        self.seen.append((repr(shown), tuple(scope["headers"]), body, way))
        scope["headers"].append((b"of", b"the application"))
        scope["state"]["of"] = scope["path"] = "the application"


class Wire(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 1), "sockname": ("10.0.0.2", 80)})
        self.sent = b""
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def served(reads: list[tuple[bytes, bool]], *, learns: bool) -> tuple[list[tuple[object, ...]], bytes, bool]:
    app, wire = App(), Wire()
    server = HttpServer(app, "127.0.0.1", 0, LIMITS, clock=Clock())
    connection = Connection(server._config, server.state)
    if not learns:
        connection.recall._misses = MAX_MISSES
    connection.connection_made(wire)
    for read, waits in reads:
        if not wire.closed:
            connection.data_received(read)
        for _ in range(50 if waits else 0):
            await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return app.seen, wire.sent, wire.closed


def append(number: int, body: bytes, path: bytes = b"s", more: bytes = b"", length: bytes = b"%d") -> bytes:
    head = b"POST /v1/stream/%s HTTP/1.1\r\nHost: a\r\nproducer-seq: %d\r\n%s" % (path, number, more)
    return head + b"Content-Length: " + length % len(body) + b"\r\n\r\n" + body


HALF = b"POST /v1/stream/s HTTP/1.1\r\nHost: a\r\nX: "
HOSTLESS = b"POST /v1/stream/s HTTP/1.1\r\nproducer-id: p\r\nX: "
"""What follows is a value."""
EARLY = append(2, b"x", b"early")
UPGRADES = b"POST /v1/stream/s HTTP/1.1\r\nHost: a\r\nConnection: upgrade, keep-alive\r\nUpgrade: %s\r\n\r\n"
LARGEST = UPGRADES % (b"h" * (LIMITS.max_header_bytes - len(UPGRADES % b"")))
"""What is rewritten without its offer, and is in a read that is given to the parser in pieces."""
REWRITTEN = b"POST /v1/stream/s HTTP/1.1\r\nhost: a\r\nconnection:  keep-alive\r\n\r\n"

requests = st.one_of(
    st.builds(
        append,
        st.integers(0, 11),
        st.sampled_from([b"x", b"yy", b"", b"\r\n\r\n", append(1, b"x")]),
        st.sampled_from([b"s", b"s", b"s", b"long", b"early"]),
        st.sampled_from(
            [
                b"",
                b"",
                b"",
                b"Connection: close\r\n",
                b"Expect: 100-continue\r\n",
                b"Content-Length: 1\r\n",
                b"A:\r\n b\r\n",
                b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
                b"Producer-Seq: 5\r\n",
            ]
        ),
        st.sampled_from([b"%d", b"%d", b"%d", b"0%d", b" %d", b"%d ", b"+%d"]),
    ),
    st.sampled_from(
        [
            b"GET /v1/stream/s HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /v1/stream/s HTTP/1.0\r\n\r\n",
            b"\r\n",
            b"nonsense\r\n",
            b"POST /v1/stream/s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            HALF,
            HOSTLESS,
            LARGEST,
            REWRITTEN,
        ]
    ),
)


@st.composite
def cut(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Requests in reads that mostly end where they do, and whether the client waits for the answer."""
    one = draw(requests)
    sent = draw(st.lists(st.one_of(st.just(one), st.just(one), requests), min_size=2, max_size=8))
    reads = [b""]
    for request in sent:
        at = draw(st.one_of(st.just(0), st.just(0), st.just(0), st.integers(0, len(request))))
        reads[-1] += request[:at]
        reads.append(request[at:])
    return [(read, draw(st.booleans())) for read in reads if read]


@given(cut())
@example([(append(1, b"x"), True), (append(2, b"yy") + HALF, True), (append(3, b"x"), True)])
@example([(append(1, b"x"), True), (append(1, b"x") + append(1, b"x"), True), (append(2, b"yy"), True)])
@example([(append(number, b"x" * number, b"long"), False) for number in range(4)])
@example([(append(number, b"x"), True) for number in range(4)])
@example([(HOSTLESS, True), (append(1, b"x"), True), (append(2, b"x"), True)])
@example([(append(1, b"x") + HOSTLESS, True), (append(1, b"x"), True), (append(2, b"x"), True)])
@example([(append(1, b"of" + EARLY, b"early")[: -len(EARLY)], True), (EARLY, True), (append(3, b"x"), True)])
@example([(LARGEST + HALF, True), (REWRITTEN, True), (b"Y\r\n\r\n", True)])
@example([(b"PO", True), (b"ST" + append(1, b"x")[4:], True), (append(1, b"x")[2:], True)])
def test_a_connection_that_knows_heads_serves_as_one_that_parses_all(reads: list[tuple[bytes, bool]]) -> None:
    learned = asyncio.run(served(reads, learns=True))
    assert learned == asyncio.run(served(reads, learns=False))


class Counting(Connection):
    """Counts the heads that it parses."""

    heads = 0

    def on_message_begin(self) -> None:
        self.heads += 1
        super().on_message_begin()


def test_a_head_is_parsed_once() -> None:
    async def parsed() -> tuple[int, int]:
        app = App()
        server = HttpServer(app, "127.0.0.1", 0, LIMITS, clock=Clock())
        connection = Counting(server._config, server.state)
        connection.connection_made(Wire())
        for number in range(10):
            connection.data_received(append(number, b"x" * number))
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return connection.heads, len(app.seen)

    assert asyncio.run(parsed()) == (1, 10)


def test_a_client_whose_heads_differ_is_not_looked_at_for_ever() -> None:
    async def learns() -> bool:
        server = HttpServer(App(), "127.0.0.1", 0, LIMITS, clock=Clock())
        connection = Connection(server._config, server.state)
        connection.connection_made(Wire())
        for number in range(MAX_MISSES + 1):
            connection.data_received(append(1, b"x", more=b"Traceparent: %d\r\n" % number))
            await asyncio.sleep(0)
        known = connection.recall._head is not None
        connection.connection_lost(None)
        return known

    assert not asyncio.run(learns())
