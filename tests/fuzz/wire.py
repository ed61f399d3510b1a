"""Bytes from a socket: the server's connection, the whole gateway and a node behind it, on simulated time.

An input is a byte of ways to behave (``Ways``), a byte that seeds where the rest is cut into reads, and what a client
sends. After the last byte the client sends no more and waits. Whatever it sent, the connection answers or refuses, and
closes in bounded time; nothing is left behind.
"""

import asyncio
import atexit
import json
import logging
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import IntFlag
from functools import cache
from random import Random
from typing import Any

import h11

from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.gateway.connection import LINGER_BYTES, MAX_PIPELINED, Connection, SharedState
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.health import HealthApp
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.streams.commands import Append, Create, Fork
from tests.fuzz import responses
from tests.fuzz.responses import Response
from tests.runtime.world import JumpingLoop, StallingKv, World, _Jumping, started

LIMITS = replace(
    Limits(),
    max_connections=10,
    max_header_bytes=1024,
    max_target_bytes=256,
    max_path_bytes=64,
    max_append_bytes=512,
    max_read_bytes=256,
    header_timeout_s=3.0,
    body_timeout_s=3.0,
    idle_timeout_s=4.0,
    long_poll_timeout_s=2.0,
    sse_lifetime_s=2.0,
    sse_keepalive_s=1.0,
    write_timeout_s=3.0,
)
STEP_S = 2.0
STEPS = 120
"""Simulated seconds between two sweeps, and sweeps until the connection must be closed: 32 live reads in a row."""
OTHERS: frozenset[Any] = frozenset(range(LIMITS.max_connections))
"""Stand for as many open connections as there may be."""
MAX_STATE = LIMITS.max_header_bytes + 64 * 1024


class Ways(IntFlag):
    """How client and node behave."""

    STALLS = 1
    """The client reads nothing."""
    DRAINS = 2
    """The server begins to drain in the middle."""
    LEAVES = 4
    """The client is gone after the last byte."""
    RESETS = 8
    """It leaves with an error."""
    READS_LATE = 16
    """A client that stalls reads what is there every other second."""
    FULL = 32
    """The server takes no more connections."""
    BUSY = 64
    """The store refuses the first writes."""


class Wire(asyncio.Transport):
    """The server's side of a socket. What is written is kept; ``stalls`` makes a client that does not read at times."""

    def __init__(self, protocol: Connection, stalls: bool) -> None:
        super().__init__({"peername": ("10.0.0.1", 1234), "sockname": ("10.0.0.2", 80)})
        self.protocol = protocol
        self.sent = bytearray()
        self.closing = self.ended = self.lost = False
        self.paused = False
        self.stalls = stalls
        self.unsent = 0

    def write(self, data: Any) -> None:
        assert not self.ended, "a write after the end of what is sent raises in production"
        if self.closing:
            return
        self.sent += data
        if self.stalls:
            self.unsent += len(data)
            self.protocol.pause_writing()

    def take(self) -> None:
        """The client reads."""
        if self.unsent and not self.lost:
            self.unsent = 0
            self.protocol.resume_writing()

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        # Like a real one: what is not sent yet is waited for, and only an abort drops it.
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        self.close()

    def lose(self, error: Exception | None) -> None:
        self.closing = True
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)


class Errors(logging.Handler):
    """What the server logs as an error is a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


class _NoSelector(_Jumping):
    """Asks the system for nothing: a simulated client has no descriptor."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits and no timer runs: a deadlock"
        self.now_s += max(0.0, timeout)
        return []


class Loop(JumpingLoop):
    """An event loop with simulated time that makes no system call."""

    def __init__(self) -> None:
        self.jumping = _NoSelector()
        asyncio.SelectorEventLoop.__init__(self, self.jumping)


async def settle() -> None:
    """Let everything happen that needs no time to pass: time moves when nothing else does."""
    await asyncio.sleep(1e-6)


