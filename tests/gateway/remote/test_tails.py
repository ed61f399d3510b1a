"""One upstream read for each stream that is followed: how it begins, breaks, goes on and ends, and what it keeps."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from durable_streams_client import errors
from durable_streams_client.types import Page
from durable_streams_cluster.api import From
from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.gateway.remote import tails
from durable_streams_cluster.gateway.remote.tails import CUT_OFF_S, LINGER_S, TAIL_BYTES, Tail, Tails
from durable_streams_cluster.limits import MIB, Limits
from durable_streams_cluster.streams.offsets import START
from durable_streams_cluster.streams.outcomes import NotFound
from tests.gateway.remote.playing import append, close, create, delete, gone, play, watched
from tests.gateway.remote.watcher import Watcher
from tests.gateway.remote.wire import Gateway, broken_off
from tests.runtime.world import settle, simulate

# --- One for all.


def test_however_many_read_one_stream_it_is_read_once() -> None:
    async def script(gateway: Gateway) -> None:
        await append(gateway, b"begun.")
        watchers = await watched(gateway, 200)
        reads = gateway.node.asked["Read"]
        for number in range(20):
            await append(gateway, b"%d." % number)
            await settle()
        assert {each.got for each in watchers} == {b"begun." + b"".join(b"%d." % number for number in range(20))}
        assert (gateway.node.asked["Follow"], gateway.node.asked["Read"] - reads) == (1, 0)
        assert len(gateway.streams.tails) == 1
        pages = {id(page) for each in watchers for page in each.pages if page.bodies}
        assert len(pages) == 1 + 1 + 20, "what was encoded for one is there for all"
        await gone(*watchers)

    play(script)


def test_each_stream_has_its_own() -> None:
    async def script(gateway: Gateway) -> None:
        await create(gateway, "t")
        one, other = await watched(gateway), await watched(gateway, path="t")
        await append(gateway, b"one")
        await append(gateway, b"other", "t")
        await settle()
        assert (one[0].got, other[0].got, gateway.node.asked["Follow"]) == (b"one", b"other", 2)
        await gone(*one, *other)

    play(script)


# --- It breaks, and goes on.


def test_it_goes_on_where_it_was() -> None:
    async def script(gateway: Gateway) -> None:
        (watcher,) = await watched(gateway)
        await append(gateway, b"one")
        await settle()
        for number in range(5):
            gateway.node.break_off()
            await append(gateway, b"%d" % number)
            await asyncio.sleep(3)
        assert watcher.got == b"one01234"
        starts = [f"{1:016d}_{position:016d}" for position in range(3, 8)]
        assert gateway.node.followed == ["now", *starts]
        assert gateway.streams.tails.broken == 5
        await gone(watcher)

    play(script)


def test_it_is_not_tried_in_a_loop() -> None:
    async def script(gateway: Gateway) -> None:
        (watcher,) = await watched(gateway)
        gateway.node.reaches = False
        gateway.node.break_off()
        await asyncio.sleep(10)
        assert gateway.node.asked["Follow"] < 17
        gateway.node.reaches = True
        await append(gateway, b"x")
        await asyncio.sleep(1.1)
        assert (watcher.got, watcher.ended) == (b"x", None)
        await gone(watcher)

    play(script)


def test_cut_off_for_long_readers_are_sent_away_and_taken_again_afterwards() -> None:
    async def script(gateway: Gateway) -> None:
        watchers = await watched(gateway, 3)
        gateway.node.reaches = False
        gateway.node.break_off()
        await asyncio.sleep(CUT_OFF_S - 0.1)
        assert [each.ended for each in watchers] == [None] * 3
        await asyncio.sleep(2)
        assert [type(each.ended) for each in watchers] == [Unavailable] * 3
        gateway.node.reaches = True
        again = await watched(gateway)
        await append(gateway, b"x")
        await asyncio.sleep(2)
        assert (again[0].got, again[0].ended) == (b"x", None)
        await gone(*again)

    play(script)


def test_that_there_is_no_stream_any_more_is_an_answer() -> None:
    async def script(gateway: Gateway) -> None:
        await watched(gateway)
        gateway.node.reaches = False
        gateway.node.break_off()
        await delete(gateway)
        await asyncio.sleep(CUT_OFF_S + 2)
        with pytest.raises(Unavailable):
            await gateway.streams.read("s", START, fresh=False)
        gateway.node.reaches = True
        await asyncio.sleep(1.1)
        assert await gateway.streams.read("s", START, fresh=False) == NotFound()

    play(script)


def test_who_comes_while_it_is_cut_off_is_sent_away_when_it_still_is() -> None:
    async def script(gateway: Gateway) -> None:
        (first,) = await watched(gateway)
        gateway.node.reaches = False
        gateway.node.break_off()
        late = Watcher(gateway.streams)
        await asyncio.sleep(CUT_OFF_S + 2)
        assert isinstance(first.ended, Unavailable)
        assert isinstance(late.ended, Unavailable)

    play(script)


def test_a_token_that_is_refused_is_said_and_tried_again() -> None:
    async def script(gateway: Gateway) -> None:
        (watcher,) = await watched(gateway)
        refused = AioRpcError(grpc.StatusCode.UNAUTHENTICATED, Metadata(), Metadata(), "expired")
        follow = gateway.node.Follow
        gateway.node.Follow = _raising(refused)  # type: ignore[method-assign]
        gateway.node.break_off()
        await asyncio.sleep(1)
        assert isinstance(watcher.ended, Unavailable)
        assert "does not take this gateway's token" in str(watcher.ended)
        gateway.node.Follow = follow  # type: ignore[method-assign]
        (again,) = await watched(gateway)
        await asyncio.sleep(1.5)
        await append(gateway, b"x")
        await settle()
        assert again.got == b"x"
        await gone(again)

    play(script)


def _raising(error: Exception) -> Any:
    class Call:
        async def __aiter__(self) -> Any:
            raise error
            yield

        def cancel(self) -> None:
            pass

    return lambda *_, **__: Call()


# --- What becomes of its stream.


def test_readers_of_a_closed_stream_are_told_and_nothing_is_left() -> None:
    async def script(gateway: Gateway) -> None:
        for body in (b"", b"last"):
            watchers = await watched(gateway, 3)
            await close(gateway, body)
            await settle()
            assert [(each.got, each.pages[-1].closed) for each in watchers] == [(body, True)] * 3
            await asyncio.sleep(0.1)
            assert len(gateway.streams.tails) == 0
            await delete(gateway)
            await create(gateway)

    play(script)


def test_a_stream_that_is_closed_after_its_readers_left() -> None:
    async def script(gateway: Gateway) -> None:
        await gone(*await watched(gateway))
        assert len(gateway.streams.tails) == 1
        await close(gateway)
        await settle()
        assert len(gateway.streams.tails) == 0

    play(script)


def test_readers_of_a_stream_that_is_deleted_are_told() -> None:
    async def script(gateway: Gateway) -> None:
        watchers = await watched(gateway, 3)
        await delete(gateway)
        await settle()
        assert [each.ended for each in watchers] == [NotFound()] * 3
        assert len(gateway.streams.tails) == 0

    play(script)


@pytest.mark.parametrize("before", [b"", b"before"])
def test_another_stream_in_its_place_is_not_taken_for_it(before: bytes) -> None:
    """Both empty, they end at one offset."""

    async def script(gateway: Gateway) -> None:
        await append(gateway, before) if before else None
        (watcher,) = await watched(gateway)
        gateway.node.break_off()
        await delete(gateway)
        await create(gateway)
        (other,) = await watched(gateway)
        await append(gateway, b"of the other")
        await asyncio.sleep(3)
        assert watcher.ended is not None
        assert watcher.got == before
        assert (other.got, other.ended) == (b"of the other", None)
        await gone(other)

    play(script)


def test_a_stream_that_is_created_while_somebody_asks() -> None:
    async def script(gateway: Gateway) -> None:
        assert await gateway.streams.read("t", From.START) == NotFound()
        with gateway.streams.watch("t"):
            await asyncio.sleep(3)
            await create(gateway, "t")
            (watcher,) = await watched(gateway, path="t")
            await append(gateway, b"x", "t")
            await asyncio.sleep(2)
            assert watcher.got == b"x"
            await gone(watcher)

    play(script)


def test_who_finds_another_stream_where_one_was_closed_is_told_what_comes_there() -> None:
    """He registered with the upstream read of the closed one, which ended while he read."""

    async def script(gateway: Gateway) -> None:
        await close(gateway)
        gateway.node.delay_of["Read"] = 0.5
        watcher = Watcher(gateway.streams)
        await asyncio.sleep(0.3)
        await delete(gateway)
        await create(gateway)
        await watcher.is_open.wait()
        gateway.node.delay_of.clear()
        await asyncio.sleep(2)
        assert watcher.ended is None
        await append(gateway, b"x")
        await asyncio.sleep(2)
        assert watcher.got == b"x"
        await gone(watcher)
        assert len(gateway.streams.tails) in (0, 1)

    play(script)


def test_a_closed_stream_that_somebody_is_slow_to_leave_is_not_read_in_a_loop() -> None:
    async def script(gateway: Gateway) -> None:
        with gateway.streams.watch("s") as watch:
            await settle()
            await close(gateway, b"last")
            await asyncio.sleep(20)
            assert await watch.wait(1)
            assert gateway.node.asked["Follow"] < 25
        assert len(gateway.streams.tails) == 0

    play(script)


# --- It stays for a while.


def test_the_next_reader_finds_it() -> None:
    async def script(gateway: Gateway) -> None:
        for _ in range(3):
            await gone(*await watched(gateway, 2))
            await asyncio.sleep(LINGER_S - 0.1)
        assert gateway.node.asked["Follow"] == 1
        await asyncio.sleep(0.2)
        await settle()
        assert (len(gateway.streams.tails), gateway.node.open) == (0, [])

    play(script)


def test_of_many_none_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for one stream after the other has no call open for each."""
    monkeypatch.setattr(tails, "MANY", 20)

    async def script(gateway: Gateway) -> None:
        for number in range(50):
            await create(gateway, f"p{number}")
            await gone(*await watched(gateway, path=f"p{number}"))
        assert len(gateway.streams.tails) == len(gateway.node.open) == 20

    play(script)


