"""Our SDK over HTTP, against the npm reference server: it has no codes of ours, and streams wherever one likes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from durable_streams_client import Client, ProducerLimits, Stream
from durable_streams_client import errors as e
from durable_streams_client.types import AppendRequest, ProducerBatch
from tests.gateway.serving import until
from tests.server import ReferenceServer, running

Script = Callable[[Client, Stream], Awaitable[None]]
TEXT = "text/plain"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("reference")
    with running(ReferenceServer(folder, durable=False)) as server:
        yield f"{server.url}/events"


def play(url: str, script: Script, content_type: str = TEXT) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Client(url, timeout_s=20) as client:
            stream = client.stream(uuid4().hex, content_type=content_type)
            await stream.create()
            await script(client, stream)

    asyncio.run(main())


async def fails(call: Awaitable[Any], kind: type[e.DurableStreamError], says: str = "") -> None:
    with pytest.raises(e.DurableStreamError) as raised:
        await call
    assert type(raised.value) is kind, raised.value
    assert says in str(raised.value)


def test_what_goes_wrong_has_its_name(url: str) -> None:
    async def script(client: Client, stream: Stream) -> None:
        nowhere = client.stream("no/such", content_type=TEXT)
        for call in (nowhere.head(), nowhere.read(), nowhere.append("x"), nowhere.close(), nowhere.delete()):
            await fails(call, e.StreamNotFoundError, "/events/no/such")
        await fails(nowhere.fork(f"{stream.path}/f"), e.ForkSourceError)
        await fails(stream.create(ttl_s=1), e.StreamExistsError)
        await fails(stream.append(""), e.BadRequestError)
        await fails(stream.read("no offset"), e.BadRequestError)
        await stream.append("x", stream_seq="5")
        await fails(stream.append("x", stream_seq="5"), e.SeqConflictError)
        await fails(client.stream(stream.path, content_type="a/b").append("x"), e.ContentTypeMismatchError)
        gap = AppendRequest(stream.path, b"x", TEXT, producer=ProducerBatch("p", 0, 3))
        await fails(client.transport.begin_append(gap, 10), e.SequenceGapError)
        await stream.fork(f"{stream.path}/f")
        await stream.close()
        await fails(stream.append("x"), e.StreamClosedError)
        await stream.delete()
        for call in (stream.head(), stream.append("x"), stream.delete()):
            await fails(call, e.StreamDeletedError)

    play(url, script)


def test_a_producer_writes_once_and_claims_and_closes(url: str) -> None:
    async def script(client: Client, stream: Stream) -> None:
        numbers = list(range(200))
        async with stream.producer("p", epoch=4, limits=ProducerLimits(batch_records=7)) as producer:
            for number in numbers:
                await producer.append(number)
        assert (await stream.read()).json() == numbers
        old, claims = stream.producer("p", epoch=4), stream.producer("p", auto_claim=True)
        for each in (old, claims):
            await each.append("more")
        await fails(old.flush(), e.ProducerFencedError)
        assert (await claims.close_stream()).closed
        assert claims.epoch == 5
        assert (await stream.read()).json() == [*numbers, "more"]
        await fails(stream.producer("q").close_stream(), e.StreamClosedError)

    play(url, script, "application/json")


def test_a_follower_reads_what_comes_until_the_end(url: str) -> None:
    async def script(client: Client, stream: Stream) -> None:
        await stream.append("before ")
        pages = stream.follow()
        assert (await anext(pages)).text() == "before "
        following = asyncio.ensure_future(anext(pages))
        await until(lambda: pages.up_to_date)
        await stream.append("after ")
        assert (await following).text() == "after "
        await stream.append("last", close=True)
        assert [page.text() async for page in pages] == ["last"]
        assert (pages.closed, pages.offset) == (True, (await stream.head()).offset)

    play(url, script)
