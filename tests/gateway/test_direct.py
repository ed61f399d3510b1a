"""Appends the short way: the same answers as by the long one, in order, whatever else the connection does."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from random import Random
from typing import Any, cast

import pytest

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown, Overloaded
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.streams.commands import Append
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import Appended, NotFound, Outcome
from tests.gateway.serving import Client, Clock, World, run, serving, until


class Streams:
    """Appends wait for the test."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Append, Answer]] = []
        self.refuses: Exception | None = None

    def append(self, command: Append) -> Answer:
        if self.refuses is not None:
            raise self.refuses
        self.waiting.append((command, Answer()))
        return self.waiting[-1][1]

    def read_now(self, path: str, at: Any, max_bytes: int | None = None) -> None:
        """Nothing is known at once."""

    async def head(self, path: str) -> NotFound:
        return NotFound()

    def answer(self, outcome: Outcome | None = None) -> None:
        """The one that waits longest."""
        _, answer = self.waiting.pop(0)
        answer.tell(outcome or Appended(Offset(1, 5), closed=False))


class Served(World):
    streams: Streams
    metrics: Metrics


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """A gateway that knows the path already: the first request to a path goes the long way."""
    streams, metrics = Streams(), Metrics()
    app = GatewayApp(cast("Any", streams), Limits(), Clock(), Random(1), metrics)
    async with serving(app, Limits()) as world:
        found = cast("Served", world)
        found.streams, found.metrics = streams, metrics
        client = await world.connect()
        client.send(post(b"first"))
        await until(lambda: bool(streams.waiting))
        assert world.server.state.tasks
        streams.answer()
        assert await client.status() == 204
        yield found


def post(body: bytes, more: bytes = b"") -> bytes:
    head = b"POST /v1/stream/s HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\n"
    return head + more + b"content-length: %d\r\n\r\n%s" % (len(body), body)


async def begun(world: Served, request: bytes) -> Client:
    """A client whose append waits."""
    client = await world.connect()
    client.send(request)
    await until(lambda: bool(world.streams.waiting))
    return client


@run
async def test_a_small_append_has_no_task_and_is_counted() -> None:
    async with served() as world:
        client = await begun(world, post(b"hello"))
        assert not world.server.state.tasks
        assert world.streams.waiting[0][0] == Append("s", "text/plain", b"hello", False, None, None)
        world.streams.answer(Appended(Offset(3, 7), closed=True))
        status, headers, body = await client.response()
        assert (status, body) == (204, b"")
        assert headers["stream-next-offset"] == f"{3:016d}_{7:016d}"
        assert headers["stream-closed"] == "true"
        assert headers["access-control-allow-origin"] == "*"
        assert (world.metrics.appends, world.metrics.append_bytes) == (2, len(b"firsthello"))
        assert world.metrics.http_requests["POST", 204] == 2


AGAIN = [
    (b"", [b"a", b"bc", b"", b"d"]),
    (b"stream-closed: true\r\n", [b"", b"a", b"", b"b"]),
    (b"stream-seq: 7\r\nif-match: %016d_%016d\r\n" % (1, 5), [b"a", b"b"]),
    (b"producer-id: p\r\nproducer-epoch: 0\r\nproducer-seq: 1\r\n", [b"a", b"b", b""]),
    (b"content-language: json\r\n", [b"[1]", b"[]", b"[", b'{"a": 1}', b"", b"2"]),
]


@run
async def test_a_head_that_comes_again_means_the_same() -> None:
    async with served() as world:
        for more, bodies in AGAIN:
            same = await world.connect()
            for number, body in enumerate(bodies):
                request = post(body, more.replace(b"producer-seq: 1", b"producer-seq: %d" % number))
                if b"json" in more:
                    request = request.replace(b"text/plain", b"application/json")
                told = [await asked(world, client, request) for client in (same, await world.connect())]
                assert told[0] == told[1]


async def asked(world: Served, client: Client, request: bytes) -> tuple[Append | None, object]:
    """The command that a request became, if it did, and its answer."""
    client.send(request)
    response = asyncio.ensure_future(client.response())
    await until(lambda: bool(world.streams.waiting) or response.done())
    command = world.streams.waiting[0][0] if world.streams.waiting else None
    if command is not None:
        world.streams.answer()
    return command, await response


