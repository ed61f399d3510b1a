"""Writes to a cluster, on one call to one node at a time: batches out, replies in, and what is open sent again.

An operation is open until it has an outcome. When a call breaks, those of it that may happen twice without harm, and
those that never left, go out again in their order on the next call; of others nobody knows, and they fail.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import grpc

from durable_streams_client import _wire, errors
from durable_streams_client._retry import Backoff, may_end_in_time
from durable_streams_client._routing import Routes
from durable_streams_client.errors import DurableStreamError
from durable_streams_client.grpc_failures import failure_of
from durable_streams_client.types import AppendRequest, AppendResult, CreateRequest, CreateResult, DeleteRequest
from durable_streams_proto.v1 import streams_pb2 as pb

if TYPE_CHECKING:
    from durable_streams_proto.v1.streams_pb2_grpc import StreamsAsyncStub

Request = AppendRequest | CreateRequest | DeleteRequest
Metadata = tuple[tuple[str, str], ...]
_Call = "grpc.aio.StreamStreamCall[pb.WriteRequests, pb.WriteReplies]"

MOST_BYTES = "ds-max-append-bytes"
"""The server's metadata that says how large an append may be."""
OVERHEAD_BYTES = 128
"""Of a request, beside its body."""
CONNECT_S = 2.5
BATCH_BYTES = 256 * 1024
BATCH_REQUESTS = 512
"""What leaves in one message, at most; a larger append leaves alone."""


class _Open:
    """One operation."""

    __slots__ = ("future", "in_flight", "may_repeat", "number", "sent_s", "size", "timer", "unknown", "waits", "wire")

    def __init__(self, number: int, request: Request, timer: asyncio.TimerHandle) -> None:
        """Raises TypeError, ValueError: the request has a value that no field takes."""
        self.number, self.timer = number, timer
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.wire = _wire.write(number, request)
        self.size = OVERHEAD_BYTES + (len(request.body) if not isinstance(request, DeleteRequest) else 0)
        self.may_repeat = not isinstance(request, AppendRequest) or request.is_idempotent
        """Whether it may happen twice without harm."""
        self.in_flight = False
        """It was sent on this call, and is not answered."""
        self.sent_s = 0.0
        """When."""
        self.unknown = False
        """It was sent before, and nobody knows what became of that."""
        self.waits = False
        """It was refused for a moment, and is sent again after that."""


