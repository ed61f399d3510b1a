"""One upstream read for each stream that somebody waits for, however many they are here.

It goes on through changes of leader, and from one node to the next: readers here notice nothing. They wake, and read
what came (``recent``).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from durable_streams_client import errors
from durable_streams_client.transport import Transport
from durable_streams_client.types import NOW
from durable_streams_cluster.api import Page
from durable_streams_cluster.gateway.remote import values
from durable_streams_cluster.gateway.remote.recent import Recent

log = logging.getLogger(__name__)

LINGER_S = 10.0
"""So long after the last reader a tail stays: the next long-poll comes at once. Not where that would renew a window."""
MANY = 1000
"""While there are more, none stays: each is a call that a node has open, and it takes 10,000 from all its clients."""
CUT_OFF_S = 15.0
"""After so long without any node, live reads end (DESIGN: Cut off)."""
FIRST_WAIT_S, MOST_WAIT_S = 0.05, 1.0
"""Between two attempts."""
TAIL_BYTES = 2 * 1024 * 1024
"""What one tail keeps."""


class Tails:
    """All tails of this gateway."""

    def __init__(self, transport: Transport, most_bytes: int) -> None:
        """``most_bytes``: what all of them keep."""
        self._transport = transport
        self._most_bytes = most_bytes
        self._tails: dict[str, Tail] = {}
        """By path; those that took something last are last."""
        self._size = 0
        self.broken = 0
        """How often an upstream read ended before its stream did."""

    def __len__(self) -> int:
        return len(self._tails)

    def of(self, path: str) -> "Tail | None":
        """The tail of a stream, if there is one."""
        return self._tails.get(path)

    def hear(self, path: str, page: Page) -> None:
        """Some reader of the stream was told this by the cluster."""
        tail = self._tails.get(path)
        if tail is not None:
            tail.recent.hear(page)

    def register(self, path: str, token: object, wake: Callable[[], None]) -> None:
        """See ``watching.Registry``; begins the tail of the stream, if there is none."""
        tail = self._tails.get(path)
        if tail is None:
            tail = self._tails[path] = Tail(path, self._transport, self)
        tail.add(token, wake)

    def remove(self, path: str, token: object) -> None:
        """See ``watching.Registry``."""
        tail = self._tails.get(path)
        if tail is not None:
            tail.remove(token)

    def took(self, tail: "Tail", more_bytes: int) -> None:
        """A tail keeps so many more bytes; those that took nothing for longest give up what is too much."""
        if self._tails.get(tail.path) is tail:
            self._tails[tail.path] = self._tails.pop(tail.path)
        self._size += more_bytes
        others = iter(self._tails.values())
        while self._size > self._most_bytes and (other := next(others, None)) is not None:
            self._size -= other.recent.size
            other.recent.keep(0)

    def drop(self, tail: "Tail") -> None:
        """It is over, or nobody needs it."""
        if self._tails.get(tail.path) is tail:
            del self._tails[tail.path]
        self._size -= tail.recent.size
        tail.recent.forget()

    async def aclose(self) -> None:
        """End all of them."""
        tails = tuple(self._tails.values())
        for tail in tails:
            tail.end()
        await asyncio.gather(*(tail.task for tail in tails), return_exceptions=True)


class Tail:
    """One stream, read from its end on."""

    def __init__(self, path: str, transport: Transport, tails: Tails) -> None:
        self.path = path
        self.recent = Recent()
        self.lost: errors.DurableStreamError | None = None
        """Why nothing comes, and nobody knows when it will."""
        self._transport = transport
        self._tails = tails
        self._readers: dict[object, Callable[[], None]] = {}
        self._lingering: asyncio.TimerHandle | None = None
        self._broken_s: float | None = None
        """Since when it is."""
        self._wait_s = FIRST_WAIT_S
        """Until the next attempt."""
        self.task = asyncio.ensure_future(self._run())

    def add(self, reader: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever something came, or may have."""
        self._readers[reader] = wake
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def remove(self, reader: object) -> None:
        """It waits no longer. Somebody unknown may be of another tail, which was here before."""
        if self._readers.pop(reader, None) is None or self._readers:
            return
        if self.recent.end is None or self.recent.ttl_s is not None or len(self._tails) > MANY:
            self.end()
        else:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self.end)

    def end(self) -> None:
        """Read no more."""
        self.task.cancel()
        self._tails.drop(self)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._follow()
            except Exception as error:
                self._tails.broken += 1
                self._broken_s = loop.time() if self._broken_s is None else self._broken_s
                self._failed(error, loop.time() - self._broken_s)
            else:
                if not self._readers:
                    self._tails.drop(self)
                    return
                # It is closed. Whoever reads it finds that out and leaves; who stays has found another one here.
                self._wait_s = MOST_WAIT_S
                self._begin_anew()
            await asyncio.sleep(self._wait_s)
            self._wait_s = min(2 * self._wait_s, MOST_WAIT_S)

    async def _follow(self) -> None:
        """Return when the stream is closed."""
        at = self.recent.end
        pages = self._transport.follow(self.path, str(at) if at is not None else NOW, 0)
        async with contextlib.aclosing(pages):
            async for page in pages:
                self._take(values.page_of(page))
                del page

    def _take(self, page: Page) -> None:
        self._broken_s, self._wait_s, self.lost = None, FIRST_WAIT_S, None
        before = self.recent.size
        if self.recent.add(page):
            self.recent.keep(TAIL_BYTES)
            self._tails.took(self, self.recent.size - before)
            self._wake()

    def _failed(self, error: Exception, for_s: float) -> None:
        match error:
            case errors.DurableStreamError(retryable=True):
                if for_s >= CUT_OFF_S:
                    self.lost = error
                    self._wake()
            case errors.AuthenticationError() | errors.PermissionDeniedError():
                self.lost = error
                self._begin_anew()
            case errors.DurableStreamError():  # Another stream is here, or none.
                self.lost = None
                self._begin_anew()
            case _:
                if not for_s:
                    log.error("the upstream read of %s failed, and is tried again", self.path, exc_info=error)
                self._begin_anew()

    def _begin_anew(self) -> None:
        """What was known is of no use; readers find out from the cluster."""
        before = self.recent.size
        self.recent.forget()
        self._tails.took(self, -before)
        self._wake()

    def _wake(self) -> None:
        for wake in tuple(self._readers.values()):
            wake()
