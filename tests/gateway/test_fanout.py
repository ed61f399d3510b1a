"""Readers who stand at the same end: told together, each everything once and in order, whatever the others do."""

import asyncio
from random import Random
from typing import Any

import pytest

from durable_streams_cluster.api import From
from durable_streams_cluster.gateway import fanout, sse
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.streams.offsets import Offset
from tests.gateway.asgi import Exchange
from tests.peers.asking import begin, control, data, delete, post, put, target
from tests.peers.asking import sse as open_sse
from tests.runtime.world import World, settle, simulate, started


def counted(world: World) -> list[Offset | From]:
    """Where the streams are read from now on."""
    read, seen = world.streams.read, []

    async def noting(path: str, at: Offset | From, max_bytes: int | None = None, *, fresh: bool = True) -> Any:
        seen.append(at)
        return await read(path, at, max_bytes, fresh=fresh)

    world.streams.read = noting  # type: ignore[method-assign]
    return seen


async def gone(world: World, *readers: Exchange) -> None:
    """These leave; nothing of them stays."""
    for reader in readers:
        reader.leave()
        await reader.finish()
    assert world.driver.tails.paths == []


def test_what_comes_is_read_once_and_pushed_to_each() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        readers = [await open_sse(world, "s") for _ in range(fanout.SLICE + 2)]
        reads = counted(world)
        for text in ("two", "three"):
            await post(world, "s", text)
            await settle()
        assert len(reads) == 2
        for reader in readers:
            assert (data(reader), reader.pushed) == ("onetwothree", 2)
            assert control(reader)["upToDate"] is True
        await gone(world, *readers)

    simulate(main)


def test_others_go_on_between_two_slices() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        readers = [await open_sse(world, "s") for _ in range(2 * fanout.SLICE)]
        told: list[int] = []

        async def look() -> None:
            while len(told) < 50:
                told.append(sum(reader.pushed for reader in readers))
                await asyncio.sleep(0)

        looking = asyncio.ensure_future(look())
        await post(world, "s", "two")
        await looking
        assert fanout.SLICE in told
        await gone(world, *readers)

    simulate(main)


def test_a_client_that_takes_nothing_goes_on_alone_from_where_it_stands() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        slow, other = await open_sse(world, "s"), await open_sse(world, "s")
        slow.full = True
        for text in ("two", "three"):
            await post(world, "s", text)
            await settle()
        assert (data(slow), data(other), other.pushed) == ("one", "onetwothree", 2)
        slow.take()
        await settle()
        assert (data(slow), slow.pushed) == ("onetwothree", 0)
        await post(world, "s", "four")
        await settle()
        assert (slow.pushed, other.pushed) == (1, 3), "it stands beside the other again"
        assert data(slow) == data(other) == "onetwothreefour"
        await gone(world, slow, other)

    simulate(main)


def test_who_has_not_taken_what_was_pushed_reads_nothing_more() -> None:
    """What it read would be held, and counted nowhere, for as long as it takes nothing."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        slow, other = await open_sse(world, "s"), await open_sse(world, "s")
        slow.fills = True
        reads = counted(world)
        for text in ("two", "three", "four"):
            await post(world, "s", text)
            await settle()
        assert (data(slow), slow.pushed, other.pushed) == ("onetwo", 1, 3)
        assert len(reads) == 3, "those of both together"
        slow.fills = False
        slow.take()
        await settle()
        assert data(slow) == data(other) == "onetwothreefour"
        await gone(world, slow, other)

    simulate(main)


def test_who_asks_for_what_is_beyond_the_end_holds_up_nobody() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        beyond = await open_sse(world, "s", str(Offset(1, 1_000)))
        readers = [await open_sse(world, "s") for _ in range(3)]
        await post(world, "s", "two")
        await settle()
        assert [reader.pushed for reader in readers] == [1, 1, 1]
        assert [data(reader) for reader in readers] == ["onetwo"] * 3
        assert data(beyond) == ""
        await gone(world, beyond, *readers)

    simulate(main)


def test_many_cursors_are_each_kept_though_not_all_events_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MADE_BYTES", 100)

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        far = [await begin(world, f"GET {target('s')}?offset=-1&live=sse&cursor={9 * 10**7 + n}") for n in range(9)]
        before = [control(reader)["streamCursor"] for reader in far]
        await post(world, "s", "two")
        await settle()
        assert [control(reader)["streamCursor"] for reader in far] == before
        assert [(reader.pushed, data(reader)) for reader in far] == [(1, "onetwo")] * 9
        await gone(world, *far)

    simulate(main)


def test_each_keeps_to_its_own_cursor() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        near = await open_sse(world, "s")
        far = await begin(world, f"GET {target('s')}?offset=-1&live=sse&cursor=99999999")
        ahead = int(control(far)["streamCursor"])
        assert ahead > 99999999 > int(control(near)["streamCursor"])
        await post(world, "s", "two")
        await settle()
        assert (near.pushed, far.pushed) == (1, 1)
        assert int(control(far)["streamCursor"]) == ahead
        assert int(control(near)["streamCursor"]) < 99999999
        await gone(world, near, far)

    simulate(main)


@pytest.mark.parametrize("last", ["", "two"])
def test_the_end_of_the_stream_ends_all(last: str) -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        readers = [await open_sse(world, "s") for _ in range(3)]
        await post(world, "s", last, "stream-closed: true")
        await settle()
        for reader in readers:
            assert reader.done
            assert (data(reader), control(reader)["streamClosed"]) == ("one" + last, True)
        assert world.driver.tails.paths == []

    simulate(main)


def test_another_stream_at_the_path_is_told_to_nobody() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        readers = [await open_sse(world, "s") for _ in range(3)]
        await delete(world, "s")
        await put(world, "s", "another")
        for reader in readers:
            await reader.finish()
            assert data(reader) == "one"

    simulate(main)


def test_who_is_ahead_of_the_others_waits_apart_and_is_told_nothing_twice() -> None:
    """It came when the others had not been told yet: what they are waiting to read, it has."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        first = await open_sse(world, "s")
        read, held = world.streams.read, asyncio.Event()

        async def slow(path: str, at: Offset | From, max_bytes: int | None = None, *, fresh: bool = True) -> Any:
            if not fresh:
                await held.wait()
            return await read(path, at, max_bytes, fresh=fresh)

        world.streams.read = slow  # type: ignore[method-assign]
        await post(world, "s", "two")
        await settle()
        ahead = await open_sse(world, "s")
        assert (data(first), data(ahead)) == ("one", "onetwo")
        held.set()
        await settle()
        assert data(first) == data(ahead) == "onetwo"
        for text in ("three", "four"):
            await post(world, "s", text)
            await settle()
        assert data(first) == data(ahead) == "onetwothreefour"
        assert (first.pushed, ahead.pushed) == (3, 1), "from the next on they stand together"
        await gone(world, first, ahead)

    simulate(main)


