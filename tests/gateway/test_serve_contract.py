"""What ``gateway.connection`` and ``gateway.exchange`` take from uvicorn, held still.

A failure here means that the pinned server changed under our overrides. Read the difference of the named method, carry
over what matters (a fix, a new attribute), then put the new digest into the table.
"""

import ast
import asyncio
import gc
import hashlib
import inspect
import textwrap
import weakref
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from durable_streams_cluster.gateway.connection import Connection
from durable_streams_cluster.gateway.exchange import JOIN_BYTES, Exchange, Outlet

# Methods of uvicorn that ours replace, extend or count on; the digest is of their source text.
UPSTREAM: dict[type, dict[str, str]] = {
    HttpToolsProtocol: {
        "__init__": "4f0899941034",
        "connection_made": "6efb565ff3d3",
        "connection_lost": "c91a4c9bf2e2",
        "eof_received": "5652627579a0",
        "data_received": "010a7ae59a5d",
        "on_message_begin": "96d377fdc7c2",
        "on_url": "37be44e962b0",
        "on_header": "65d62c044f61",
        "on_headers_complete": "1ea8589acfad",
        "_start_asgi_task": "9c08c2571ae9",
        "on_body": "dba9c32aeba3",
        "on_message_complete": "1fbad42dc31f",
        "on_response_complete": "64e254f28e38",
        "shutdown": "d7351fa33f00",
        "pause_writing": "17a8fd215d96",
        "resume_writing": "7844bbaa8cce",
    },
    RequestResponseCycle: {
        "__init__": "4d2f220910c3",
        "run_asgi": "0f33f2449a44",
        "send_500_response": "37c64da40eed",
        "send": "abdd8601b326",
        "receive": "8124ae006be7",
    },
    FlowControl: {
        "__init__": "0152d94a0407",
        "drain": "4bda6b61c277",
        "pause_reading": "7c27388bb984",
        "resume_reading": "a0429d30857e",
        "pause_writing": "93d4a08a9f2d",
        "resume_writing": "a343e8b0baf0",
    },
    ServerState: {
        "__init__": "8daf3a9b4e4e",
    },
}
# Theirs, that ours leave alone and never reach: WebSockets, and the keep-alive timer of each connection.
UNUSED = {
    "_get_upgrade",
    "_should_upgrade",
    "_should_upgrade_to_ws",
    "_unset_keepalive_if_required",
    "_unsupported_upgrade_warning",
    "handle_websocket_upgrade",
    "send_400_response",
    "timeout_keep_alive_handler",
}


def methods(owner: type) -> dict[str, Any]:
    return {name: member for name, member in vars(owner).items() if inspect.isfunction(member)}


def digest(member: Any) -> str:
    return hashlib.sha256(inspect.getsource(member).encode()).hexdigest()[:12]


@pytest.mark.parametrize("owner", UPSTREAM, ids=lambda owner: owner.__name__)
def test_upstream_is_what_was_read(owner: type) -> None:
    found = {name: digest(member) for name, member in methods(owner).items() if name not in UNUSED}
    assert found == UPSTREAM[owner]


@pytest.mark.parametrize(("ours", "theirs"), [(Connection, HttpToolsProtocol), (Exchange, RequestResponseCycle)])
def test_overrides_keep_the_signature(ours: type, theirs: type) -> None:
    overridden = (set(methods(ours)) & set(methods(theirs))) - {"__init__"}
    assert overridden
    for name in overridden:
        mine, other = (list(inspect.signature(vars(owner)[name]).parameters) for owner in (ours, theirs))
        assert mine == other, name
    for name in set(methods(ours)) - overridden:
        assert not name.startswith("on_"), f"{name}: no callback of the parser has this name"


def test_exchange_has_every_attribute_that_inherited_methods_read() -> None:
    kept = set(methods(RequestResponseCycle)) - set(methods(Exchange))
    assert kept == {"receive", "send_500_response"}
    read: set[str] = set()
    for name in kept:
        tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(RequestResponseCycle, name))))
        read |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
    assert read <= {*vars(exchange(Wire())), *dir(Exchange)}


class Wire(asyncio.Transport):
    """Notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.full: Callable[[], None] = lambda: None
        """Called after each write: the client takes no more."""

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        self.full()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Asyncio's would join them, and uvloop's does not."""
        self.writes += map(bytes, list_of_data)

    def close(self) -> None:
        self.writes.append(b"<close>")


def exchange(wire: Wire, method: str = "GET") -> Exchange:
    scope = cast("Any", {"method": method, "http_version": "1.1", "path": "/"})
    return Exchange(scope, wire, FlowControl(wire), lambda: None, Outlet(), keep_alive=True, expect_100_continue=False)


START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}


@pytest.mark.parametrize(
    ("method", "messages", "writes"),
    [
        pytest.param(
            "GET",
            [START | {"headers": [(b"content-length", b"2")]}, BODY | {"body": b"hi"}],
            [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"],
            id="head and body leave together",
        ),
        pytest.param("GET", [START | {"status": 204}, BODY], [b"HTTP/1.1 204 No Content\r\n\r\n"], id="no body"),
        pytest.param(
            "HEAD",
            [START | {"headers": [(b"content-length", b"2")]}, BODY | {"body": b"hi"}],
            [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"],
            id="HEAD has no body",
        ),
        pytest.param(
            "GET",
            [START | {"status": 304, "headers": [(b"content-length", b"2")]}, BODY],
            [b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n"],
            id="304 may say a length and has no body",
        ),
        pytest.param(
            "GET",
            [
                START,
                BODY | {"body": b"", "more_body": True},
                BODY | {"body": b"event", "more_body": True},
                BODY | {"body": b"", "more_body": True},
                BODY | {"body": b"last"},
            ],
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                b"5\r\nevent\r\n",
                b"4\r\nlast\r\n0\r\n\r\n",
            ],
            id="one write an event, and an empty one lets the head go",
        ),
        pytest.param(
            "GET",
            [START, BODY | {"body": b"x" * (JOIN_BYTES + 1)}],
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % (JOIN_BYTES + 1),
                b"x" * (JOIN_BYTES + 1),
                b"\r\n0\r\n\r\n",
            ],
            id="a large piece is not copied",
        ),
        pytest.param(
            "GET",
            [START | {"headers": [(b"connection", b"close"), (b"content-length", b"0")]}, BODY],
            [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", b"<close>"],
            id="the application closes",
        ),
    ],
)
def test_what_is_written(method: str, messages: list[Any], writes: list[bytes]) -> None:
    async def play() -> list[bytes]:
        wire = Wire()
        one = exchange(wire, method)
        for message in messages:
            await one.send(message)
        assert one.response_complete
        return wire.writes

    assert asyncio.run(play()) == writes


def test_a_piece_that_is_not_taken_is_held_by_the_transport_alone() -> None:
    class Piece(dict[str, Any]):
        """A message that can be watched."""

    async def play() -> None:
        wire = Wire()
        one = exchange(wire)
        await one.send(cast("Any", START))
        piece = Piece(BODY, body=b"event", more_body=True)
        watched = weakref.ref(piece)
        wire.full = one.flow.pause_writing
        pieces = [piece]
        del piece
        sending = asyncio.ensure_future(one.send(cast("Any", pieces.pop())))
        await asyncio.sleep(0)
        assert wire.writes[-1].endswith(b"5\r\nevent\r\n")
        assert not sending.done()
        gc.collect()
        assert watched() is None
        one.flow.resume_writing()
        await sending

    asyncio.run(play())
