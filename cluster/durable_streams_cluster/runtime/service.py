"""``api.Streams`` served here: expiry before everything, reads from the committed state, writes through the driver."""

import asyncio
from collections.abc import Generator

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.api import BadOffset, Described, From, OffsetGone, Page, ReadRejected
from durable_streams_cluster.errors import StorageError, Unavailable
from durable_streams_cluster.limits import MIB, Limits
from durable_streams_cluster.policies import Policies
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.lifetimes import Found, Lifetimes
from durable_streams_cluster.runtime.pages import PageCache, PageKey
from durable_streams_cluster.runtime.retention import COMMAND_BYTES, Retention
from durable_streams_cluster.streams import reading
from durable_streams_cluster.streams.commands import Append, Create, Delete
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef, media_type
from durable_streams_cluster.streams.offsets import MAX_PART, Offset
from durable_streams_cluster.streams.outcomes import NotFound, SoftDeleted
from durable_streams_cluster.streams.view import Record, fitting
from durable_streams_cluster.watching import PathWatch

PAGE_CACHE_BYTES = 16 * MIB

LIST_SLICE = 100
"""Streams of a list that are looked at before the loop gets its turn."""

SLICE_RECORDS = 250
"""A page of many small appends is read in slices of some two milliseconds; the loop turns in between."""

FIRST_RECORDS = 64
"""Read at once, before it is known whether the page is a small one: whoever waits for its turn holds so many."""

MAKERS = 2
"""Pages that are read in slices at a time: with more, each turn of the loop would hold a slice of every one of them."""


