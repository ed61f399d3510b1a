"""A producer against the rules of PROTOCOL 5.2.1, behind a transport that refuses, loses answers, and sends again."""

import asyncio
from dataclasses import replace
from random import Random

import pytest

from durable_streams_client import ProducerLimits
from durable_streams_client import errors as e
from durable_streams_client.types import AppendRequest, AppendResult
from tests.client.fake import FakeTransport, client_of, settle
from tests.client.test_producer import put
from tests.runtime.world import simulate


class Server:
    """What a stream knows of one producer; the transport before it loses answers, refuses, and sends again."""

    def __init__(self, fake: FakeTransport, chance: Random, epoch: int, last: int) -> None:
        self.fake, self.chance = fake, chance
        self.epoch, self.last = epoch, last
        self.stored: list[bytes] = []
        self.resent: dict[int, bool] = {}

    def take(self, request: AppendRequest) -> AppendResult | e.DurableStreamError:
        batch = request.producer
        assert batch is not None
        if batch.epoch < self.epoch:
            return e.ProducerFencedError("", self.epoch)
        if batch.epoch > self.epoch:
            if batch.seq:
                return e.SequenceGapError("", 0, batch.seq)
            self.epoch, self.last = batch.epoch, -1
        if batch.seq <= self.last:
            return AppendResult("d", duplicate=True)
        if batch.seq > self.last + 1:
            return e.SequenceGapError("", self.last + 1, batch.seq)
        self.last = batch.seq
        self.stored.append(request.body)
        return AppendResult(str(len(self.stored)))

    def step(self) -> bool:
        """Whether something is under way: one of what is, not always the oldest, comes a step further."""
        open_ = [number for number, (_, future) in enumerate(self.fake.appends) if not future.done()]
        if not open_:
            return False
        number = self.chance.choice(open_)
        what = self.chance.random()
        if what < 0.3:
            return True  # It is refused for a moment, and sent again.
        if what < 0.5:
            self.resent[number] = True
            if self.chance.random() < 0.5:
                self.take(self.fake.appends[number][0])  # It arrived, and its answer did not.
            return True
        answer = self.take(self.fake.appends[number][0])
        if self.resent.get(number):
            if isinstance(answer, AppendResult):
                answer = replace(answer, resent=True)
            else:
                answer.resent = True
        self.fake.answer(number, answer)
        return True


@pytest.mark.parametrize("number", range(200))
def test_each_record_is_stored_once_and_in_order_or_it_is_told(number: int) -> None:
    async def main() -> None:
        chance, fake = Random(number), FakeTransport()
        before = chance.choice([-1, -1, 0, 3])
        server = Server(fake, chance, 0, before)
        fresh = before < 0 and chance.random() < 0.5
        stream = client_of(fake).stream("s", content_type="text/plain")
        limits = ProducerLimits(batch_records=1, in_flight=chance.choice([1, 2, 4]))
        producer = stream.producer(None if fresh else "me", auto_claim=chance.random() < 0.5, limits=limits)
        records = [b"%d;" % each for each in range(12)]
        acks = await put(producer, *records)
        flushing = asyncio.ensure_future(producer.flush())
        while not flushing.done():
            await settle()
            assert server.step() or flushing.done()
        error = flushing.exception()
        assert server.stored == records[: len(server.stored)], "in order, each once"
        if error is None:
            assert server.stored == records
        else:
            assert isinstance(error, e.ProducerFencedError | e.OutcomeUnknownError)
            assert not fresh
            stored = [ack for ack in acks if ack.exception() is None]
            assert len(stored) <= len(server.stored)
            if isinstance(error, e.ProducerFencedError) and not error.resent:
                assert server.stored == []

    simulate(main)
