"""Appends many records, each exactly once, in order (PROTOCOL 5.2.1): batches with numbers, several under way."""

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from durable_streams_client._batching import RECORD_COST, Accumulator, ProducerLimits
from durable_streams_client._encoding import encode_record
from durable_streams_client.errors import (
    ClientClosedError,
    DurableStreamError,
    OutcomeUnknownError,
    ProducerFencedError,
    SequenceGapError,
)
from durable_streams_client.types import AppendRequest, AppendResult, ProducerBatch, is_json

if TYPE_CHECKING:
    from durable_streams_client.client import Client
    from durable_streams_client.stream import Stream

Acknowledgement = asyncio.Future[AppendResult]
"""Of one record: where the batch that it is in ends, once that is stored."""


class _Batch:
    """One append: it keeps its number until it is acknowledged."""

    __slots__ = ("acks", "body", "closes", "cost", "is_sent", "seq", "waits")

    def __init__(self, seq: int, body: bytes, acks: list[Acknowledgement], cost: int, *, closes: bool = False) -> None:
        self.seq, self.body, self.acks, self.cost = seq, body, acks, cost
        self.closes = closes
        """It has no records, and closes the stream."""
        self.is_sent = False
        """It is under way, or was."""
        self.waits = False
        """It was refused because one before it is missing: it goes again when that one is stored."""


