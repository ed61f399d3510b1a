"""Readers as ``gateway.live`` has them: registered first, fresh once, then woken, again and again."""

import asyncio

from durable_streams_cluster.api import From, Page, ReadRejected, Streams
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.streams.offsets import Offset

NEVER_S = 1e6
"""Nobody waits so long in vain: a wake that is lost is one for ever."""


class Watcher:
    """One live read, and what it got."""

    def __init__(self, streams: Streams, path: str = "s", at: Offset | From = From.START) -> None:
        self._streams = streams
        self._path = path
        self._at = at
        self.got = b""
        self.pages: list[Page] = []
        self.ended: Page | ReadRejected | ClusterError | None = None
        """Why: the stream is closed, or another one is there; none is; or the cluster is away."""
        self.is_open = asyncio.Event()
        """The first read was answered."""
        self.task = asyncio.ensure_future(self._run())

    @property
    def stream(self) -> str:
        return self.pages[0].stream if self.pages else ""

    async def _run(self) -> None:
        with self._streams.watch(self._path) as watch:
            woken = False
            while self.ended is None:
                try:
                    page = await self._streams.read(self._path, self._at, fresh=not woken)
                except ClusterError as error:
                    self.ended = error
                    return
                finally:
                    self.is_open.set()
                if not isinstance(page, Page) or page.stream != (self.stream or page.stream):
                    self.ended = page
                    return
                if self.pages and not self.pages[-1].up_to_date:
                    assert page.bodies, "it was told that there is more, and then that there is not"
                self.pages.append(page)
                self.got += b"".join(page.bodies)
                self._at = page.next
                if page.closed:
                    self.ended = page
                woken = True
                if page.up_to_date and not page.closed:
                    assert await watch.wait(NEVER_S), "a wake was lost"

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
