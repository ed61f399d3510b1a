"""Pages of bytes that many readers ask for: made once, kept while they fit."""

from durable_streams_cluster.api import Page
from durable_streams_cluster.streams.meta import StreamRef

PageKey = tuple[StreamRef, int, int, bool, int]


class PageCache:
    """The newest pages by (stream, start, tail, closed, size), bounded in bytes. A key never means two pages."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pages: dict[PageKey, tuple[Page, int]] = {}

    def get(self, key: PageKey) -> Page | None:
        """A page made earlier."""
        found = self._pages.get(key)
        return found[0] if found is not None else None

    def put(self, key: PageKey, page: Page) -> None:
        """Keep a page; the oldest give way. What is larger than half of the bound is not kept."""
        # The encoded forms (SSE, base64) of a page weigh up to about twice its bytes more.
        weight = 3 * page.size + 512
        if weight > self._max_bytes // 2:
            return
        self._drop(key)
        while self._bytes + weight > self._max_bytes:
            self._drop(next(iter(self._pages)))
        self._pages[key] = (page, weight)
        self._bytes += weight

    def _drop(self, key: PageKey) -> None:
        if key in self._pages:
            self._bytes -= self._pages.pop(key)[1]
