"""Write: what one client sends on one call, begun in the order in which it came, and answered as outcomes come."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from durable_streams_cluster.answer import Answer, Told
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown
from durable_streams_cluster.runtime.grpc_status import broken, refused
from durable_streams_cluster.runtime.streams_wire import Reply, reply_of
from durable_streams_cluster.streams.commands import Command
from durable_streams_proto.v1 import streams_pb2 as pb

log = logging.getLogger(__name__)

MAX_OPEN = 4096
"""Requests of one call that are not answered; more are read when some are."""
MAX_REPLIES = 1000
"""In one message."""
SLICE = 100
"""Requests that are begun before the loop gets its turn."""

Asked = pb.CreateRequest | pb.AppendRequest | pb.DeleteRequest


class Failed(Exception):
    """This ``Error`` is the answer."""

    def __init__(self, error: pb.Error) -> None:
        super().__init__(error.message)
        self.error = error


class Door(Protocol):
    """Where requests become commands, and commands happen (``calls.Calls``)."""

    async def command(self, request: Asked) -> Command:
        """What is asked for. Raises BadRequest, Failed, ClusterError."""
        ...

    def begin(self, command: Command) -> Answer:
        """Let it happen. Raises ClusterError."""
        ...


class Writing:
    """One call."""

    def __init__(self, door: Door, send: Callable[[pb.WriteReplies], Awaitable[None]]) -> None:
        """``send`` returns when there is room for the next."""
        self._door = door
        self._send = send
        self._replies: list[pb.WriteReply] = []
        self._open = 0
        """Requests that were begun, and have no outcome yet."""
        self._reading: asyncio.Future[object] | None = None
        self._is_read = False
        """No more requests come, or are taken."""
        self._moved = asyncio.Event()
        """There is something to send, or nothing more to read."""
        self._room = asyncio.Event()

    def end(self) -> None:
        """Read no more; what was begun is answered."""
        self._is_read = True
        if self._reading is not None:
            self._reading.cancel()

    async def run(self, read: Callable[[], Awaitable[object]]) -> None:
        """Return when the client has sent all, or ``end`` was called, and everything is answered."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._answer())
            await self._read(read)
            self._is_read = True
            self._moved.set()

    async def _read(self, read: Callable[[], Awaitable[object]]) -> None:
        while not self._is_read:
            self._reading = asyncio.ensure_future(read())
            try:
                batch = await self._reading
            except asyncio.CancelledError:
                if not self._is_read:
                    raise  # The client is gone.
                return
            if not isinstance(batch, pb.WriteRequests):
                return
            for count, request in enumerate(batch.requests, 1):
                await self._begin(request)
                if count % SLICE == 0:
                    await asyncio.sleep(0)
                while self._open + len(self._replies) > MAX_OPEN:
                    self._room.clear()
                    await self._room.wait()

    async def _begin(self, request: pb.WriteRequest) -> None:
        try:
            answer = self._door.begin(await self._door.command(_operation(request)))
        except BadRequest as error:
            self._reply(request.number, broken(error))
        except ClusterError as error:
            self._reply(request.number, refused(error))
        except Failed as failed:
            self._reply(request.number, failed.error)
        else:
            self._open += 1
            answer.then(partial(self._told, request.number))

    def _told(self, number: int, told: Told) -> None:
        self._open -= 1
        if isinstance(told, ClusterError):
            self._reply(number, refused(told))
        elif isinstance(told, Exception):
            log.error("a write failed", exc_info=told)
            self._reply(number, refused(OutcomeUnknown("this node failed; it may or may not be stored")))
        else:
            self._reply(number, reply_of(told))

    def _reply(self, number: int, reply: Reply) -> None:
        match reply:
            case pb.AppendReply():
                made = pb.WriteReply(number=number, append=reply)
            case pb.CreateReply():
                made = pb.WriteReply(number=number, create=reply)
            case pb.DeleteReply():
                made = pb.WriteReply(number=number, delete=reply)
            case pb.Error():
                made = pb.WriteReply(number=number, error=reply)
        self._replies.append(made)
        self._moved.set()

    async def _answer(self) -> None:
        while not (self._is_read and not self._open and not self._replies):
            await self._moved.wait()
            self._moved.clear()
            while self._replies:  # What comes while these leave leaves together.
                replies, self._replies = self._replies[:MAX_REPLIES], self._replies[MAX_REPLIES:]
                await self._send(pb.WriteReplies(replies=replies))
            self._room.set()


def _operation(request: pb.WriteRequest) -> Asked:
    kind = request.WhichOneof("operation")
    if kind is None:
        raise BadRequest("operation", "is none that this server knows")
    operation: Asked = getattr(request, kind)
    return operation
