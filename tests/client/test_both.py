"""The same over gRPC and HTTP, against a node: what the SDK does, and how it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from durable_streams_client import NOW, Client, ProducerLimits, Stream
from durable_streams_client import errors as e
from durable_streams_client.types import AppendRequest, ProducerBatch
from tests.gateway.serving import until
from tests.server import LOOPBACK, Server, running_server

Script = Callable[[Client, str], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--in-memory", "--max-append-bytes", "100KiB") as one:
        yield one


@pytest.fixture(params=["grpc", "http"])
def target(request: pytest.FixtureRequest, server: Server) -> str:
    if request.param == "http":
        return f"http://{LOOPBACK}:{server.ports['http']}"
    return f"{LOOPBACK}:{server.ports['grpc']}"


def play(target: str, script: Script, **settings: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Client(target, **settings) as client:
            await script(client, uuid4().hex)

    asyncio.run(main())


async def text_stream(client: Client, path: str, *records: str) -> Stream:
    stream = client.stream(path, content_type="text/plain")
    await stream.create()
    for record in records:
        await stream.append(record)
    return stream


def test_a_stream_is_created_written_read_and_deleted(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = client.stream(f"{path}/\u00e9 ?#%")
        made = await stream.create(content_type="text/plain", ttl_s=60, body="zero ")
        assert (made.existed, made.content_type, made.ttl_s, made.closed) == (False, "text/plain", 60, False)
        assert (await stream.create(content_type="text/plain", ttl_s=60)).existed
        first = await stream.append(b"one ")
        last = await stream.append("two", close=True)
        assert (first.closed, last.closed, first.duplicate) == (False, True, False)
        head = await stream.head()
        assert (head.content_type, head.offset, head.closed, head.ttl_s) == ("text/plain", last.next_offset, True, 60)
        page = await stream.read()
        assert (page.text(), page.next_offset, page.up_to_date, page.closed) == (
            "zero one two",
            last.next_offset,
            True,
            True,
        )
        rest = await stream.read(first.next_offset)
        assert (rest.data, rest.lag_bytes) == (b"two", 0)
        assert (await stream.read(NOW)).data == b""
        await stream.delete()
        with pytest.raises(e.StreamNotFoundError):
            await stream.head()

    play(target, script)


def test_messages_are_what_was_appended(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = client.stream(path)
        await stream.create(content_type="application/json", expires_at_ms=4_000_000_000_123)
        assert (await stream.head()).expires_at_ms == 4_000_000_000_123
        other = client.stream(path)  # It asks what type the stream is of.
        await other.append({"say": "h\u00e9"})
        await other.append([1, [2]])
        await other.append(b'[3, "raw"]')
        assert (await stream.read()).json() == [{"say": "h\u00e9"}, [1, [2]], 3, "raw"]
        await stream.close()
        assert [each async for each in stream.follow().iter_json()] == [{"say": "h\u00e9"}, [1, [2]], 3, "raw"]

    play(target, script)


def test_forks_and_lists(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        source = await text_stream(client, f"{path}/a", "one ", "two ")
        middle = (await source.read()).next_offset
        await source.append("three")
        fork = await source.fork(f"{path}/b", offset=middle)
        assert fork.content_type == "text/plain"
        await fork.append("other")
        part = await source.fork(f"{path}/c", offset="-1", sub_offset=2)
        assert [(await each.read()).text() for each in (source, fork, part)] == [
            "one two three",
            "one two other",
            "on",
        ]
        listed = [each async for each in client.list(f"{path}/")]
        assert [each.path for each in listed] == [f"{path}/{name}" for name in "abc"]
        assert listed[0].content_type == "text/plain"
        assert [each.path async for each in client.list(f"{path}/", after=f"{path}/b")] == [f"{path}/c"]

    play(target, script)


def test_a_follower_gets_what_comes_until_the_stream_is_closed(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = await text_stream(client, path, "0")

        async def write() -> None:
            for number in range(1, 6):
                await stream.append(str(number))
            await stream.close()

        writing = asyncio.ensure_future(write())
        follower = stream.follow()
        assert "".join([page.text() async for page in follower]) == "012345"
        assert (follower.closed, follower.up_to_date, follower.lag_bytes) == (True, True, 0)
        assert follower.offset == (await stream.head()).offset
        await writing

    play(target, script)


def test_a_producer_writes_each_record_once_and_in_order(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = await text_stream(client, path)
        async with stream.producer(limits=ProducerLimits(batch_records=7)) as producer:
            acks = [await producer.append(f"{number}\n") for number in range(500)]
        text = (await stream.read()).text()
        assert text.split() == [str(number) for number in range(500)]
        ends = [(await ack).next_offset for ack in acks]
        assert ends == sorted(ends)
        one = ProducerLimits(batch_records=1)
        again = stream.producer(producer.id, limits=one)
        for number in range(4):
            await again.append(str(number))
        with pytest.raises(e.ProducerFencedError, match="wrote in epoch 0 before"):
            await again.flush()
        async with stream.producer(producer.id, auto_claim=True, limits=one) as claims:
            for number in range(4):
                await claims.append(str(number))
        assert claims.epoch == 1
        assert (await stream.read()).text() == f"{text}0123"

    play(target, script)


def test_a_producer_closes_the_stream_unless_another_took_over(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = await text_stream(client, path)
        old, new = stream.producer("p"), stream.producer("p", epoch=1)
        for producer in (old, new):
            await producer.append("x")
            await producer.flush()
        with pytest.raises(e.ProducerFencedError):
            await old.close_stream()
        await new.append("x")
        end = await new.close_stream()
        head = await stream.head()
        assert (end.closed, head.closed, end.next_offset) == (True, True, head.offset)
        assert (await stream.read()).text() == "xxx"
        with pytest.raises(e.StreamClosedError):
            await stream.producer().close_stream()

    play(target, script)


async def raw(client: Client, **request: Any) -> Any:
    return await client.transport.begin_append(AppendRequest(**request), 10)


def batch(epoch: int, seq: int) -> ProducerBatch:
    return ProducerBatch("p", epoch, seq)


async def fails(call: Awaitable[Any], kind: type[e.DurableStreamError], says: str, **fields: object) -> None:
    with pytest.raises(e.DurableStreamError) as raised:
        await call
    assert type(raised.value) is kind, raised.value
    assert says in str(raised.value)
    assert (raised.value.retryable, raised.value.maybe_applied) == (kind.retryable, kind.maybe_applied)
    for name, value in fields.items():
        assert getattr(raised.value, name) == value


def test_each_thing_that_can_go_wrong_is_an_error_of_its_own(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = await text_stream(client, path)
        type_ = "text/plain"
        await raw(client, path=path, body=b"x", content_type=type_, producer=batch(3, 0), stream_seq=None)
        await fails(
            raw(client, path=path, body=b"x", content_type=type_, producer=batch(2, 0)),
            e.ProducerFencedError,
            "epoch 3 of this producer was seen",
            epoch=3,
        )
        await fails(
            raw(client, path=path, body=b"x", content_type=type_, producer=batch(3, 5)),
            e.SequenceGapError,
            "batch 1 comes before batch 5",
            expected_seq=1,
            received_seq=5,
        )
        await fails(
            raw(client, path=path, body=b"x", content_type=type_, producer=batch(4, 5)),
            e.SequenceGapError,
            "a new epoch begins with",
            expected_seq=0,
        )
        await fails(
            raw(client, path=path, body=b"{}", content_type="application/json"),
            e.ContentTypeMismatchError,
            "the stream holds text/plain",
            content_type="text/plain",
        )
        await fails(stream.append("x" * 200_000), e.TooLargeError, "body is larger than 102400 bytes", field="body")
        await fails(client.stream("no/such").read(), e.StreamNotFoundError, "no stream at this path")
        await fails(client.stream("no/such").head(), e.StreamNotFoundError, "")
        await fails(client.stream("no/such").append("x"), e.StreamNotFoundError, "")
        await fails(client.stream(path, content_type="text/html").create(), e.StreamExistsError, "another Content-Type")
        await stream.append("x", stream_seq="5")
        await fails(stream.append("x", stream_seq="4"), e.SeqConflictError, "must be above '5'")
        end = (await stream.head()).offset
        await fails(stream.append("x", if_match=f"{9:016d}_{9:016d}"), e.OffsetMismatchError, "ends at", offset=end)
        await stream.append("y", if_match=end)
        await fails(stream.read("7"), e.BadRequestError, "offset must be -1, now, or an offset", field="offset")
        await fails(stream.read(f"{9:016d}_{9:016d}"), e.RetentionGoneError, "read from -1")
        await fails(client.stream("a//b").create(), e.BadRequestError, "path has an empty segment", field="path")
        await fails(client.stream("x" * 2000).create(), e.BadRequestError, "path is longer than 1024 bytes")
        await fails(client.stream("no/such").fork(f"{path}/f"), e.ForkSourceError, "", code="source_not_found")
        messages = client.stream(f"{path}/j")
        await messages.create(content_type="application/json")
        await fails(messages.append(b"{"), e.InvalidJsonError, "body is not JSON", field="body")
        await stream.fork(f"{path}/f")
        end = (await stream.head()).offset
        await stream.close()
        await fails(stream.append("x"), e.StreamClosedError, "this stream is closed", offset=end)
        await stream.delete()
        await fails(stream.read(), e.StreamDeletedError, "its forks still need its data")
        await fails(stream.head(), e.StreamDeletedError, "")

    play(target, script)


def test_a_handle_keeps_its_type_when_a_follower_ends(target: str) -> None:
    async def script(client: Client, path: str) -> None:
        stream = client.stream(path)
        await stream.create(content_type="application/json")
        follower = stream.follow()
        following = asyncio.ensure_future(anext(follower))
        await until(lambda: follower.up_to_date)
        await client.stream(path).close()
        with pytest.raises(StopAsyncIteration):
            await following
        assert stream.content_type == "application/json"

    play(target, script)


def test_the_end_of_a_client_is_told_to_its_followers(target: str) -> None:
    async def main() -> None:
        client = Client(target)
        stream = client.stream(uuid4().hex, content_type="text/plain")
        await stream.create()
        follower = stream.follow()
        following = asyncio.ensure_future(anext(follower))
        await until(lambda: follower.up_to_date)
        await client.aclose()
        with pytest.raises(e.DurableStreamError):
            async with asyncio.timeout(10):
                await following

    asyncio.run(main())


def test_nobody_there_is_told_within_the_time_that_was_given() -> None:
    async def script(client: Client, path: str) -> None:
        await fails(client.stream(path).head(), e.UnavailableError, "")
        await fails(client.stream(path, content_type="a/b").append("x"), e.UnavailableError, "")

    for target in (f"{LOOPBACK}:1,{LOOPBACK}:2", f"http://{LOOPBACK}:1"):
        play(target, script, timeout_s=0.5)


def test_a_client_is_of_one_event_loop(target: str) -> None:
    client = Client(target)

    async def use() -> None:
        await client.stream("s", content_type="text/plain").create()

    async def end() -> None:
        await client._transport.aclose()

    with asyncio.Runner() as runner:
        runner.run(use())
        with pytest.raises(e.ClientClosedError, match=r"another event loop; make one in each .* lifespan hook"):
            asyncio.run(use())
        runner.run(client.aclose())
        with pytest.raises(e.ClientClosedError, match="was closed"):
            runner.run(use())


def test_a_target_is_an_address_or_a_url() -> None:
    for wrong in ("", " , ", []):
        with pytest.raises(ValueError, match="names no node"):
            Client(wrong)
    for token in ("abc\n", "", "\u00e9"):
        with pytest.raises(ValueError, match="the token has characters that none has"):
            Client("a:1", token=token)
    with pytest.raises(ValueError, match="a URL is the only target"):
        Client(["http://a", "http://b"])
