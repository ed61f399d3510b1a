"""``api.Streams`` elsewhere: each operation through the client SDK, to whichever node answers.

Writes leave in batches on one call, in their order; reads that need be no newer than what somebody was woken for are
answered from the tail of their stream (``tails``), and others of the same are asked for once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from durable_streams_client import errors
from durable_streams_client.transport import Transport
from durable_streams_cluster.answer import Answer, Told
from durable_streams_cluster.api import Described, From, Page, ReadRejected
from durable_streams_cluster.errors import OutcomeUnknown, Overloaded
from durable_streams_cluster.gateway.remote import values
from durable_streams_cluster.gateway.remote.tails import Tails
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.streams.commands import Append, Create, Delete
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import NotFound, SoftDeleted
from durable_streams_cluster.watching import PathWatch

log = logging.getLogger(__name__)

COMMAND_BYTES = 1024
"""What a request costs beside its body."""
TAILS_SHARE = 8
"""Tails keep so much of the memory budget: one part in eight."""

_Place = tuple[str, Offset | From, int | None]
_Read = asyncio.Task[Page | ReadRejected]


class RemoteStreams:
    """See ``api.Streams``."""

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self._transport = transport
        self._limits = limits
        self._timeout_s = limits.proposal_timeout_s
        self.tails = Tails(transport, limits.memory_budget // TAILS_SHARE)
        self.inflight_bytes = 0
        """Of writes that have no outcome yet."""
        self.waiting = 0
        """How many these are."""
        self._running: dict[_Place, _Read] = {}
        """The newest read of each place that is under way."""
        self._following: dict[_Place, _Read] = {}
        """The one that begins when that has ended, for all who came since."""

    async def aclose(self) -> None:
        """Read no more. The transport is the caller's."""
        await self.tails.aclose()

    # ---------------------------------------------------------------------------------------------------------- writes

    def create(self, command: Create) -> Answer:
        """See ``api.Streams``."""
        return self._send(command.body, lambda: self._transport.create(values.create_of(command), self._timeout_s))

    def append(self, command: Append) -> Answer:
        """See ``api.Streams``."""
        return self._send(
            command.body, lambda: self._transport.begin_append(values.append_of(command), self._timeout_s)
        )

    def delete(self, command: Delete) -> Answer:
        """See ``api.Streams``."""
        return self._send(b"", lambda: self._transport.delete(command.path, self._timeout_s))

    def _send(self, body: bytes, send: Callable[[], Awaitable[values.Result]]) -> Answer:
        size = len(body) + COMMAND_BYTES
        fits = self.inflight_bytes + size <= self._limits.max_inflight_bytes or not self.waiting
        if not fits or self.waiting >= self._limits.max_pending_proposals:
            raise Overloaded("too many requests wait for the cluster; nothing was stored")
        answer = Answer()
        try:
            future = asyncio.ensure_future(send())
        except errors.DurableStreamError as error:
            answer.tell(values.told_of(error))
        else:
            self.inflight_bytes += size
            self.waiting += 1
            future.add_done_callback(partial(self._done, answer, size))
        return answer

    def _done(self, answer: Answer, size: int, future: "asyncio.Future[values.Result]") -> None:
        self.inflight_bytes -= size
        self.waiting -= 1
        try:
            told = _told_of(future)
        except (Exception, asyncio.CancelledError):  # Whatever it is, somebody waits.
            log.exception("a write failed")
            told = OutcomeUnknown("this gateway failed; it may or may not be stored")
        answer.tell(told)

    # ----------------------------------------------------------------------------------------------------------- reads

    async def head(self, path: str) -> Described | NotFound | SoftDeleted:
        """See ``api.Streams``."""
        try:
            return values.described_of(path, await self._transport.head(path, self._timeout_s))
        except errors.DurableStreamError as error:
            return values.undescribed_of(error)

    async def list_streams(self, prefix: str, after: str, limit: int) -> list[Described]:
        """See ``api.Streams``."""
        try:
            found = await self._transport.list_streams(prefix, after, limit, self._timeout_s)
        except errors.DurableStreamError as error:
            raise values.unasked_of(error) from error
        return [values.described_of(each.path, each) for each in found]

    async def read(
        self, path: str, at: Offset | From, max_bytes: int | None = None, *, fresh: bool = True
    ) -> Page | ReadRejected:
        """See ``api.Streams``."""
        if not fresh and isinstance(at, Offset) and (tail := self.tails.of(path)) is not None:
            if tail.lost is not None:
                raise values.refused_of(tail.lost)
            page = tail.recent.at(at, max_bytes)
            if page is not None:
                return page
        return await self._upstream((path, at, max_bytes))

    def read_now(self, path: str, at: Offset | From, max_bytes: int | None = None) -> Page | ReadRejected | None:
        """See ``api.Streams``."""
        return None

    def watch(self, path: str) -> PathWatch:
        """See ``api.Streams``."""
        return PathWatch(self.tails, path)

    async def _upstream(self, place: _Place) -> Page | ReadRejected:
        """Ask the cluster, once for all who ask for the same at a time.

        Nobody takes the answer to a read that began before he asked: something may have been stored in between that he
        was told of. He waits for the next one, which begins when that has ended.
        """
        running = self._running.get(place)
        if running is None:
            return await asyncio.shield(self._begin(place))
        following = self._following.get(place)
        if following is None:
            following = self._following[place] = _watched(self._after(running, place))
        return await asyncio.shield(following)

    async def _after(self, running: _Read, place: _Place) -> Page | ReadRejected:
        await asyncio.wait({running})
        del self._following[place]
        return await self._begin(place)

    def _begin(self, place: _Place) -> _Read:
        reading = self._running[place] = _watched(self._ask(place))
        reading.add_done_callback(partial(self._ended, place))
        return reading

    def _ended(self, place: _Place, reading: _Read) -> None:
        if self._running.get(place) is reading:
            del self._running[place]

    async def _ask(self, place: _Place) -> Page | ReadRejected:
        path, at, max_bytes = place
        offset = at.value if isinstance(at, From) else str(at)
        try:
            page = values.page_of(await self._transport.read(path, offset, max_bytes or 0, self._timeout_s))
        except errors.DurableStreamError as error:
            return values.unread_of(error)
        self.tails.hear(path, page)
        return page


def _told_of(future: "asyncio.Future[values.Result]") -> Told:
    """What became of a write. Raises what nobody expects."""
    error = future.exception()
    if error is None:
        return values.outcome_of(future.result())
    if not isinstance(error, errors.DurableStreamError):
        raise error
    return values.told_of(error)


def _watched(read: Coroutine[Any, Any, Page | ReadRejected]) -> _Read:
    task: _Read = asyncio.ensure_future(read)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # All who waited may be gone.
    return task