class LocalStreams:
    """See ``api.Streams``."""

    def __init__(self, driver: Driver, limits: Limits, policies: Policies | None = None) -> None:
        self._driver = driver
        self._limits = limits
        policies = policies or Policies({})
        self.retention = Retention(driver, policies)
        self.lifetimes = Lifetimes(driver, policies)
        self._group = driver.replica.group
        self._view = self._group.store.committed
        self._pages = PageCache(PAGE_CACHE_BYTES)
        self._making: dict[PageKey, asyncio.Future[Page]] = {}
        self._makers = asyncio.Semaphore(MAKERS)

    # ------------------------------------------------------------------------------------------------------- writes

    def create(self, command: Create) -> Answer:
        """See ``api.Streams``."""
        return self._driver.propose(command, len(command.body) + COMMAND_BYTES)

    def append(self, command: Append) -> Answer:
        """See ``api.Streams``."""
        outcome = self._driver.propose(command, len(command.body) + COMMAND_BYTES)
        if self.retention.applies:
            outcome.then(lambda _: self.retention.grew(command.path))
        return outcome

    def delete(self, command: Delete) -> Answer:
        """See ``api.Streams``."""
        ref = self._view.find(command.path)
        outcome = self._driver.propose(command, COMMAND_BYTES)
        if ref is not None:
            outcome.then(lambda told: None if isinstance(told, Exception) else self.lifetimes.forget(ref))
        return outcome

    # -------------------------------------------------------------------------------------------------------- reads

    async def head(self, path: str) -> Described | NotFound | SoftDeleted:
        """See ``api.Streams``."""
        try:
            found = await self.lifetimes.living(path)
        except StorageError as error:
            raise self._failed(error) from error
        return _described(found[1]) if isinstance(found, tuple) else found

    async def list_streams(self, prefix: str, after: str, limit: int) -> list[Described]:
        """See ``api.Streams``."""
        try:
            return await self._list(prefix, after, limit)
        except StorageError as error:
            raise self._failed(error) from error

    async def _fresh(self) -> None:
        if self._group.alone:
            self.lifetimes.check_leads()
        else:
            await self._driver.barrier()

    async def _list(self, prefix: str, after: str, limit: int) -> list[Described]:
        await self._fresh()
        found: list[Described] = []
        while len(found) < limit:
            paths = self._view.paths(prefix, after, min(limit - len(found), LIST_SLICE))
            for path in paths:
                ref = self._view.find(path)
                meta = self._view.meta(ref) if ref is not None else None
                if ref is not None and meta is not None and not meta.deleted and not self.lifetimes.is_due(ref, meta):
                    found.append(_described(meta))
            if not paths:
                break
            after = paths[-1]
            await asyncio.sleep(0)
        return found

    async def read(
        self, path: str, at: Offset | From, max_bytes: int | None = None, *, fresh: bool = True
    ) -> Page | ReadRejected:
        """See ``api.Streams``."""
        if self._driver.failure is not None:
            raise Unavailable("this node has failed and is stopping")
        try:
            found = await self.lifetimes.living(path, renews=True) if fresh else self.lifetimes.here(path)
            page = self._here(found, at, min(max_bytes or MAX_PART, self._limits.max_read_bytes))
            return await asyncio.shield(page) if isinstance(page, asyncio.Future) else page
        except StorageError as error:
            raise self._failed(error) from error

    def read_now(self, path: str, at: Offset | From, max_bytes: int | None = None) -> Page | ReadRejected | None:
        """See ``api.Streams``."""
        try:
            found = self.lifetimes.living_now(path)
            if found is None:
                return None
            page = self._here(found, at, min(max_bytes or MAX_PART, self._limits.max_read_bytes))
        except StorageError as error:
            raise self._failed(error) from error
        return None if isinstance(page, asyncio.Future) else page

    def _failed(self, error: StorageError) -> Unavailable:
        """A store that cannot be read is as bad as one that cannot be written: the process ends."""
        self._driver.fail(error)
        return Unavailable("this node has failed and is stopping")

    def _here(self, found: Found, at: Offset | From, max_bytes: int) -> "Page | ReadRejected | asyncio.Future[Page]":
        """What is asked for; if it is large, when it is made."""
        if not isinstance(found, tuple):
            return found
        ref, meta = found
        if at is From.NOW:
            return _empty(ref, meta, meta.tail_offset)
        start = meta.head_offset if at is From.START else at
        assert isinstance(start, Offset)
        place = reading.locate(self._view, ref, meta, start)
        if place is reading.Place.INSIDE:
            return BadOffset()
        if place is reading.Place.GONE:
            return OffsetGone(meta.head_offset)
        if place is reading.Place.BEYOND_TAIL or start.position == meta.tail:
            return _empty(ref, meta, start)
        return self._page(ref, meta, start, max_bytes)

    def watch(self, path: str) -> PathWatch:
        """See ``api.Streams``."""
        return PathWatch(self._driver.tails, path)

    def _page(self, ref: StreamRef, meta: StreamMeta, start: Offset, max_bytes: int) -> "Page | asyncio.Future[Page]":
        """The page from ``start`` on: kept from before, made now, or being made for somebody else."""
        key = (ref, start.position, meta.tail, meta.closed, max_bytes)
        page = self._pages.get(key)
        if page is not None:
            return page
        making = self._making.get(key)
        if making is None:
            slices = self._make_page(ref, meta, start, max_bytes)
            try:
                next(slices)
            except StopIteration as made:  # the usual case: small enough to be made at once
                fresh: Page = made.value
                self._pages.put(key, fresh)
                return fresh
            making = self._making[key] = asyncio.ensure_future(self._go_on_making(key, slices))
            making.add_done_callback(_seen)
        return making

    async def _go_on_making(self, key: PageKey, slices: Generator[None, None, Page]) -> Page:
        try:
            async with self._makers:
                while True:
                    await asyncio.sleep(0)
                    next(slices)
        except StopIteration as made:
            page: Page = made.value
            self._pages.put(key, page)
            return page
        finally:
            del self._making[key]

    def _make_page(
        self, ref: StreamRef, meta: StreamMeta, start: Offset, max_bytes: int
    ) -> Generator[None, None, Page]:
        records: list[Record] = []
        end = start.position
        after_cr = False
        for record in fitting(reading.records(self._view, ref, meta, start.position), max_bytes):
            if not records and record.body[:1] == b"\n":  # asked now: after a pause the stream may be gone
                after_cr = self._follows_cr(ref, meta, start)
            records.append(record)
            end = record.end
            if len(records) == FIRST_RECORDS or len(records) % SLICE_RECORDS == 0:
                yield
        page = _empty(ref, meta, start)
        page.records = records
        page.next = meta.offset_at(end)
        page.up_to_date = end == meta.tail
        page.closed = meta.closed and page.up_to_date
        page.behind = meta.tail - end
        page.after_cr = after_cr
        return page

    def _follows_cr(self, ref: StreamRef, meta: StreamMeta, at: Offset) -> bool:
        """Whether the append that ends at ``at``, of a stream of text, ends with a carriage return."""
        if at.position <= meta.head or not media_type(meta.content_type).startswith("text/"):
            return False
        return next(reading.records(self._view, ref, meta, at.position - 1)).body[:1] == b"\r"


def _seen(made: asyncio.Future[Page]) -> None:
    """Perhaps nobody waits for it: ``read_now`` does not."""
    if not made.cancelled():
        made.exception()


def _described(meta: StreamMeta) -> Described:
    return Described(
        path=meta.path,
        content_type=meta.content_type,
        first_offset=meta.head_offset,
        next_offset=meta.tail_offset,
        closed=meta.closed,
        ttl_s=meta.ttl_s,
        expires_at_ms=meta.expires_at_ms,
    )


def _empty(ref: StreamRef, meta: StreamMeta, at: Offset) -> Page:
    return Page(
        stream=f"{ref.slot:x}-{ref.id:x}",
        content_type=meta.content_type,
        is_json=meta.is_json,
        start=at,
        next=at,
        records=[],
        up_to_date=True,
        closed=meta.closed,
        ttl_s=meta.ttl_s,
        expires_at_ms=meta.expires_at_ms,
        encoded={},
    )
