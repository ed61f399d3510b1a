"""``api.Streams`` elsewhere: what is asked for once, in which order, how much at a time, and how failures are told."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from durable_streams_client import errors
from durable_streams_client.types import AppendResult, CreateResult
from durable_streams_cluster.answer import Told
from durable_streams_cluster.api import From, Page
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown, Overloaded, StorageFull, Unavailable
from durable_streams_cluster.gateway.remote.streams import COMMAND_BYTES, RemoteStreams
from durable_streams_cluster.limits import MIB, Limits
from durable_streams_cluster.streams.commands import Append, Create, Delete, Producer
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.outcomes import Appended, Created, Deleted, NotFound, StreamClosed
from tests.gateway.remote.playing import play
from tests.gateway.remote.watcher import Watcher
from tests.gateway.remote.wire import Gateway
from tests.runtime.world import append, content, create, settle, simulate


def reading(gateway: Gateway, at: Offset | From = From.START) -> "asyncio.Task[Any]":
    return asyncio.ensure_future(gateway.streams.read("s", at))


# --- Reads.


def test_the_same_read_is_asked_once_for_all_who_ask_while_it_waits() -> None:
    async def script(gateway: Gateway) -> None:
        gateway.node.delay_of["Read"] = 1
        first = reading(gateway)
        await settle()
        others = [reading(gateway) for _ in range(50)]
        await asyncio.gather(first, *others)
        assert gateway.node.asked["Read"] == 2
        pages = {id(each.result()) for each in others}
        assert len(pages) == 1
        assert id(first.result()) not in pages
        elsewhere = [reading(gateway, From.NOW), reading(gateway, START)]
        await asyncio.gather(*elsewhere)
        assert gateway.node.asked["Read"] == 4

    play(script)


def test_nobody_gets_what_was_read_before_he_asked() -> None:
    """Something may have been stored in between, and he may know."""

    async def script(gateway: Gateway) -> None:
        gateway.node.delay_of["reply to Read"] = 1
        before = reading(gateway)
        await settle()
        await gateway.world.streams.append(append("s", b"one"))
        later = [reading(gateway), reading(gateway)]
        assert (await before).bodies == []
        await settle()
        await gateway.world.streams.append(append("s", b"two"))
        last = [reading(gateway), reading(gateway)]
        assert [(await each).bodies for each in later] == [[b"one"]] * 2
        assert [(await each).bodies for each in last] == [[b"one", b"two"]] * 2
        assert gateway.node.asked["Read"] == 3

    play(script)


def test_who_asks_in_the_turn_in_which_an_answer_comes_gets_his_own() -> None:
    """Wherever in that turn: the read is over, and those who wait for the next have not begun it."""

    async def script(gateway: Gateway) -> None:
        for turns in range(12):
            gateway.node.delay_of["reply to Read"] = 1
            first = reading(gateway)
            await settle()
            waiting = reading(gateway)
            first.add_done_callback(lambda _: None)
            await asyncio.sleep(0.999999999)
            for _ in range(turns):
                await asyncio.sleep(0.0000000001)
            await gateway.world.streams.append(append("s", b"%x" % turns))
            written = await content(gateway.world, "s")
            last = reading(gateway)
            assert b"".join((await last).bodies) == written
            await waiting
            await settle()
            assert (gateway.streams._running, gateway.streams._following) == ({}, {})

    play(script)


def test_who_goes_away_takes_no_answer_from_others() -> None:
    async def script(gateway: Gateway) -> None:
        gateway.node.delay_of["Read"] = 1
        tasks = [reading(gateway) for _ in range(6)]
        await settle()
        for each in (tasks[0], tasks[1], tasks[3]):
            each.cancel()
        await asyncio.wait(tasks)
        assert [each.cancelled() for each in tasks] == [True, True, False, True, False, False]
        everybody = [reading(gateway), reading(gateway)]
        await settle()
        for each in everybody:
            each.cancel()
        await asyncio.sleep(3)

    play(script)


def test_what_fails_fails_for_all_who_wait_and_not_for_the_next() -> None:
    async def script(gateway: Gateway) -> None:
        gateway.node.reaches = False
        failing = [reading(gateway) for _ in range(3)]
        await asyncio.wait(failing)
        assert [type(each.exception()) for each in failing] == [Unavailable] * 3
        lonely = reading(gateway)
        await settle()
        lonely.cancel()
        await asyncio.sleep(60)
        gateway.node.reaches = True
        assert isinstance(await reading(gateway), Page)

    play(script)


def test_who_is_ahead_of_the_upstream_read_is_told_how_much_more_there_is() -> None:
    async def script(gateway: Gateway) -> None:
        await gateway.world.streams.append(append("s", b"a" * MIB))
        early = Watcher(gateway.streams)
        await settle()
        gateway.node.delay_of["reply to Follow"] = 5
        await gateway.world.streams.append(append("s", b"b" * MIB))
        late = Watcher(gateway.streams)
        await asyncio.sleep(1)
        assert [(page.bodies[0][:1], page.up_to_date) for page in late.pages] == [(b"a", False), (b"b", True)]
        assert early.got == b"a" * MIB
        await asyncio.sleep(5)
        assert early.got == late.got
        assert gateway.node.asked["Read"] == 3
        await early.leave()
        await late.leave()

    play(script)


def test_what_is_here_is_read_here_unless_it_is_to_be_fresh() -> None:
    async def script(gateway: Gateway) -> None:
        await gateway.world.streams.append(append("s", b"zero"))
        watcher = Watcher(gateway.streams)
        await settle()
        await gateway.world.streams.append(append("s", b"one"))
        await settle()
        reads = gateway.node.asked["Read"]
        zero, one = (watcher.pages[number].next for number in (0, -1))
        for at in (zero, one):
            assert isinstance(await gateway.streams.read("s", at, fresh=False), Page)
        assert gateway.node.asked["Read"] == reads
        for at in (From.START, From.NOW, START):
            assert isinstance(await gateway.streams.read("s", at, fresh=False), Page)
        assert isinstance(await gateway.streams.read("s", one), Page)
        assert gateway.node.asked["Read"] == reads + 4
        await watcher.leave()

    play(script)


# --- Writes.

TEXT = "text/plain"


def test_writes_leave_in_the_order_in_which_they_were_asked_for() -> None:
    async def script(gateway: Gateway) -> None:
        streams = gateway.streams
        for round_ in range(3):
            answers = [
                streams.create(Create("t", TEXT, None, None, False, b"first", None)),
                streams.append(append("t", b"second")),
                streams.append(Append("t", None, b"", True, None, None)),
                streams.append(append("t", b"never")),
                streams.delete(Delete("t")),
                streams.append(append("t", b"gone")),
                streams.create(Create("t", TEXT, None, None, False, b"again", None)),
                streams.append(append("t", b"!")),
                streams.delete(Delete("t")),
            ]
            kinds = [type(await each) for each in answers]
            expected = [Created, Appended, Appended, StreamClosed, Deleted, NotFound, Created, Appended, Deleted]
            assert kinds == expected, round_
        assert gateway.node.asked["Write"] == 1

    play(script)


def test_no_more_is_under_way_than_may_be() -> None:
    limits = replace(Limits(), max_append_bytes=1000, max_inflight_bytes=8000, max_pending_proposals=4)

    async def script(gateway: Gateway) -> None:
        streams = gateway.streams
        gateway.node.delay = lambda: 1.0
        bodies = [b"x" * 1000, b"x" * 900, b"y"]
        answers = [streams.append(append("s", body)) for body in bodies]
        held = sum(len(body) + COMMAND_BYTES for body in bodies)
        assert (streams.waiting, streams.inflight_bytes) == (3, held)
        with pytest.raises(Overloaded, match="nothing was stored"):
            streams.append(append("s", b"z" * (8001 - held - COMMAND_BYTES)))
        answers.append(streams.delete(Delete("nothing")))
        with pytest.raises(Overloaded):
            streams.delete(Delete("nothing"))
        with pytest.raises(Overloaded):
            streams.create(create("t"))
        assert (streams.waiting, streams.inflight_bytes) == (4, held + COMMAND_BYTES)
        assert [type(await each) for each in answers] == [Appended, Appended, Appended, NotFound]
        assert (streams.waiting, streams.inflight_bytes) == (0, 0)
        alone = streams.append(append("s", b"z" * 7900))
        with pytest.raises(Overloaded):
            streams.append(append("s", b"z"))
        assert isinstance(await alone, Appended)

    play(script, limits)


def test_where_nobody_answers_nothing_was_stored() -> None:
    async def script(gateway: Gateway) -> None:
        gateway.node.reaches = False
        answers = [gateway.streams.append(append("s")), gateway.streams.create(create("t"))]
        for each in answers:
            with pytest.raises(Unavailable, match="nothing was stored"):
                await each
        gateway.node.reaches = True
        assert isinstance(await gateway.streams.append(append("s")), Appended)
        assert await content(gateway.world, "s") == b"x"

    play(script)


def test_what_breaks_is_sent_again_where_that_does_no_harm() -> None:
    async def script(gateway: Gateway) -> None:
        gateway.node.delay_of["reply to Write"] = 1
        batch = Append("s", TEXT, b"batch.", False, None, Producer("me", 0, 0))
        answers = [gateway.streams.append(each) for each in (append("s", b"plain."), batch)]
        answers += [gateway.streams.create(create("t")), gateway.streams.delete(Delete("nothing"))]
        await gateway.world.streams.create(create("u"))
        answers.append(gateway.streams.append(Append("u", None, b"", True, None, None)))
        await settle()
        gateway.node.break_off()
        with pytest.raises(OutcomeUnknown):
            await answers[0]
        told = [await each for each in answers[1:]]
        assert [type(each) for each in told] == [Appended, Created, Deleted, Appended]
        assert await content(gateway.world, "s") == b"plain.batch."

    play(script)


# --- What is told when something fails: all of it, at once or later.


class Fails:
    """A transport that raises, at once or later."""

    def __init__(self, what: Any, *, at_once: bool) -> None:
        self.what, self.at_once = what, at_once
        self.futures: list[asyncio.Future[Any]] = []

    def begin_append(self, request: object, timeout_s: float) -> "asyncio.Future[Any]":
        if self.at_once:
            raise self.what
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        asyncio.get_running_loop().call_later(1, self._end, future)
        return future

    create = delete = begin_append

    def _end(self, future: "asyncio.Future[Any]") -> None:
        if isinstance(self.what, asyncio.CancelledError):
            future.cancel()
        elif isinstance(self.what, Exception):
            future.set_exception(self.what)
        else:
            future.set_result(self.what)

    async def read(self, *_: object) -> Any:
        raise self.what

    head = list_streams = read


def _error(kind: type[errors.DurableStreamError]) -> errors.DurableStreamError:
    if kind is errors.ForkSourceError:
        return errors.ForkSourceError("said", "source_deleted")
    if issubclass(kind, errors._AtOffset):
        return kind("said", str(START))  # type: ignore[call-arg]
    return kind("said")


KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.DurableStreamError) and not kind.__name__.startswith("_")
]
WRITES: list[Callable[[RemoteStreams], Any]] = [
    lambda streams: streams.append(append("s")),
    lambda streams: streams.create(create("s")),
    lambda streams: streams.delete(Delete("s")),
]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_told(kind: type[errors.DurableStreamError], at_once: bool) -> None:
    async def main() -> None:
        error = _error(kind)
        streams = RemoteStreams(Fails(error, at_once=at_once), Limits())  # type: ignore[arg-type]
        for write in WRITES:
            told: list[Told] = []
            try:
                write(streams).then(told.append)
            except ClusterError as raised:
                told.append(raised)
            await asyncio.sleep(2)
            assert len(told) == 1
            assert (streams.waiting, streams.inflight_bytes) == (0, 0)
            if isinstance(told[0], Exception):
                assert isinstance(told[0], ClusterError | BadRequest)
            assert isinstance(told[0], OutcomeUnknown) == error.maybe_applied
            assert isinstance(told[0], Overloaded) == (kind is errors.OverloadedError)
            assert isinstance(told[0], StorageFull) == (kind is errors.StorageFullError)
        for read in (streams.read("s", START), streams.head("s"), streams.list_streams("", "", 1)):
            (failed,) = await asyncio.gather(read, return_exceptions=True)
            assert not isinstance(failed, Page)
            if isinstance(failed, Exception):
                assert isinstance(failed, ClusterError | BadRequest)

    simulate(main)


@pytest.mark.parametrize(
    "what",
    [
        asyncio.CancelledError(),
        ValueError("what"),
        AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), "what"),
        AppendResult("no offset"),
        CreateResult(False, TEXT, "", False, None, None),
        errors.StreamClosedError("closed, who knows where"),
    ],
    ids=["cancelled", "a fault", "of gRPC", "no offset", "an empty offset", "an error without its offset"],
)
def test_nobody_is_left_without_an_answer(what: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        streams = RemoteStreams(Fails(what, at_once=False), Limits())  # type: ignore[arg-type]
        for write in WRITES:
            with pytest.raises(OutcomeUnknown, match="it may or may not be stored"):
                await asyncio.wait_for(write(streams), 5)
        assert (streams.waiting, streams.inflight_bytes) == (0, 0)

    simulate(main)
    assert caplog.text.count("a write failed") == len(WRITES)