class Server:
    """What lasts from input to input: an event loop, uvicorn's configuration, the log; and a store to copy."""

    def __init__(self) -> None:
        self.loop = Loop()
        atexit.register(self.loop.close)
        self.app: Any = None
        self.errors = Errors()
        for name in ("durable_streams_cluster", "uvicorn", "asyncio"):
            logging.getLogger(name).addHandler(self.errors)
        self.config = HttpServer(self._serve, "127.0.0.1", 0, LIMITS)._config
        self.loop.set_exception_handler(lambda _, context: self.errors.found.append(str(context)))
        self.kv = self.run(prepared)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run from time 0 on, and see that nothing is left to run."""
        self.loop.jumping.now_s = 0.0
        self.errors.found.clear()
        asyncio.set_event_loop(self.loop)
        result = self.loop.run_until_complete(main())
        left = asyncio.all_tasks(self.loop)
        assert not left, f"tasks are left: {left}"
        timers = [timer for timer in self.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert not timers, f"timers are left: {timers}"
        assert not self.errors.found, self.errors.found[0]
        return result


async def prepared() -> StallingKv:
    """A store with a stream of each kind: /t text, /j JSON, /b bytes, /c closed, /f a fork, /e empty with a TTL."""
    world = await started(limits=LIMITS)
    kinds = {"t": "text/plain", "j": "application/json", "b": "application/octet-stream", "c": "text/plain"}
    for path, kind in kinds.items():
        await world.streams.create(Create(path, kind, None, None, False, b"", None))
        await world.streams.append(Append(path, kind, b'"a","b"', path == "c", None, None))
        await world.streams.append(Append(path, kind, b"1", False, None, None))
    await world.streams.create(Create("f", None, None, None, False, b"", Fork("j", None, 0)))
    await world.streams.create(Create("e", "text/plain", 3600, None, False, b"", None))
    return world.kv


def copied(kv: StallingKv) -> StallingKv:
    """The same store again. Blocks are replaced, not changed, once a scan may have seen them."""
    copy = StallingKv()
    for table, mine in zip(kv._tables, copy._tables, strict=True):
        table.age += 1
        mine.age, mine.blocks, mine.lasts = table.age, list(table.blocks), list(table.lasts)
    copy._writes = kv._writes
    return copy


@cache
def server() -> Server:
    return Server()


class Asked:
    """An application that notes the requests it is given, in front of another one."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests: list[list[Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        seen: list[Any] = [scope["method"], scope["raw_path"], scope["query_string"], b"", False]
        self.requests.append(seen)

        async def noted() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                seen[3] += message["body"]
                seen[4] |= not message["more_body"]
            return message

        await self.app(scope, noted, send)