def test_it_renews_no_window_once_nobody_reads() -> None:
    async def script(gateway: Gateway) -> None:
        await create(gateway, "t", ttl_s=4)
        (watcher,) = await watched(gateway, path="t")
        await asyncio.sleep(20)
        assert watcher.ended is None, "an open read renews it"
        await gone(watcher)
        assert len(gateway.streams.tails) == 0
        await asyncio.sleep(6)
        assert await gateway.streams.read("t", From.START) == NotFound()

    play(script)


def test_who_leaves_twice_ends_no_other_reader() -> None:
    """One who read what was closed here before leaves late: the one that is here now does not know him."""

    async def script(gateway: Gateway) -> None:
        kept = gateway.streams.tails
        await gone(*await watched(gateway))
        await asyncio.sleep(5)
        kept.remove("s", "somebody")
        (watcher,) = await watched(gateway)
        await asyncio.sleep(LINGER_S)
        assert len(kept) == 1
        await append(gateway, b"x")
        await settle()
        assert watcher.got == b"x"
        await gone(watcher)

    play(script)


# --- What it keeps.


def test_all_of_them_keep_no_more_than_they_may() -> None:
    limits = Limits()
    most = limits.memory_budget // 8

    async def script(gateway: Gateway) -> None:
        kept = gateway.streams.tails
        paths = [f"p{number}" for number in range(60)]
        watchers = []
        for path in paths:
            await create(gateway, path)
            watchers += await watched(gateway, path=path)
        for path in paths:
            for _ in range(3):
                await append(gateway, b"x" * MIB, path)
                await settle()
            sizes = {each: kept.of(each).recent.size for each in paths}  # type: ignore[union-attr]
            assert sum(sizes.values()) == kept._size <= most
            assert sizes[path] == TAIL_BYTES
        full = [path for path in paths if sizes[path]]
        assert full == paths[-(most // TAIL_BYTES) :]
        for path in (full[0], paths[0]):
            await append(gateway, b"x" * MIB, path)
            await settle()
        sizes = {each: kept.of(each).recent.size for each in paths}  # type: ignore[union-attr]
        assert [path for path in paths if not sizes[path]] == [*paths[1 : -len(full)], full[1]], "the longest ago"
        assert {len(each.got) for each in watchers} == {3 * MIB, 4 * MIB}
        await gone(*watchers)

    play(script, limits)


def test_an_append_that_is_larger_than_what_one_keeps_is_read_all_the_same() -> None:
    async def script(gateway: Gateway) -> None:
        await append(gateway, b"begun")
        watchers = await watched(gateway, 5)
        await append(gateway, b"x" * (TAIL_BYTES + 1))
        await append(gateway, b"y")
        await settle()
        assert {each.got[-2:] for each in watchers} == {b"xy"}
        assert gateway.streams.tails._size == 1
        assert gateway.node.asked["Read"] <= 2 + 4, "for all of them together"
        await gone(*watchers)

    play(script)


# --- What should not be.


class Odd:
    """A transport whose pages are what a test says; each call of ``follow`` has the next ones."""

    def __init__(self, *calls: list[Any]) -> None:
        self.calls = list(calls)
        self.closed = 0

    async def follow(self, path: str, offset: str, max_bytes: int) -> AsyncGenerator[Page, None]:
        try:
            for each in self.calls.pop(0) if self.calls else ():
                if isinstance(each, Exception):
                    raise each
                yield each
            await asyncio.get_running_loop().create_future()
        finally:
            self.closed += 1


GOOD = Page((b"x",), f"{1:016d}_{0:016d}", f"{1:016d}_{1:016d}", True, False, "text/plain", 0, "1")


@pytest.mark.parametrize(
    "odd",
    [replace(GOOD, next_offset="what"), ValueError("what"), broken_off(), errors.OverloadedError("too many calls")],
    ids=["no offset", "a fault", "of gRPC", "overloaded"],
)
def test_nothing_that_comes_leaves_readers_behind(odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A tail that died would still be there, and its readers would wait for it."""

    async def main() -> None:
        transport = Odd([GOOD, odd], [GOOD])
        all_of_them = Tails(transport, MIB)  # type: ignore[arg-type]
        wakes = []
        all_of_them.register("s", "reader", lambda: wakes.append(1))
        await asyncio.sleep(5)
        tail = all_of_them.of("s")
        assert isinstance(tail, Tail)
        assert not tail.task.done()
        assert tail.recent.end is not None
        assert len(wakes) >= 1
        await all_of_them.aclose()
        await settle()
        assert transport.closed == 2

    simulate(main)
