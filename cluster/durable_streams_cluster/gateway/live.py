"""Reads that wait: long-poll and SSE. Register first, then read, then wait, so that no append falls between."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from random import Random
from typing import Any, Self

from msgspec.structs import replace

from durable_streams_cluster.api import From, Page, Streams, Watch
from durable_streams_cluster.clock import Clock
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.gateway import caching, pages, sse, status
from durable_streams_cluster.gateway.codec import ReadRequest
from durable_streams_cluster.gateway.fanout import Fanout, Push, Stand
from durable_streams_cluster.gateway.headers import COMMON
from durable_streams_cluster.gateway.pacing import ClosedPacing
from durable_streams_cluster.gateway.status import Response
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import NotFound

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class LiveReads:
    """Every long-poll and SSE of this gateway."""

    def __init__(
        self, streams: Streams, crowd: Crowd, limits: Limits, clock: Clock, rng: Random, metrics: Metrics
    ) -> None:
        self._streams = streams
        self._crowd = crowd
        self._limits = limits
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._pacing = ClosedPacing()
        self._fanout = Fanout(streams, crowd, clock)
        self._open: dict[int, _Reader] = {}
        self._draining = False
        self._encoding: dict[int, asyncio.Future[None]] = {}
        """Large pages being encoded, by identity; the others who need them wait for the first."""

    def drain(self) -> None:
        """End every live read now, as if its time was up, and new ones once they were told what is here.

        They are not refused: their requests may have been under way already, on connections that end with the answer.
        """
        self._draining = True
        self.end()

    def end(self) -> None:
        """End every live read that is open: its client comes back, here or elsewhere."""
        for reader in tuple(self._open.values()):
            reader.ended = True
            reader.watch.wake()

    def cursor(self, asked: str | None) -> str:
        """The cursor that answers ``asked``."""
        return caching.cursor(asked, self._clock.wall_ms(), self._rng.random())

    # ---------------------------------------------------------------------------------------------------- long-poll

    async def long_poll(self, path: str, request: ReadRequest, host: str, receive: Receive) -> Response | None:
        """PROTOCOL 5.7: data at once if there is any, else the first append, the closure, or the time-out."""
        deadline = self._clock.steady_ms() + int(self._limits.long_poll_timeout_s * 1000)
        at: Offset | From = request.at
        with self._watching(path, receive, "long-poll") as reader:
            page: Page | None = None
            woken = False
            while True:
                found = await self._streams.read(path, at, self._crowd.page_bytes(), fresh=not woken)
                if not isinstance(found, Page):
                    return status.of_read(found)
                self._crowd.admit(found)
                if page is not None and found.stream != page.stream:
                    return status.of_read(NotFound())
                page, at = found, found.start
                if page.records or page.closed:
                    break
                left_ms = deadline - self._clock.steady_ms()
                if left_ms <= 0 or reader.ended:
                    break
                woken = await reader.watch.wait(min(left_ms, _renewal_ms(page)) / 1000)
                if reader.gone:
                    return None
        if page.records:
            return pages.response(page, request, self._clock.wall_ms(), self.cursor(request.cursor))
        headers = [*COMMON, status.next_offset(page.next), status.UP_TO_DATE, (b"cache-control", caching.NO_STORE)]
        if page.closed:
            await self._pacing.pace(host, path, self._clock.steady_ms())
            headers.append(status.CLOSED)
        else:
            headers.append((b"stream-cursor", self.cursor(request.cursor).encode()))
        return Response(204, headers)

    # ---------------------------------------------------------------------------------------------------------- SSE

    async def sse(
        self, path: str, request: ReadRequest, receive: Receive, send: Send, push: Push | None = None
    ) -> Response | None:
        """PROTOCOL 5.8: pages as they come, each with its control event in the same write, for about a minute.

        With ``push`` what comes while a reader waits is written to it together with others (``fanout``).
        """
        ends = self._clock.steady_ms() + int(self._limits.sse_lifetime_s * 1000)
        keep_alive_ms = int(self._limits.sse_keepalive_s * 1000)
        with self._watching(path, receive, "sse") as reader:
            page = await self._streams.read(path, request.at, self._crowd.page_bytes())
            if not isinstance(page, Page):
                return status.of_read(page)
            self._crowd.admit(page)
            self._metrics.request("GET", 200)
            await send({"type": "http.response.start", "status": 200, "headers": _sse_headers(page)})
            cursor = self.cursor(request.cursor)
            told = False
            """Whether the reader knows that it is up to date at ``page.next``."""
            sent_ms = self._clock.steady_ms()
            while True:
                now_ms = self._clock.steady_ms()
                ending = reader.ended or now_ms >= ends
                done = page.closed or ending
                if page.records or done or not told:
                    await self._encode(page)
                    event = [_chunk(sse.event(page, cursor), more=not done)]
                    # A client that does not take the event holds it once, in the connection, and not the page too.
                    page = replace(page, records=[], encoded={})
                    await send(event.pop())
                    told, sent_ms = page.up_to_date, now_ms
                    if done:
                        return None
                elif now_ms - sent_ms >= keep_alive_ms:
                    await send(_chunk(sse.KEEP_ALIVE))
                    sent_ms = now_ms
                woken = True  # What follows a page at once was there when the first was asked for, or came since.
                if page.up_to_date:
                    until_ms = min(ends, sent_ms + keep_alive_ms, now_ms + _renewal_ms(page))
                    stand = Stand(reader.watch, push, page, cursor, sent_ms)
                    woken = await self._fanout.wait(path, stand, max(0.0, (until_ms - now_ms) / 1000))
                    if stand.page is not page:
                        await send(_chunk(b""))  # Nothing: but what was written to it meanwhile may not be taken yet.
                    page, cursor, sent_ms = stand.page, stand.cursor, stand.sent_ms
                if reader.gone:
                    return None
                following = await self._next(path, page, fresh=not woken)
                if following is None:
                    await send(_chunk(b"", more=False))
                    return None
                cursor = caching.moved_on(cursor, self._clock.wall_ms())
                page = following

    async def _encode(self, page: Page) -> None:
        """Make the event of a large page without holding the loop, once for all who wait for it."""
        if not page.records or "sse" in page.encoded or page.size <= sse.SLICE_BYTES:
            return
        making = self._encoding.get(id(page))
        if making is None:
            making = self._encoding[id(page)] = asyncio.ensure_future(self._make(page))
        await asyncio.shield(making)

    async def _make(self, page: Page) -> None:
        try:
            for _ in sse.encode(page):
                await asyncio.sleep(0)
        finally:
            del self._encoding[id(page)]

    async def _next(self, path: str, page: Page, *, fresh: bool) -> Page | None:
        """What follows ``page``; None when the stream ended, another one has its path, or it is too much for now."""
        try:
            found = await self._streams.read(path, page.next, self._crowd.page_bytes(), fresh=fresh)
        except ClusterError:
            return None
        if not isinstance(found, Page) or found.stream != page.stream:
            return None
        return found if self._crowd.has_room(found) else None

    def _watching(self, path: str, receive: Receive, mode: str) -> "_Reader":
        reader = _Reader(self._streams.watch(path), receive, self._open, self._metrics, mode)
        reader.ended = self._draining
        return reader


class _Reader:
    """One open live read: its watch, and whether its client is still there."""

    def __init__(
        self, watch: Watch, receive: Receive, open_reads: "dict[int, _Reader]", metrics: Metrics, mode: str
    ) -> None:
        self.watch = watch
        self.gone = False
        self.ended = False
        """Its time is up, whatever the clock says."""
        self._receive = receive
        self._open = open_reads
        self._metrics = metrics
        self._mode = mode
        self._listening: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self.watch.__enter__()
        self._open[id(self)] = self
        self._metrics.live_readers[self._mode] += 1
        self._listening = asyncio.ensure_future(self._listen())
        return self

    def __exit__(self, *exc: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
        self._metrics.live_readers[self._mode] -= 1
        del self._open[id(self)]
        self.watch.__exit__(*exc)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.watch.wake()


def _renewal_ms(page: Page) -> int:
    """Milliseconds after which an open read looks again, so that a stream with a live reader never expires."""
    return page.ttl_s * 500 if page.ttl_s else 3_600_000


def _chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _sse_headers(page: Page) -> list[tuple[bytes, bytes]]:
    headers = [
        *COMMON,
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
    ]
    if sse.is_binary(page.content_type):
        headers.append((b"stream-sse-data-encoding", b"base64"))
    return headers