@run
async def test_the_answer_is_that_of_the_long_way() -> None:
    async with served() as world:
        whole, late = await world.connect(), await world.connect()
        late.send(post(b"x")[:-1])
        await until(lambda: bool(world.server.state.tasks))
        answers = []
        for client, rest in ((whole, post(b"x")), (late, b"x")):
            client.send(rest)
            await until(lambda: bool(world.streams.waiting))
            world.streams.answer()
            answers.append(await client.response())
        assert answers[0] == answers[1]


@run
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with served() as world:
        client = await world.connect()
        missing = b"GET /v1/nothing HTTP/1.1\r\nhost: a\r\n\r\n"
        client.send(post(b"1") + post(b"2") + missing + post(b"3"))
        for _ in range(3):
            await until(lambda: bool(world.streams.waiting))
            assert len(world.streams.waiting) == 1
            world.streams.answer()
        assert [await client.status() for _ in range(4)] == [204, 204, 404, 204]


@run
async def test_what_is_refused_behind_an_append_comes_behind_its_answer() -> None:
    async with served() as world:
        client = await begun(world, post(b"1"))
        (connection,) = (each for each in world.connections if each.busy)
        world.streams.answer()
        assert not connection.busy
        connection.data_received(b"nonsense\r\n\r\n")  # in the turn that made the answer
        assert [await client.status() for _ in range(2)] == [204, 400]


@run
async def test_an_answer_leaves_before_its_connection_is_closed() -> None:
    async with served() as world:
        client = await begun(world, post(b"1"))
        (connection,) = (each for each in world.connections if each.busy)
        world.streams.answer()
        assert not connection.busy
        connection.shutdown()
        assert (await client.ended()).startswith(b"HTTP/1.1 204")


@run
async def test_who_takes_no_answers_waits_the_long_way_and_is_not_read_from() -> None:
    async with served() as world:
        client = await world.accepted()
        (connection,) = (each for each in world.connections if each.cycle is None)
        connection.pause_writing()  # as the transport does when the client takes nothing
        client.send(post(b"1"))
        await until(lambda: bool(world.streams.waiting))
        assert world.server.state.tasks
        world.streams.answer()
        client.send(post(b"2"))
        await until(lambda: connection.flow.read_paused)
        assert not world.streams.waiting, "the second waits until the first was answered"
        connection.resume_writing()
        await until(lambda: bool(world.streams.waiting))
        world.streams.answer()
        assert [await client.status() for _ in range(2)] == [204, 204]


@run
async def test_the_last_answer_of_a_connection_says_so() -> None:
    async with served() as world:
        client = await begun(world, post(b"1", b"connection: close\r\n"))
        world.streams.answer()
        assert (await client.response())[1]["connection"] == "close"
        assert await client.ended() == b""


@run
async def test_a_client_that_left_is_not_answered() -> None:
    async with served() as world:
        client = await world.accepted()
        client.send(post(b"1"))
        await until(lambda: bool(world.streams.waiting))
        before = world.server.connections
        client.writer.transport.abort()
        await until(lambda: world.server.connections < before)
        world.streams.answer()
        other = await begun(world, post(b"2"))
        world.streams.answer()
        assert await other.status() == 204


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("error", "status"),
    [(Overloaded("too much"), 429), (OutcomeUnknown("who knows"), 409), (RuntimeError("a bug"), 500)],
)
def test_failures_are_told(error: Exception, status: int, at_once: bool, caplog: pytest.LogCaptureFixture) -> None:
    @run
    async def test() -> None:
        async with served() as world:
            client = await world.connect()
            if at_once:
                world.streams.refuses = error
                client.send(post(b"1"))
            else:
                client.send(post(b"1"))
                await until(lambda: bool(world.streams.waiting))
                world.streams.waiting.pop()[1].tell(error)
            assert await client.status() == status

    with caplog.at_level(logging.ERROR):
        test()
    assert bool(caplog.records) == (not isinstance(error, ClusterError))


@pytest.mark.parametrize(
    ("more", "status"),
    [(b"producer-id: p\r\n", 400), (b"content-type: text/plain\r\n", 400), (b"stream-seq: \r\n", 400)],
)
def test_what_breaks_a_rule_is_told_which(more: bytes, status: int) -> None:
    @run
    async def test() -> None:
        async with served() as world:
            client = await world.connect()
            client.send(post(b"1", more))
            found, _, body = await client.response()
            assert found == status
            assert b'"code":"bad_request"' in body
            assert not world.streams.waiting

    test()