class Writer:
    """All writes of one client."""

    def __init__(
        self,
        routes: Routes,
        stub: Callable[[str], "StreamsAsyncStub"],
        metadata: Metadata,
        *,
        waits_for_room: bool = True,
    ) -> None:
        """As ``GrpcTransport``; ``stub`` gives that of a node, by its target, and ``metadata`` goes with each call."""
        self._waits_for_room = waits_for_room
        self._routes = routes
        self._stub = stub
        self._metadata = metadata
        self._open: dict[int, _Open] = {}
        self._unsent: deque[_Open] = deque()
        self._last = 0
        self._wake = asyncio.Event()
        """There is something to send."""
        self._running: asyncio.Task[None] | None = None
        self._backoff = Backoff(SystemRandom().random)
        self._leaves = False
        """The node that is written to does not serve: what it was given is waited for, and nothing more is."""
        self._moves = False
        """Another node leads, and is written to next; nothing is wrong with this one."""
        self._target: str | None = None
        """The node that is written to."""
        self._left = asyncio.Event()
        """The call is to be ended now."""
        self._answered_s = 0.0
        """When something was answered on this call, or it began."""
        self._trouble = ""
        """What was in the way last, for people."""
        self._most_bytes: int | None = None
        """Of one append, as the node says that is written to; None: it is not known yet."""
        self._closed = False

    def send(self, request: Request, timeout_s: float) -> "asyncio.Future[Any]":
        """Send a request in its turn; its future has an outcome after ``timeout_s`` (seconds) at the latest.

        Raises:
            ClientClosedError: it is not sent.
            TypeError, ValueError: the request has a value that no field takes.

        """
        if self._closed:
            raise errors.ClientClosedError("this client was closed")
        loop = asyncio.get_running_loop()
        number = self._last + 1
        timer = loop.call_later(timeout_s, self._too_late, number, timeout_s)
        try:
            operation = _Open(number, request, timer)
        except BaseException:
            timer.cancel()
            raise
        self._last = number
        self._open[number] = operation
        self._unsent.append(operation)
        self._wake.set()
        if self._running is None:
            self._running = loop.create_task(self._run(), name="durable-streams-writer")
        return operation.future

    def lead(self, target: str) -> None:
        """This node leads: go on there, once what was sent elsewhere is answered."""
        if self._target is not None and self._target != target:
            self._leaves = self._moves = True
            self._leave_if_done()

    async def aclose(self) -> None:
        """End the call; what is open is told so."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        for operation in list(self._open.values()):
            self._give_up(operation, "the client was closed", errors.ClientClosedError)

    # -------------------------------------------------------------------------------------------------------- outcomes

    def _settle(self, operation: _Open, outcome: _wire.Written) -> None:
        self._open.pop(operation.number, None)
        operation.timer.cancel()
        if operation.future.done():
            return  # Nobody waits any more.
        if isinstance(outcome, DurableStreamError):
            operation.future.set_exception(outcome.after_another() if operation.unknown else outcome)
        elif isinstance(outcome, AppendResult) and operation.unknown:
            operation.future.set_result(replace(outcome, resent=True))
        elif isinstance(outcome, CreateResult) and operation.unknown:
            operation.future.set_result(replace(outcome, existed=False))  # As of the sending before.
        else:
            operation.future.set_result(outcome)

    def _give_up(self, operation: _Open, why: str, otherwise: type[DurableStreamError]) -> None:
        if operation.in_flight or operation.unknown:
            self._settle(operation, errors.OutcomeUnknownError(f"{why}; it may or may not have happened"))
        else:
            self._settle(operation, otherwise(f"{why}; nothing was stored"))

    def _too_late(self, number: int, timeout_s: float) -> None:
        operation = self._open[number]
        if operation.in_flight and operation.sent_s >= self._answered_s:
            # The node has said nothing since: its process may hang, and answer pings all the same.
            self._trouble = "the node that was asked does not answer"
            self._left.set()
        why = f"no answer within {timeout_s:g} s{f': {self._trouble}' if self._trouble else ''}"
        self._give_up(operation, why, errors.UnavailableError)
        self._leave_if_done()

    def _answered(self, reply: pb.WriteReply) -> None:
        operation = self._open.get(reply.number)
        if operation is None:
            return
        operation.in_flight = False
        outcome = _wire.written(reply)
        match outcome:
            case errors.UnavailableError():
                self._leaves, self._trouble = True, str(outcome)
                now = asyncio.get_running_loop().time()
                if operation.unknown or may_end_in_time(now - operation.sent_s, operation.timer.when() - now):
                    self._again(operation, self._backoff.wait_s())
                else:
                    self._settle(operation, outcome)
            case errors.StorageFullError():
                self._settle(operation, outcome)
            case errors.OverloadedError() if not self._waits_for_room:
                self._settle(operation, outcome)
            case errors.OverloadedError():
                self._trouble = str(outcome)
                self._again(operation, self._backoff.wait_s(outcome.retry_after_s))
            case errors.OutcomeUnknownError() if operation.may_repeat:
                operation.unknown, self._trouble = True, str(outcome)
                self._again(operation, self._backoff.wait_s())
            case errors.StreamNotFoundError() if operation.unknown and operation.wire.HasField("delete"):
                self._settle(operation, False)  # By the sending before.
            case _:
                self._backoff.reset()
                self._settle(operation, outcome)

    def _again(self, operation: _Open, wait_s: float) -> None:
        operation.waits = True
        asyncio.get_running_loop().call_later(wait_s, self._requeue, operation)

    def _requeue(self, operation: _Open) -> None:
        operation.waits = False
        if operation.number in self._open:
            self._unsent.append(operation)
            self._wake.set()

    def _refuse_all(self, failure: DurableStreamError) -> None:
        """Nothing that is open would fare better: the token is wrong."""
        for operation in list(self._open.values()):
            if operation.in_flight or operation.unknown:
                self._give_up(operation, str(failure), type(failure))
            else:
                self._settle(operation, failure)

    # ---------------------------------------------------------------------------------------------------------- calls

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            while not self._unsent:
                self._wake.clear()
                await self._wake.wait()
            target = self._target = self._routes.choose_for_writes(now())
            self._leaves = self._moves = False
            self._left.clear()
            self._answered_s = begun_s = now()
            try:
                await self._converse(target)
            except grpc.aio.AioRpcError as error:
                self._trouble = f"{target}: {error.details()}"
                if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    self._refuse_all(failure_of(target, error))
            except TimeoutError:
                self._trouble = f"{target}: no connection within {CONNECT_S:g} s"
            self._target = None
            self._break()
            if self._moves:
                continue
            self._routes.failed(target, now())
            if self._leaves or self._answered_s == begun_s:
                await asyncio.sleep(self._backoff.wait_s())

    async def _converse(self, target: str) -> None:
        """One call, until it ends, or the node says that it does not serve, or says nothing."""
        call = self._stub(target).Write(metadata=self._metadata)
        tasks: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(CONNECT_S):
                told = dict(await call.initial_metadata() or ())
                if MOST_BYTES not in told:
                    await call.read()  # It was refused: this raises why.
                    return
            self._most_bytes = int(told[MOST_BYTES])
            reading = asyncio.ensure_future(self._read_all(call))
            tasks += [reading, asyncio.ensure_future(self._left.wait()), asyncio.ensure_future(self._send_all(call))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()  # It raises why the call ended.
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
                for task in tasks:
                    if not task.cancelled():
                        task.exception()

    def _leave_if_done(self) -> None:
        if self._leaves and not any(each.in_flight for each in self._open.values()):
            self._left.set()

    async def _read_all(self, call: Any) -> None:
        """Return when the node has no more to say. Raises AioRpcError."""
        now = asyncio.get_running_loop().time
        while isinstance(replies := await call.read(), pb.WriteReplies):
            self._answered_s = now()
            for reply in replies.replies:
                self._answered(reply)
            self._leave_if_done()

    async def _send_all(self, call: Any) -> None:
        """Return when the call takes no more; the reader is told why."""
        now = asyncio.get_running_loop().time
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                if not self._unsent or self._leaves:
                    self._wake.clear()
                    await self._wake.wait()
                elif batch := self._batch(now()):
                    await call.write(pb.WriteRequests(requests=batch))
        await asyncio.sleep(CONNECT_S)

    def _batch(self, now_s: float) -> list[pb.WriteRequest]:
        batch: list[pb.WriteRequest] = []
        size = 0
        while self._unsent and len(batch) < BATCH_REQUESTS:
            operation = self._unsent[0]
            if operation.number not in self._open:
                self._unsent.popleft()
                continue
            if operation.future.cancelled():
                self._unsent.popleft()
                self._settle(operation, False)
                continue
            if self._most_bytes is not None and operation.size > self._most_bytes + OVERHEAD_BYTES:
                # Not sent: one message that is too large for the server ends the call for all.
                self._unsent.popleft()
                self._settle(operation, errors.TooLargeError(f"body is larger than {self._most_bytes} bytes", "body"))
                continue
            size += operation.size
            if batch and size > BATCH_BYTES:
                break
            self._unsent.popleft()
            operation.in_flight, operation.sent_s = True, now_s
            batch.append(operation.wire)
        return batch

    def _break(self) -> None:
        """The call ended: what may happen twice, and what never left, is sent again in its order."""
        for operation in list(self._open.values()):
            if not operation.in_flight:
                continue
            if operation.may_repeat:
                operation.in_flight, operation.unknown = False, True
            else:
                self._give_up(operation, f"the connection broke: {self._trouble}", errors.UnavailableError)
        self._unsent = deque(each for each in self._open.values() if not each.waits)