def test_what_is_large_is_told_to_each_alone() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        readers = [await open_sse(world, "s") for _ in range(3)]
        large = "x" * (sse.SLICE_BYTES + 1)
        await post(world, "s", large)
        await settle()
        assert [(data(reader) == "one" + large, reader.pushed) for reader in readers] == [(True, 0)] * 3
        await post(world, "s", "small")
        await settle()
        assert [reader.pushed for reader in readers] == [1] * 3
        await gone(world, *readers)

    simulate(main)


def test_who_was_told_together_is_kept_alive_from_then_on() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        reader = await open_sse(world, "s")
        silence = Limits().sse_keepalive_s
        await asyncio.sleep(silence * 0.75)
        await post(world, "s", "two")
        await asyncio.sleep(silence * 0.75)
        assert sse.KEEP_ALIVE not in reader.pieces, "it was told something meanwhile"
        await asyncio.sleep(silence * 0.5)
        assert reader.pieces[-1] == sse.KEEP_ALIVE
        await gone(world, reader)

    simulate(main)


def test_without_the_extension_each_is_sent_what_comes() -> None:
    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        reader = Exchange("GET", target("s").encode() + b"?offset=-1&live=sse", [(b"host", b"h")], [b""])
        reader.offers = False
        reader.begin(world.app)
        await settle()
        await post(world, "s", "two")
        await settle()
        assert (data(reader), reader.pushed) == ("onetwo", 0)
        await gone(world, reader)

    simulate(main)


def test_whatever_happens_each_has_all_from_where_it_began(seed: int) -> None:
    """Readers come, leave, stop taking and go on, while appends come, some of them large."""

    async def main() -> None:
        random = Random(seed)
        world = await started()
        await put(world, "s", "")
        whole, number = "", 0
        readers: list[Exchange] = []
        for _ in range(60):
            match random.choice(("append", "append", "come", "leave", "stop", "take", "settle", "wait")):
                case "append":
                    number += 1
                    text = f"{number};" + "x" * random.choice((0, 0, 0, sse.SLICE_BYTES))
                    whole += text
                    await post(world, "s", text)
                case "come" if len(readers) < 8:
                    reader = await begin(world, f"GET {target('s')}?offset=-1&live=sse")
                    readers.append(reader)
                case "leave" if readers:
                    reader = readers.pop(random.randrange(len(readers)))
                    reader.take()
                    reader.leave()
                    await reader.finish()
                    assert whole.startswith(data(reader))
                case "stop" if readers:
                    random.choice(readers).full = True
                case "take" if readers:
                    random.choice(readers).take()
                case "wait":
                    await asyncio.sleep(random.choice((0.1, 20.0)))
                case "settle":
                    await settle()
            readers = [each for each in readers if not each.done]
        for reader in readers:
            reader.take()
        await settle()
        for reader in readers:
            assert reader.done or data(reader) == whole
        await gone(world, *(reader for reader in readers if not reader.done))

    simulate(main)