class Play:
    """One input, from the connection's opening to its end."""

    def __init__(self, data: bytes, app: Any, clock: Any) -> None:
        ways, seed = [*data[:2], 0, 0][:2]
        self.ways = Ways(ways & 127)
        self.rng = Random(seed)
        self.pieces = list(self.cut(data[2:])) if seed else [data[2:]]
        self.asked = server().app = Asked(app)
        self.state = SharedState(LIMITS, clock)
        self.connection = Connection(server().config, self.state)
        self.wire = Wire(self.connection, stalls=Ways.STALLS in self.ways)

    def cut(self, data: bytes) -> Any:
        while data:
            size = self.rng.choice((1, 2, 7, 30, 200, len(data)))
            yield data[:size]
            data = data[size:]

    async def play(self) -> list[Response]:
        state, wire = self.state, self.wire
        self.sweep()
        if Ways.FULL in self.ways:
            state.connections.update(OTHERS)
        self.connection.connection_made(wire)
        state.connections.intersection_update({self.connection})
        if Ways.DRAINS in self.ways:
            self.pieces[len(self.pieces) // 2 : len(self.pieces) // 2] = [b""]  # where the server begins to drain
        await self.send()
        if Ways.LEAVES in self.ways and not wire.lost:
            wire.lose(ConnectionResetError() if Ways.RESETS in self.ways else None)
        for _ in range(STEPS):
            if wire.lost and not state.tasks:
                break
            await self.send()
            await asyncio.sleep(STEP_S)
            self.sweep()
            if Ways.READS_LATE in self.ways:
                wire.take()
        assert wire.lost, "the connection is open for ever"
        await settle()
        assert not state.tasks, "a request runs for ever"
        assert not state.connections
        assert not state.lingering
        return self.answers()

    async def send(self) -> None:
        """Hand over what is not sent yet, as long as the server reads; others run in between."""
        while self.pieces and not self.wire.paused and not self.wire.closing:
            piece = self.pieces.pop(0)
            if piece:
                self.connection.data_received(piece)
            else:
                self.drain()
            self.bounded()
            for _ in range(self.rng.choice((0, 1, 3, 20))):
                await asyncio.sleep(0)
            self.bounded()
        await settle()

    def drain(self) -> None:
        """As a node does that was told to end."""
        self.state.draining = True
        self.connection.shutdown()
        if isinstance(self.asked.app, GatewayApp):
            self.asked.app.drain()

    def bounded(self) -> None:
        """What one connection holds."""
        connection = self.connection
        assert len(connection.pipeline) <= MAX_PIPELINED
        assert connection.unparsed <= max(LINGER_BYTES, 2 * LIMITS.max_append_bytes) + MAX_STATE
        assert sum(len(name) + len(value) for name, value in connection.headers or ()) <= MAX_STATE
        waiting = [exchange for exchange, _ in connection.pipeline]
        held = sum(len(each.body) for each in [*waiting, *((connection.answering,) if connection.answering else ())])
        assert held <= MAX_STATE

    def sweep(self) -> None:
        state = self.state
        state.now_ms = state.clock.steady_ms()
        state.date_line = b"date: Sun, 15 Jun 2025 15:06:40 GMT\r\n"
        for connection in [*state.connections, *state.lingering]:
            connection.check(state.now_ms)  # type: ignore[union-attr]

    def answers(self) -> list[Response]:
        """The responses, each well-formed and of a kind that may be given."""
        methods = [request[0] for request in self.asked.requests]
        found = responses.read(bytes(self.wire.sent), methods)
        for place, response in enumerate(found):
            assert response.complete or response is found[-1], "a response follows one that has no end"
            if response.until_close:
                assert response is found[-1]
            assert response.status < 500 or response.status in (501, 503), response
            if response.status >= 400 and response.complete and (place >= len(methods) or methods[place] != "HEAD"):
                self.reasoned(response)
        return found

    def reasoned(self, response: Response) -> None:
        if isinstance(self.asked.app, HealthApp) and b"json" not in response.headers[b"content-type"]:
            return
        assert response.headers[b"content-type"] == b"application/json"
        error = json.loads(response.body)["error"]
        assert error["code"]
        assert error["message"]
        if response.status in (429, 503):
            assert b"retry-after" in response.headers


def check_wire(data: bytes) -> None:
    """The gateway."""
    one = server()

    async def main() -> None:
        world = await started(copied(one.kv), LIMITS)
        play = Play(data, world.app, world.clock)
        world.kv.stalls = 3 if Ways.BUSY in play.ways else 0
        found = await play.play()
        check_world(world)
        check_other_parser(play, found, data[2:])

    one.run(main)


def check_ops(data: bytes) -> None:
    """The listener of probes."""
    one = server()

    async def main() -> None:
        world = await started(limits=LIMITS)
        checks = {"disk": lambda: (True, "fine"), "leader": lambda: (not data[:1] > b"\x7f", "said \u00fc\nso")}
        play = Play(data, HealthApp(checks, Metrics()), world.clock)
        await play.play()

    one.run(main)


def check_world(world: World) -> None:
    """Nothing of the connection is left in the node, and the node is well."""
    assert not world.fatal
    assert world.app._buffered == 0
    assert not world.app.live._open
    assert not any(world.metrics.live_readers.values())
    assert (world.driver.waiting, world.driver.inflight_bytes) == (0, 0)
    for meta in world.group.store.committed._metas.values():
        meta.check()


def check_other_parser(play: Play, found: list[Response], data: bytes) -> None:
    """As far as another strict parser follows, it finds the same requests: nobody can hide one in another."""
    theirs = requests_of(data)
    for place, (method, path, query, body, whole) in enumerate(play.asked.requests):
        if place >= len(theirs):
            return
        their_method, their_target, their_body, their_end = theirs[place]
        assert their_method == method
        if their_target.startswith(b"/") and b"#" not in their_target:
            assert their_target.partition(b"?")[::2] == (path, query)
        if whole and their_end:
            assert their_body == body, (their_body, body)


def requests_of(data: bytes) -> list[tuple[str, bytes, bytes, bool]]:
    """Method, target, body, and whether it ended, of each request that h11 finds; up to what it does not accept."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    found: list[tuple[str, bytes, bytes, bool]] = []
    try:
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                found.append((event.method.decode(), event.target, b"", False))
            elif isinstance(event, h11.Data):
                method, target, body, _ = found[-1]
                found[-1] = (method, target, body + bytes(event.data), False)
            elif isinstance(event, h11.EndOfMessage):
                found[-1] = (*found[-1][:3], True)
                if parser.their_state is not h11.DONE or found[-1][0] == "CONNECT":
                    return found
                parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                parser.send(h11.EndOfMessage())
                parser.start_next_cycle()
            else:
                return found
    except h11.ProtocolError:
        return found
