"""The newest pages of one stream, for those who read at its end. Pure.

Pages come from one upstream read that goes on and on; readers may stand anywhere, also within a page: they began with a
read of their own, which ended somewhere else.
"""

from collections import deque
from itertools import islice

from msgspec.structs import replace

from durable_streams_cluster.api import Page
from durable_streams_cluster.streams.meta import media_type
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.view import fitting

NEAR = 64
"""Pages from the end at which a reader is served here. One further behind gets many as one page from the cluster."""


class Recent:
    """Pages without a gap between them, up to the newest that is known."""

    def __init__(self) -> None:
        self._pages: deque[Page] = deque()
        self._last: Page | None = None
        """What came last, without its bodies: what is read at its end."""
        self._heard = ("", 0)
        """Which stream it is, and how far it goes in bytes, as any reader was told; it may not have come here yet."""
        self.size = 0
        """Bytes of the bodies that are kept."""

    @property
    def end(self) -> Offset | None:
        """Where the newest page ends; None: nothing is known."""
        return self._last.next if self._last is not None else None

    @property
    def ttl_s(self) -> int | None:
        """Of the stream; None also when nothing is known."""
        return self._last.ttl_s if self._last is not None else None

    def add(self, page: Page) -> bool:
        """Take the next page; whether it says something that was not known."""
        self.hear(page)
        before = self._last
        if before is not None and (page.stream != before.stream or page.start != before.next):
            self.forget()
            before = None
        self._last = replace(page, start=page.next, records=[], encoded={}, after_cr=False)
        if page.records:
            if self._pages and before is not None:
                # Whoever reads it later has more to read; and a form of it that was encoded says otherwise.
                self._pages[-1] = replace(self._pages[-1], up_to_date=False, encoded={})
            self._pages.append(page)
            self.size += page.size
        elif self._pages and page.closed:
            self._pages[-1] = replace(self._pages[-1], closed=True, up_to_date=True, encoded={})
        return before is None or bool(page.records) or page.closed

    def hear(self, page: Page) -> None:
        """Note which stream it is, and how far it goes; ``page`` is what some reader was told."""
        before = self._heard[1] if page.stream == self._heard[0] else 0
        # Without bodies it may be at an offset behind the end, which anybody can make up.
        self._heard = (page.stream, max(before, page.next.position + page.behind) if page.records else before)

    def keep(self, most_bytes: int) -> None:
        """Forget the oldest pages beyond so many bytes."""
        while self._pages and self.size > most_bytes:
            self.size -= self._pages.popleft().size

    def forget(self) -> None:
        """Nothing is known any more."""
        self._pages.clear()
        self._last, self.size = None, 0

    def at(self, at: Offset, max_bytes: int | None) -> Page | None:
        """What follows ``at``, as far as one page goes; None: that is not known here.

        Nor is it of a reader that is ahead of what came, or at its end while more is known to be there: whether he has
        read all, the node knows. Nor at the start, which all streams that were ever here share: he may read another.
        """
        last = self._last
        if last is None or last.stream != self._heard[0] or at == START:
            return None
        if at == last.next:
            return last if last.up_to_date and self._heard[1] <= at.position else None
        for page in islice(reversed(self._pages), NEAR):
            if page.start == at:
                return _first(page, max_bytes)
            if page.start.position < at.position < page.next.position:
                rest = _behind(page, at)
                return _first(rest, max_bytes) if rest is not None else None
        return None


def _is_plain(page: Page) -> bool:
    """Whether the offsets within the page follow from the lengths of its bodies."""
    start, end = page.start, page.next
    return start.generation == end.generation and end.position - start.position == page.size


def _behind(page: Page, at: Offset) -> Page | None:
    """The page from ``at`` on, which lies within it; None: that is not where an append begins."""
    if not _is_plain(page) or at.generation != page.start.generation:
        return None
    position = at.position
    number, record = next((number, each) for number, each in enumerate(page.records) if position < each.end)
    into = position - record.begins
    if into and not record.ends_at(position):
        return None
    before = record.body[into - 1 : into] if into else page.records[number - 1].body[-1:]
    records = [record.between(position, record.end), *page.records[number + 1 :]]
    is_split = before == b"\r" and records[0].body[:1] == b"\n"
    after_cr = is_split and media_type(page.content_type).startswith("text/")
    return replace(page, start=at, records=records, encoded={}, after_cr=after_cr)


def _first(page: Page, max_bytes: int | None) -> Page:
    """Its first appends of ``max_bytes`` together, at least one; the page itself where that is all, or is not plain."""
    if max_bytes is None or page.size <= max_bytes or not _is_plain(page):
        return page
    records = list(fitting(page.records, max_bytes))
    if records[-1].end == page.next.position:
        return page
    end = Offset(page.start.generation, records[-1].end)
    return replace(page, next=end, records=records, encoded={}, up_to_date=False, closed=False)
