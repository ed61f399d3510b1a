"""Each record once and in order: numbers, batches, what is sent again and what is not."""

import asyncio
from typing import Any

import pytest

from durable_streams_client import Producer, ProducerLimits
from durable_streams_client import errors as e
from durable_streams_client.types import AppendResult
from tests.client.fake import FakeTransport, client_of, settle
from tests.runtime.world import simulate

ONE = ProducerLimits(batch_records=1, in_flight=3)


def made(fake: FakeTransport, limits: ProducerLimits = ONE, content_type: str | None = None, **more: Any) -> Producer:
    return client_of(fake).stream("s", content_type=content_type).producer("me", limits=limits, **more)


async def put(producer: Producer, *records: Any) -> list["asyncio.Future[AppendResult]"]:
    return [await producer.append(record) for record in records]


def test_what_gathers_while_others_are_under_way_leaves_as_one_batch() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(in_flight=1))
        first = await put(producer, "a")
        await settle()
        rest = await put(producer, b"b", "c", "d")
        await settle()
        assert [request.body for request, _ in fake.appends] == [b"a"]
        fake.answer(0, "1")
        await settle()
        assert [request.body for request, _ in fake.appends] == [b"a", b"bcd"]
        fake.answer(1, "4")
        await producer.flush()
        assert [(await ack).next_offset for ack in first + rest] == ["1", "4", "4", "4"]
        assert fake.seqs() == [0, 1]
        assert {request.producer.epoch for request, _ in fake.appends if request.producer} == {0}

    simulate(main)


def test_messages_become_an_array() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(linger_s=1), "application/json")
        await put(producer, {"a": 1}, [1, 2], "text", b'{"raw":true}')
        flushing = asyncio.ensure_future(producer.flush())
        await settle()
        fake.answer(0, "1")
        await flushing
        assert fake.appends[0][0].body == b'[{"a":1},[1,2],"text",{"raw":true}]'
        with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
            await producer.append(float("nan"))

    simulate(main)


def test_a_record_waits_for_others_no_longer_than_it_may() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(linger_s=2))
        await put(producer, "a")
        await asyncio.sleep(1.5)
        await put(producer, "b")
        assert fake.appends == []
        await asyncio.sleep(0.6)
        assert [request.body for request, _ in fake.appends] == [b"ab"]

    simulate(main)


def test_an_append_waits_for_room() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(batch_records=1, buffered_bytes=10))
        await put(producer, "x" * 6, "x" * 4)
        third = asyncio.ensure_future(producer.append("y"))
        await settle()
        assert not third.done()
        fake.answer(0, "6")
        await settle()
        assert third.done()
        large = asyncio.ensure_future(producer.append("z" * 100))
        await settle()
        fake.answer(1, "10")
        fake.answer(2, "11")
        await settle()
        assert large.done(), "one that is larger than all the room there is has it alone"

    simulate(main)


def test_batches_behind_one_that_was_refused_go_again_once_it_is_stored() -> None:
    """The transport sends the first one again by itself; the others are told that it is missing."""

    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        acks = await put(producer, "a", "b", "c")
        fake.answer(2, e.SequenceGapError("", expected_seq=0, received_seq=2))
        fake.answer(1, e.SequenceGapError("", expected_seq=0, received_seq=1))
        await settle()
        assert fake.seqs() == [0, 1, 2]
        fake.answer(0, "1")
        await settle()
        assert fake.seqs() == [0, 1, 2, 1, 2]
        fake.answer(3, "2")
        fake.answer(4, "3")
        await producer.flush()
        assert [(await ack).next_offset for ack in acks] == ["1", "2", "3"]

    simulate(main)


def test_a_gap_that_nothing_fills_is_the_end() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        acks = await put(producer, "a", "b")
        fake.answer(0, "1")
        await settle()
        fake.answer(1, e.SequenceGapError("lost", expected_seq=0, received_seq=1))
        with pytest.raises(e.SequenceGapError):
            await acks[1]
        assert (await acks[0]).next_offset == "1"
        with pytest.raises(e.SequenceGapError):
            await producer.append("c")

    simulate(main)


@pytest.mark.parametrize(
    "error", [e.ProducerFencedError("", 7), e.StreamClosedError(""), e.StreamNotFoundError(""), e.UnavailableError("")]
)
def test_what_fails_for_good_fails_everything_that_is_not_stored(error: e.DurableStreamError) -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(in_flight=1, buffered_bytes=3))
        acks = await put(producer, "a")
        await settle()
        acks += await put(producer, "b", "c")
        waiting = asyncio.ensure_future(producer.append("d"))
        await settle()
        fake.answer(0, error)
        await settle()
        assert [ack.exception() for ack in acks] == [error] * 3
        assert waiting.exception() is error
        for call in (producer.flush, producer.aclose):
            with pytest.raises(type(error)):
                await call()
        assert len(fake.appends) == 1

    simulate(main)


def test_what_another_run_wrote_is_not_taken_for_stored() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        (ack,) = await put(producer, "a")
        fake.answer(0, AppendResult("9", duplicate=True))
        with pytest.raises(e.ProducerFencedError, match=r"'me' wrote in epoch 0 before.*auto_claim=True"):
            await ack

    simulate(main)


@pytest.mark.parametrize(
    ("answer", "epoch"), [(AppendResult("9", duplicate=True), 1), (e.ProducerFencedError("", epoch=4), 5)]
)
def test_it_finds_an_epoch_of_its_own_if_it_may(answer: AppendResult | Exception, epoch: int) -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, auto_claim=True)
        await put(producer, "a", "b")
        fake.answer(0, answer)
        fake.answer(1, e.SequenceGapError("of the old epoch", 0, 1))
        await settle()
        again = [(request.producer, request.body) for request, _ in fake.appends[2:]]
        assert [(batch and (batch.epoch, batch.seq), body) for batch, body in again] == [
            ((epoch, 0), b"a"),
            ((epoch, 1), b"b"),
        ]
        fake.answer(2, "1")
        fake.answer(3, e.ProducerFencedError("another took over", epoch + 1))
        with pytest.raises(e.ProducerFencedError, match="another took over"):
            await producer.flush()

    simulate(main)


def test_it_ends_with_everything_stored_and_takes_no_more() -> None:
    async def main() -> None:
        fake = FakeTransport()
        async with made(fake) as producer:
            (ack,) = await put(producer, "a")
            asyncio.get_running_loop().call_later(1, fake.answer, 0, "1")
        assert ack.done()
        with pytest.raises(e.ClientClosedError):
            await producer.append("b")
        assert fake.timeouts == [120.0]

    simulate(main)


@pytest.mark.parametrize(("record", "error"), [(b"", ValueError), ("", ValueError), (1, TypeError), (None, TypeError)])
def test_a_record_is_something_that_a_stream_holds(record: Any, error: type[Exception]) -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        with pytest.raises(error):
            await producer.append(record)
        await producer.flush()
        assert fake.appends == []

    simulate(main)


def test_a_body_that_throws_sends_nothing_more() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(linger_s=9))

        async def body() -> None:
            async with producer:
                await put(producer, "a")
                raise KeyError

        with pytest.raises(KeyError):
            await body()
        await asyncio.sleep(10)
        assert fake.appends == []
        with pytest.raises(e.ClientClosedError):
            await producer.append("b")

    simulate(main)


@pytest.mark.parametrize("wrong", [{"batch_bytes": 0}, {"in_flight": -1}, {"linger_s": -0.1}])
def test_limits_are_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        ProducerLimits(**wrong)
