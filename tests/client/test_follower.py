"""A reader that goes on where it was."""

import asyncio
from pathlib import Path

import pytest

from durable_streams_client import FileOffsetStore, Follower
from durable_streams_client import errors as e
from durable_streams_client.types import Page
from tests.client.fake import FakeTransport, client_of
from tests.runtime.world import simulate


def page(
    data: bytes, start: str, end: str, *, up_to_date: bool = False, closed: bool = False, stream: str = "1", **more: str
) -> Page:
    bodies = (data,) if data else ()
    return Page(bodies, start, end, up_to_date, closed, more.get("content_type", "text/plain"), 0, stream)


def following(fake: FakeTransport, offset: str | None = None, **more: object) -> Follower:
    return client_of(fake).stream("s").follow(offset, **more)  # type: ignore[arg-type]


BROKEN = e.UnavailableError("gone")


def test_it_goes_on_behind_the_last_page_whatever_breaks() -> None:
    async def main() -> None:
        fake = FakeTransport()
        fake.pages = [
            [page(b"1", "-1", "1"), BROKEN],
            [BROKEN],
            [],
            [page(b"", "1", "1", up_to_date=True), page(b"2", "1", "2", up_to_date=True)],
            [page(b"", "2", "2", closed=True)],
        ]
        follower = following(fake)
        assert [each.data async for each in follower] == [b"1", b"2"]
        assert fake.followed == ["-1", "1", "1", "1", "2"]
        assert (follower.offset, follower.closed) == ("2", True)
        assert [each async for each in follower] == [], "it ended"

    simulate(main)


def test_what_cannot_be_mended_is_told() -> None:
    async def main() -> None:
        for error in (e.StreamNotFoundError(""), e.RetentionGoneError("", "7")):
            fake = FakeTransport()
            fake.pages = [[page(b"1", "-1", "1"), error]]
            follower = following(fake)
            await anext(follower)
            with pytest.raises(type(error)):
                await anext(follower)

    simulate(main)


def test_what_may_be_mended_by_waiting_is_waited_for() -> None:
    async def main() -> None:
        fake = FakeTransport()
        fake.pages = [[e.OverloadedError("", retry_after_s=7)], [page(b"1", "-1", "1")]]
        begun = asyncio.get_running_loop().time()
        assert (await anext(following(fake))).data == b"1"
        assert asyncio.get_running_loop().time() - begun >= 7

    simulate(main)


def test_another_stream_at_the_same_path_is_not_the_one_that_is_read() -> None:
    async def main() -> None:
        fake = FakeTransport()
        fake.pages = [[page(b"1", "-1", "1"), BROKEN], [page(b"2", "1", "2", stream="2")]]
        follower = following(fake)
        await anext(follower)
        with pytest.raises(e.StreamNotFoundError, match="another one has its place"):
            await anext(follower)

    simulate(main)


def test_its_patience_may_end() -> None:
    async def main() -> None:
        fake = FakeTransport()
        fake.pages = [[page(b"1", "-1", "1"), BROKEN], *([BROKEN] for _ in range(100))]
        follower = following(fake, patience_s=10)
        begun = asyncio.get_running_loop().time()
        await anext(follower)
        with pytest.raises(e.UnavailableError, match="gone; waited for 10 s"):
            await anext(follower)
        assert 8 <= asyncio.get_running_loop().time() - begun <= 10

    simulate(main)


def test_it_says_how_far_behind_it_is() -> None:
    async def main() -> None:
        fake = FakeTransport()
        fake.pages = [[Page((b"1",), "-1", "1", False, False, "text/plain", 7), page(b"2", "1", "2", up_to_date=True)]]
        follower = following(fake)
        await anext(follower)
        assert (follower.lag_bytes, follower.up_to_date) == (7, False)
        await anext(follower)
        assert (follower.lag_bytes, follower.up_to_date) == (0, True)
        await follower.aclose()

    simulate(main)


def test_a_character_in_two_appends_comes_whole() -> None:
    async def main() -> None:
        smile = "\N{SLIGHTLY SMILING FACE}".encode()
        fake = FakeTransport()
        fake.pages = [[page(b"a" + smile[:2], "-1", "1"), page(smile[2:], "1", "2", closed=True)]]
        assert [text async for text in following(fake).iter_text()] == ["a", smile.decode()]

    simulate(main)


def test_messages_come_one_by_one() -> None:
    async def main() -> None:
        fake = FakeTransport()
        json = "application/json; charset=utf-8"
        fake.pages = [
            [page(b'1,{"a":2}', "-1", "1", content_type=json), page(b"3", "1", "2", closed=True, content_type=json)]
        ]
        assert [each async for each in following(fake).iter_json()] == [1, {"a": 2}, 3]
        fake.pages = [[page(b"x", "-1", "1", closed=True)]]
        with pytest.raises(ValueError, match="text/plain has no JSON messages"):
            await anext(following(fake).iter_json())

    simulate(main)


def test_it_goes_on_where_it_said_that_it_was(tmp_path: Path) -> None:
    store = FileOffsetStore(tmp_path / "offsets.json")

    async def main() -> None:
        fake = FakeTransport()
        fake.pages = [[page(b"1", "-1", "1"), page(b"2", "1", "2"), page(b"3", "2", "3")]]
        async with following(fake, store=store, name="worker-1") as follower:
            async for each in follower:
                if each.data == b"2":
                    await follower.commit()
                if each.data == b"3":
                    break
        fake.pages = [[page(b"3", "2", "3", closed=True)], [page(b"1", "-1", "1", closed=True)]]
        assert [each.data async for each in following(fake, store=store, name="worker-1")] == [b"3"]
        assert [each.data async for each in following(fake, store=store, name="worker-2")] == [b"1"]
        assert fake.followed == ["-1", "2", "-1"]
        with pytest.raises(ValueError, match="has no store"):
            await following(fake).commit()

    asyncio.run(main())

    async def called_off() -> None:
        for number in range(20):
            saving = asyncio.ensure_future(store.save("worker-1", str(number)))
            await asyncio.sleep(0)
            saving.cancel()
            await store.save("worker-2", str(number))
        assert await store.load("worker-2") == "19"

    asyncio.run(called_off())
    (tmp_path / "offsets.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no offsets"):
        asyncio.run(store.load("worker-1"))
