"""Follow: pages as they come, to readers over gRPC. Register first, then read, then wait, as ``gateway.live``."""

import asyncio
from collections.abc import Awaitable, Callable

from durable_streams_cluster.api import From, Page, Streams, Watch
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import ShuttingDown
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.grpc_status import refused, unread
from durable_streams_cluster.runtime.streams_wire import page_of
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import NotFound
from durable_streams_proto.v1 import streams_pb2 as pb

IDLE_S = 3600.0
"""A reader of a stream without a window looks again after so long, whatever it was told."""
LOOK_S = 1.0
"""How often it is seen to whether a reader takes what it is sent."""
MODE = "follow"
"""Of ``Metrics.live_readers``."""


class Follows:
    """Every Follow of this node."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        metrics.live_readers[MODE] = 0
        self.crowd = Crowd(limits)
        """Who else reads, over HTTP."""
        self.unsent_bytes = 0
        """What is being sent, and was not taken yet."""
        self._open: dict[_Reader, None] = {}
        self._draining = False

    def drain(self) -> None:
        """End every one, new ones once they were told what is here: their clients go on at another node."""
        self._draining = True
        self.end()

    def end(self) -> None:
        """End every one that is open."""
        for reader in tuple(self._open):
            reader.ended = True
            reader.watch.wake()

    async def run(
        self,
        streams: Streams,
        path: str,
        at: Offset | From,
        max_bytes: int,
        send: Callable[[pb.Page], Awaitable[None]],
    ) -> pb.Error | None:
        """Send pages of one stream to one reader.

        Args:
            streams: Where they are read.
            path: Of the stream.
            at: Where it begins.
            max_bytes: Of one page; 0: as many as usual.
            send: Returns when there is room for the next.

        Returns:
            Why it ended; None: the stream is closed, and all of it was sent.

        Raises:
            ClusterError: nothing can be read now.

        """
        with streams.watch(path) as watch:
            reader = _Reader(watch, ended=self._draining)
            self._open[reader] = None
            self._metrics.live_readers[MODE] += 1
            try:
                return await self._run(reader, streams, path, at, max_bytes, send)
            finally:
                self._metrics.live_readers[MODE] -= 1
                del self._open[reader]

    async def _run(
        self,
        reader: "_Reader",
        streams: Streams,
        path: str,
        at: Offset | From,
        max_bytes: int,
        send: Callable[[pb.Page], Awaitable[None]],
    ) -> pb.Error | None:
        before: Page | None = None
        woken = False
        while True:
            found = await streams.read(path, at, self.crowd.page_of_at_most(max_bytes), fresh=not woken)
            if not isinstance(found, Page):
                return unread(found)
            page = self.crowd.admit(found)
            if before is not None and page.stream != before.stream:
                return unread(NotFound())
            news = page.records or page.closed or (page.up_to_date and not (before and before.up_to_date))
            if (news or before is None) and not await self._send(page, send):
                return refused(ShuttingDown("this reader takes too little: go on when you can take more"))
            if page.closed:
                return None
            if reader.ended:
                return refused(ShuttingDown("this node sends no more: go on at another one"))
            before, at, woken = page, page.next, True
            if page.up_to_date:
                woken = await reader.watch.wait(page.ttl_s / 2 if page.ttl_s else IDLE_S)

    async def _send(self, page: Page, send: Callable[[pb.Page], Awaitable[None]]) -> bool:
        """Whether it was taken in time: while too much is unsent, a reader that takes nothing has a second."""
        size = page.size
        self.unsent_bytes += size
        sending = asyncio.ensure_future(send(page_of(page)))
        left_s = self._limits.write_timeout_s
        try:
            while left_s > 0:
                if (await asyncio.wait({sending}, timeout=min(LOOK_S, left_s)))[0]:
                    await sending
                    return True
                left_s = 0.0 if self.crowd.is_pressed else left_s - LOOK_S
            return False
        finally:
            sending.cancel()
            self.unsent_bytes -= size


class _Reader:
    def __init__(self, watch: Watch, ended: bool) -> None:
        self.watch = watch
        self.ended = ended
        """Its time is up."""