class Producer:
    """Of one stream. Made by ``Stream.producer``; a context manager that ends with everything acknowledged.

    ::

        async with stream.producer() as producer:
            for record in records:
                await producer.append(record)   # waits for room only

    A record is stored as it is: those of a stream of bytes have nothing between them, so bring what divides them (a
    line feed). When something fails for good, so does every record that was not acknowledged, and each later call.

    One batch is under way until the first is acknowledged: only then is it known that nobody else wrote under this id
    in this epoch. Else, with batches 0 to 3 of an earlier run stored, the new ones would be taken for these, the next
    would be stored, and the first four never.
    """

    def __init__(
        self,
        client: "Client",
        stream: "Stream",
        identity: str,
        epoch: int,
        *,
        is_fresh: bool,
        auto_claim: bool,
        limits: ProducerLimits,
    ) -> None:
        """``is_fresh``: nobody has had this ``identity`` before. Raises ValueError: no server takes this epoch."""
        if not 0 <= epoch < 2**53:
            raise ValueError("epoch must be from 0 to 2**53 - 1")
        self._client = client
        self._stream = stream
        self.id = identity
        self.epoch = epoch
        """Of what is sent now; with ``auto_claim`` it may grow until something was stored."""
        self._is_fresh = is_fresh
        self._auto_claim = auto_claim
        self._limits = limits
        self._gathering = Accumulator(limits)
        self._acks: list[Acknowledgement] = []
        """Of the records that gather."""
        self._unacknowledged: deque[_Batch] = deque()
        """In the order of their numbers; those that were not sent yet are last."""
        self._under_way = 0
        self._seq = 0
        self._buffered = 0
        self._has_stored = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._failure: DurableStreamError | None = None
        self._closed = False
        self._end: Acknowledgement | None = None
        """Of the batch that closes the stream."""

    async def append(self, record: Any) -> Acknowledgement:
        """Take one record; waits while there is no room, and not until it is stored.

        Args:
            record: of a JSON stream, a message: anything that ``json`` encodes, or ``bytes`` that are one; else
                ``bytes``, or a ``str`` that is stored as UTF-8.

        Returns:
            A future with the place where it is stored. It need not be awaited: ``flush`` raises what went wrong.

        Raises:
            DurableStreamError: an earlier record could not be stored; see ``flush``.
            TypeError, ValueError: it is nothing that the stream holds.

        """
        data = encode_record(record, self._stream.content_type or await self._stream.known_type())
        size = len(data)
        cost = size + RECORD_COST
        while self._buffered and self._buffered + cost > self._limits.buffered_bytes and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        self._check()
        gathering = self._gathering
        if not gathering.fits(size):
            self._cut()
            self._check()
        loop = asyncio.get_running_loop()
        ack: Acknowledgement = loop.create_future()
        gathering.add(data, loop.time())
        self._acks.append(ack)
        self._buffered += cost
        if gathering.is_full():
            self._cut()
        elif self._timer is None:
            self._leave_soon()
        return ack

    async def flush(self) -> None:
        """Return when every record that was taken is stored.

        Raises:
            ProducerFencedError: another one with this id took over, or wrote before.
            OutcomeUnknownError: nobody knows whether some were stored.
            DurableStreamError: the stream is closed or gone, nobody answers for ``delivery_timeout_s``, or the like.

        """
        self._cut()
        while self._buffered and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def close_stream(self) -> AppendResult:
        """Flush, let the stream take no more appends, for ever (PROTOCOL 5.3), and take no more.

        Unlike ``Stream.close`` this is one of the batches: one that was fenced off closes nothing, and neither does
        whoever comes after another one that closed it. Raises what ``flush`` does.
        """
        if self._end is None:
            await self.flush()
        if self._end is None:  # Nobody else began meanwhile.
            self._check()
            self._closed = True
            self._end = asyncio.get_running_loop().create_future()
            self._buffered += RECORD_COST
            self._unacknowledged.append(_Batch(self._seq, b"", [self._end], RECORD_COST, closes=True))
            self._seq += 1
            self._pump()
        return await asyncio.shield(self._end)

    async def aclose(self) -> None:
        """Flush, and take no more. Raises what ``flush`` does."""
        try:
            await self.flush()
        finally:
            self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.aclose()
        else:
            self._fail(ClientClosedError("this producer was given up; what was under way may yet be stored"))

    # --------------------------------------------------------------------------------------------------------- leaving

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise ClientClosedError("this producer was closed")

    @property
    def _may_send(self) -> bool:
        """Whether another batch may leave now."""
        return self._under_way < (self._limits.in_flight if self._has_stored else 1)

    def _leave_soon(self) -> None:
        """Let what gathers leave once it has waited for as long as it may, and others are out of the way."""
        if self._timer is None and self._gathering and self._may_send:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._gathering.waits_s(loop.time()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._may_send:
            self._cut()

    def _cut(self) -> None:
        """What gathers is a batch from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._gathering or self._failure is not None:
            return
        records, acks, self._acks = self._gathering.take(), self._acks, []
        assert self._stream.content_type is not None
        body = b"[" + b",".join(records) + b"]" if is_json(self._stream.content_type) else b"".join(records)
        cost = sum(map(len, records)) + RECORD_COST * len(records)
        self._unacknowledged.append(_Batch(self._seq, body, acks, cost))
        self._seq += 1
        self._pump()

    def _pump(self) -> None:
        """Send what may leave now."""
        for batch in list(self._unacknowledged):
            if self._failure is not None or not self._may_send:
                return
            if not batch.is_sent:
                self._send(batch)

    def _send(self, batch: _Batch) -> None:
        place = ProducerBatch(self.id, self.epoch, batch.seq)
        type_ = None if batch.closes else self._stream.content_type
        request = AppendRequest(self._stream.path, batch.body, type_, batch.closes, producer=place)
        try:
            sent = self._client.transport.begin_append(request, self._limits.delivery_timeout_s)
        except Exception as error:
            self._fail(_told(error))
            return
        batch.is_sent, batch.waits = True, False
        self._under_way += 1
        sent.add_done_callback(lambda done: self._answered(batch, done))

    # -------------------------------------------------------------------------------------------------------- outcomes

    def _answered(self, batch: _Batch, done: "asyncio.Future[AppendResult]") -> None:
        error = ClientClosedError("it was called off") if done.cancelled() else done.exception()
        self._under_way -= 1
        if self._failure is not None:
            return
        if error is None:
            self._stored(batch, done.result())
        elif isinstance(error, SequenceGapError) and self._waits_for_another(batch, error.expected_seq):
            batch.waits = True
        elif isinstance(error, ProducerFencedError) and self._may_claim:
            if error.resent:
                self._fail(OutcomeUnknownError(f"{error}; before that, this batch may have been stored"))
            else:
                self._claim(error.epoch + 1)
        else:
            self._fail(_told(error))

    def _waits_for_another(self, batch: _Batch, expected: int) -> bool:
        """Whether a batch before this one is yet to be stored: it was refused for a moment, and is sent again."""
        return self._unacknowledged[0].seq <= expected < batch.seq

    @property
    def _may_claim(self) -> bool:
        return self._auto_claim and not self._has_stored

    def _stored(self, batch: _Batch, result: AppendResult) -> None:
        if result.duplicate and not self._has_stored and not self._is_ours(result):
            return
        self._has_stored = True
        self._unacknowledged.remove(batch)
        self._buffered -= batch.cost
        for ack in batch.acks:
            if not ack.done():
                ack.set_result(result)
        for each in list(self._unacknowledged):
            if each.waits and self._failure is None:
                self._send(each)
        self._pump()
        self._leave_soon()
        self._changed.set()

    def _is_ours(self, result: AppendResult) -> bool:
        """Whether the first batch is a duplicate of itself, and not one of another run's; else that is seen to."""
        if self._is_fresh:
            return True
        if result.resent:
            self._fail(
                OutcomeUnknownError(
                    f"the first batch of producer {self.id!r} was stored in epoch {self.epoch} before: by a sending "
                    "whose answer was lost, or by another run. Look at the stream; and give each run a larger epoch"
                )
            )
        elif self._may_claim:
            self._claim(self.epoch + 1)
        else:
            self._fail(
                ProducerFencedError(
                    f"producer {self.id!r} wrote in epoch {self.epoch} before: nothing of what is sent was stored. "
                    "Give each run a larger epoch, or let it find one with auto_claim=True",
                    self.epoch,
                )
            )
        return False

    def _claim(self, epoch: int) -> None:
        """All of it again, in another epoch; nothing is under way in this one."""
        self.epoch = epoch
        for batch in self._unacknowledged:
            batch.is_sent = False
        self._pump()

    def _fail(self, error: DurableStreamError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        if self._timer is not None:
            self._timer.cancel()
        waiting = [ack for batch in self._unacknowledged for ack in batch.acks] + self._acks
        self._unacknowledged.clear()
        self._gathering.take()
        self._acks, self._buffered = [], 0
        for ack in waiting:
            if not ack.done():
                ack.set_exception(error)
                ack.exception()  # Whoever awaits it is told; whoever does not hears of it from the producer.
        self._changed.set()


def _told(error: BaseException) -> DurableStreamError:
    """What is told of it."""
    if isinstance(error, DurableStreamError):
        return error
    return OutcomeUnknownError(f"{type(error).__name__}: {error}; it may or may not have happened")
