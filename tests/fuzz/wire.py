"""Bytes from a socket: the server's connection, the whole gateway and a node behind it, on simulated time.

An input is a byte of ways to behave (``Ways``), a byte that seeds where the rest is cut into reads, and what a client
sends. After the last byte the client sends no more and waits. Whatever it sent, the connection answers or refuses, and
closes in bounded time; nothing is left behind.
"""

import asyncio
import json
from enum import IntFlag
from random import Random
from typing import Any

import h11

from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.gateway.connection import LINGER_BYTES, MAX_PIPELINED, Connection
from durable_streams_cluster.gateway.refusals import REFUSALS
from durable_streams_cluster.gateway.shared import SharedState
from durable_streams_cluster.observe.health import HealthApp
from durable_streams_cluster.observe.metrics import Metrics
from tests.fuzz import responses
from tests.fuzz.responses import Response
from tests.fuzz.simulated import LIMITS, Asked, Wire, copied, server, settle
from tests.runtime.world import World, started

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
        for response in found:
            assert response.complete or response is found[-1], "a response follows one that has no end"
            if response.until_close:
                assert response is found[-1]
            assert response.status < 500 or response.status in (501, 503), response
            if response.status >= 400 and response.complete and not response.bodiless:
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


def played(data: bytes) -> tuple[Play, list[Response]]:
    """A client of the gateway, from its first byte to the end of the connection; nothing of it is left in the node."""
    one = server()

    async def main() -> tuple[Play, list[Response]]:
        world = await started(copied(one.kv), LIMITS)
        play = Play(data, world.app, world.clock)
        world.kv.stalls = 3 if Ways.BUSY in play.ways else 0
        found = await play.play()
        check_world(world)
        return play, found

    result: tuple[Play, list[Response]] = one.run(main)
    return result


def check_wire(data: bytes) -> None:
    """The gateway."""
    play, _ = played(data)
    check_other_parser(play, data[2:])


def check_splits(data: bytes) -> None:
    """Where the network cuts what a client sends makes no difference, as far as both ways are answered.

    A refusal ends that: in one piece, what is wrong is seen before what came first is answered, and is told in its
    place or not at all.
    """
    sent = data[2 : 2 + LIMITS.max_header_bytes // 2]
    whole, cut = (played(bytes((0, seed)) + sent)[1] for seed in (0, data[1] | 1 if data[1:] else 1))
    for one, other in zip(whole, cut, strict=False):
        if is_refusal(one) or is_refusal(other):
            return
        assert one.status == other.status
        assert one.body == other.body
        same = [{**each.headers, b"connection": b""} for each in (one, other)]
        assert same[0] == same[1]


def is_refusal(response: Response) -> bool:
    """Whether the connection gave it, and not the application."""
    if response.bodiless:
        return response.status in REFUSALS and b"connection" in response.headers
    return REFUSALS.get(response.status, b"").endswith(b"\r\n\r\n" + response.body)


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
    assert (world.driver.admission.waiting, world.driver.admission.inflight_bytes) == (0, 0)
    for meta in world.group.store.committed._metas.values():
        meta.check()


def check_other_parser(play: Play, data: bytes) -> None:
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
