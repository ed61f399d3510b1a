"""SSE readers who stand at the same end of one stream: what comes is read and made an event once, written to each.

A reader by itself costs a wake, a step of its task, a read and an event each time: of a thousand readers of one stream
that is most of what they cost. While they wait they are members of a ``_Tail``; who cannot be served that way, for
whatever reason, is woken, and goes on alone from where it stands.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from durable_streams_cluster.api import Page, Streams, Watch
from durable_streams_cluster.clock import Clock
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.gateway import caching, sse

SLICE = 100
"""Readers that are written to before the loop gets its turn: a millisecond or two."""
SLICE_BYTES = 1 << 20
"""Or so many bytes."""
MADE_BYTES = 256 * 1024
"""Of events that differ in nothing but their cursors, kept while all are written to: clients choose their cursors."""

Push = Callable[[bytes, bytes], bool]
"""Write a piece of a body now, given by itself and framed as a chunk of HTTP/1.1. False: nothing was written, because
the client has not taken what was sent before, or left."""

_EXTENSION = "durable-streams.push"

log = logging.getLogger(__name__)


def offering(push: Push) -> dict[str, dict[object, object]]:
    """The extensions of an ASGI scope, by which a server of ours offers a ``Push``."""
    return {_EXTENSION: {"push": push}}


def offered(scope: Mapping[str, Any]) -> Push | None:
    """The ``Push`` that came with a request, if its server has one."""
    push: Push | None = scope.get("extensions", {}).get(_EXTENSION, {}).get("push")
    return push


class Stand:
    """Where a reader stands that was told everything there is."""

    __slots__ = ("cursor", "page", "push", "sent_ms", "watch")

    def __init__(self, watch: Watch, push: Push | None, page: Page, cursor: str, sent_ms: int) -> None:
        """``watch`` is entered, since before ``page`` was read."""
        self.watch = watch
        self.push = push
        self.page = page
        """What it was told last."""
        self.cursor = cursor
        self.sent_ms = sent_ms
        """When (steady)."""


class Fanout:
    """Of one gateway."""

    def __init__(self, streams: Streams, crowd: Crowd, clock: Clock) -> None:
        self.streams = streams
        self.crowd = crowd
        self.clock = clock
        self.tails: dict[tuple[str, str], _Tail] = {}
        """By path and stream."""

    async def wait(self, path: str, stand: Stand, timeout_s: float) -> bool:
        """As ``Watch.wait``; meanwhile the reader may be told more: ``stand`` is where it stands at the end."""
        watch, page = stand.watch, stand.page
        if stand.push is None or watch.moved:
            return await watch.wait(timeout_s)
        tail = self.tails.get((path, page.stream))
        if tail is not None and page.next.position < tail.at.position:
            tail.disband()  # Whoever made it stands behind the end of the stream, and waits for what may never come.
            tail = None
        if tail is None:
            tail = _Tail(self, path, page)
        elif tail.at != page.next:
            return await watch.wait(timeout_s)  # It is ahead of the others, for a moment.
        tail.members[stand] = None
        # The tail has been watching since before: no move falls between. And at the end the other way round.
        watch.__exit__(None, None, None)
        try:
            return await watch.wait(timeout_s)
        finally:
            watch.__enter__()
            tail.leave(stand)


class _Tail:
    """The readers at the end of one stream."""

    def __init__(self, fanout: Fanout, path: str, page: Page) -> None:
        """Whoever makes it has seen no move since ``page`` was read."""
        self.at = page.next
        self.members: dict[Stand, None] = {}
        self._fanout = fanout
        self._path = path
        self._stream = page.stream
        self._moving: asyncio.Task[None] | None = None
        self._again = False
        """It moved once more."""
        self._watch = fanout.streams.watch(path)
        self._watch.call(self._move)
        self._watch.__enter__()
        fanout.tails[path, page.stream] = self

    def leave(self, stand: Stand) -> None:
        """One reader goes on alone."""
        self.members.pop(stand, None)
        if not self.members:
            self._end()

    def _move(self) -> None:
        self._again = True
        if self._moving is None:
            self._moving = asyncio.ensure_future(self._go_on())

    async def _go_on(self) -> None:
        try:
            while self._again and self.members:
                self._again = False
                page = await self._following()
                if page is None:
                    break
                if page.records:
                    await self._tell(page)
            else:
                return
        except Exception:
            log.exception("readers of %s could not be told together", self._path)
        finally:
            self._moving = None
        self.disband()

    async def _following(self) -> Page | None:
        """What came; None: it is not for all at once, or has to be told in another way."""
        fanout = self._fanout
        try:
            page = await fanout.streams.read(self._path, self.at, fanout.crowd.page_bytes(), fresh=False)
        except ClusterError:
            return None
        if not isinstance(page, Page) or page.stream != self._stream:
            return None
        plain = page.up_to_date and not page.closed and page.size <= sse.SLICE_BYTES
        return page if plain and fanout.crowd.has_room(page) else None

    async def _tell(self, page: Page) -> None:
        fanout = self._fanout
        wall_ms, now_ms = fanout.clock.wall_ms(), fanout.clock.steady_ms()
        made: dict[str, tuple[bytes, bytes]] = {}
        rest = replace(page, records=[], encoded={})
        members, self.at = self.members, page.next  # Who comes from now on has it.
        count = size = 0
        for stand in list(members):
            if stand not in members:
                continue
            cursor = caching.moved_on(stand.cursor, wall_ms)
            event = made.get(cursor)
            if event is None:
                body = sse.event(page, cursor)
                if len(made) * len(body) > MADE_BYTES:
                    made.clear()
                event = made[cursor] = (body, b"%x\r\n%b\r\n" % (len(body), body))
            assert stand.push is not None
            if fanout.crowd.has_room(page) and stand.push(*event):
                stand.page, stand.cursor, stand.sent_ms = rest, cursor, now_ms
            else:
                del members[stand]
                _go_alone(stand)
            count, size = count + 1, size + len(event[0])
            if count >= SLICE or size >= SLICE_BYTES:
                count = size = 0
                await asyncio.sleep(0)
        if not members:
            self._end()

    def disband(self) -> None:
        """Let each go on alone."""
        members, self.members = self.members, {}
        for stand in members:
            _go_alone(stand)
        self._end()

    def _end(self) -> None:
        key = (self._path, self._stream)
        if self._fanout.tails.get(key) is self:
            del self._fanout.tails[key]
            self._watch.__exit__(None, None, None)


def _go_alone(stand: Stand) -> None:
    """Watch for it again, before nobody does; and wake it."""
    stand.watch.__enter__()
    stand.watch.wake()
