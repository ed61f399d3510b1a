"""Each record once and in order: numbers, batches, what is sent again and what is not."""

import asyncio
import gc
from typing import Any

import pytest

from durable_streams_client import Producer, ProducerLimits
from durable_streams_client import errors as e
from durable_streams_client._batching import RECORD_COST
from durable_streams_client.types import AppendResult
from tests.client.fake import FakeTransport, client_of, settle
from tests.runtime.world import simulate

ONE = ProducerLimits(batch_records=1, in_flight=3)


def made(fake: FakeTransport, limits: ProducerLimits = ONE, content_type: str | None = None, **more: Any) -> Producer:
    return client_of(fake).stream("s", content_type=content_type).producer("me", limits=limits, **more)


async def begun(fake: FakeTransport, producer: Producer) -> None:
    """The first batch is stored: from now on several may be under way."""
    await put(producer, "0")
    await settle()
    fake.answer(0, "0")
    await settle()
    fake.appends.clear()


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


@pytest.mark.parametrize("epoch", [-1, 2**53])
def test_an_epoch_that_no_server_takes_is_told_at_once(epoch: int) -> None:
    """Over gRPC nothing can say it, and a batch that could not be sent would be one whose outcome is unknown."""
    with pytest.raises(ValueError, match="epoch must be from 0"):
        made(FakeTransport(), epoch=epoch)


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
        room = 2 * RECORD_COST + 10
        producer = made(fake, ProducerLimits(batch_records=1, buffered_bytes=room))
        await begun(fake, producer)
        await put(producer, "x" * 6, "x" * 4)
        third = asyncio.ensure_future(producer.append("y"))
        await settle()
        assert not third.done()
        fake.answer(0, "6")
        await settle()
        assert third.done()
        large = asyncio.ensure_future(producer.append("z" * 1000))
        await settle()
        fake.answer(1, "10")
        fake.answer(2, "11")
        await settle()
        assert large.done(), "one that is larger than all the room there is has it alone"

    simulate(main)


def test_no_more_are_under_way_than_may_be_and_one_until_the_first_is_stored() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ONE)
        await put(producer, *"abcdefgh")
        await settle()
        assert fake.seqs() == [0]
        fake.answer(0, "1")
        await settle()
        assert fake.seqs() == [0, 1, 2, 3]
        fake.answer(1, "2")
        await settle()
        assert fake.seqs() == [0, 1, 2, 3, 4]

    simulate(main)


def test_batches_behind_one_that_was_refused_go_again_once_it_is_stored() -> None:
    """The transport sends the first one again by itself; the others are told that it is missing."""

    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        await begun(fake, producer)
        acks = await put(producer, "a", "b", "c")
        fake.answer(2, e.SequenceGapError("", expected_seq=1, received_seq=3))
        fake.answer(1, e.SequenceGapError("", expected_seq=1, received_seq=2))
        await settle()
        assert fake.seqs() == [1, 2, 3]
        fake.answer(0, "1")
        await settle()
        assert fake.seqs() == [1, 2, 3, 2, 3]
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
        producer = made(fake, ProducerLimits(in_flight=1, buffered_bytes=3 * (RECORD_COST + 1)))
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
        await settle()
        fake.answer(1, "1")
        await settle()
        again = [(request.producer, request.body) for request, _ in fake.appends[1:]]
        assert [(batch and (batch.epoch, batch.seq), body) for batch, body in again] == [
            ((epoch, 0), b"a"),
            ((epoch, 1), b"b"),
        ]
        fake.answer(2, e.ProducerFencedError("another took over", epoch + 1))
        with pytest.raises(e.ProducerFencedError, match="another took over"):
            await producer.flush()

    simulate(main)


RESENT = e.ProducerFencedError("epoch 4 was seen", epoch=4)
RESENT.resent = True


@pytest.mark.parametrize("answer", [AppendResult("9", duplicate=True, resent=True), RESENT])
@pytest.mark.parametrize("auto_claim", [False, True])
def test_a_first_batch_that_was_sent_twice_may_be_its_own_duplicate(answer: Any, *, auto_claim: bool) -> None:
    """It was stored and its answer lost; or it never arrived, and another run was here."""

    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, auto_claim=auto_claim)
        await put(producer, "a")
        fake.answer(0, answer)
        kind = e.ProducerFencedError if answer is RESENT and not auto_claim else e.OutcomeUnknownError
        with pytest.raises(kind):
            await producer.flush()
        assert len(fake.appends) == 1

    simulate(main)


def test_under_a_name_that_nobody_had_before_a_duplicate_is_its_own() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = client_of(fake).stream("s", content_type="text/plain").producer()
        (ack,) = await put(producer, "a")
        await settle()
        fake.answer(0, AppendResult("1", duplicate=True, resent=True))
        assert (await ack).next_offset == "1"

    simulate(main)


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError()])
def test_whatever_else_goes_wrong_is_told(error: Exception) -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        await put(producer, "a")
        fake.answer(0, error)
        with pytest.raises(e.OutcomeUnknownError, match=type(error).__name__):
            await producer.flush()

    simulate(main)


def test_the_end_of_the_client_is_its_end() -> None:
    async def main() -> None:
        fake = FakeTransport()
        client = client_of(fake)
        stream = client.stream("s", content_type="text/plain")
        gathers = stream.producer(limits=ProducerLimits(batch_bytes=10, linger_s=1))
        (ack,) = await put(gathers, "12345")
        waits = stream.producer("me", limits=ONE, auto_claim=True)
        await put(waits, "1", "2")
        fake.answer(0, e.ProducerFencedError("", 4))
        await client.aclose()
        with pytest.raises(e.ClientClosedError):
            await gathers.append("1234567")
        with pytest.raises(e.ClientClosedError):
            await ack
        await settle()
        with pytest.raises(e.ClientClosedError):
            await waits.flush()

    simulate(main)


def test_nothing_is_left_that_nobody_looked_at() -> None:
    seen: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["message"]))
        fake = FakeTransport()
        producer = made(fake)
        await begun(fake, producer)
        await put(producer, "a", "b", "c")
        for number in range(3):
            fake.answer(number, e.StreamClosedError(""))
        await settle()
        fake.appends.clear()
        gc.collect()
        await settle()

    simulate(main)
    assert seen == []


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


def test_it_closes_the_stream_behind_everything_that_it_took() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake, ProducerLimits(linger_s=9))
        await put(producer, "a", "b")
        closing = [asyncio.ensure_future(producer.close_stream()) for _ in range(2)]
        await settle()
        assert [(request.body, request.close) for request, _ in fake.appends] == [(b"ab", False)]
        fake.answer(0, "2")
        await settle()
        request = fake.appends[1][0]
        assert (request.body, request.close, request.content_type, fake.seqs()) == (b"", True, None, [0, 1])
        with pytest.raises(e.ClientClosedError):
            await producer.append("c")
        closing.append(asyncio.ensure_future(producer.close_stream()))
        await settle()
        fake.answer(1, AppendResult("2", closed=True))
        assert [(await each).closed for each in closing] == [True, True, True]
        await producer.aclose()
        assert len(fake.appends) == 2, "it is closed once"

    simulate(main)


def test_one_that_was_fenced_off_closes_nothing() -> None:
    async def main() -> None:
        fake = FakeTransport()
        producer = made(fake)
        await begun(fake, producer)
        closing = asyncio.ensure_future(producer.close_stream())
        await settle()
        fake.answer(0, e.ProducerFencedError("", 4))
        for each in (closing, producer.close_stream(), producer.flush()):
            with pytest.raises(e.ProducerFencedError):
                await each

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
