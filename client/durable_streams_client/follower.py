"""A reader that goes on: whatever node dies, it resumes where it was."""

import asyncio
import codecs
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from durable_streams_client._retry import Backoff
from durable_streams_client.errors import DurableStreamError, StreamNotFoundError, UnavailableError
from durable_streams_client.types import START, Offset, Page

if TYPE_CHECKING:
    from durable_streams_client.client import Client
    from durable_streams_client.stream import Stream


class OffsetStore(Protocol):
    """Keeps how far readers came, by name: in a file, or where what they make of the data is kept, too."""

    async def load(self, name: str) -> Offset | None:
        """Where the reader was; None: it never said."""
        ...

    async def save(self, name: str, offset: Offset) -> None:
        """The reader has done with everything before ``offset``."""
        ...


class FileOffsetStore:
    """In one JSON file, which is replaced as a whole."""

    def __init__(self, path: str | Path) -> None:
        """``path`` need not be there; its folder must."""
        self._path = Path(path)
        self._lock = threading.Lock()

    async def load(self, name: str) -> Offset | None:
        """See ``OffsetStore``. Raises ValueError when the file is none of these."""
        return (await asyncio.to_thread(self._read)).get(name)

    async def save(self, name: str, offset: Offset) -> None:
        """See ``OffsetStore``. Raises OSError."""
        await asyncio.to_thread(self._write, name, offset)

    def _read(self) -> dict[str, Offset]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict) or not all(isinstance(offset, str) for offset in found.values()):
            raise ValueError(f"{self._path} holds no offsets: name another file")
        return found

    def _write(self, name: str, offset: Offset) -> None:
        with self._lock:  # In the thread: whoever waits for it may be called off, and it goes on.
            fresh = self._path.with_name(self._path.name + ".new")
            fresh.write_text(json.dumps({**self._read(), name: offset}, indent=1), encoding="utf-8")
            fresh.replace(self._path)


class Follower:
    """Pages of one stream, in order and without gap; ends behind the last one of a closed stream.

    ::

        async for page in stream.follow():
            ...
            # where to go on after a restart: page.next_offset

    A page has whole appends, never none. Whoever breaks out of the loop may go on later; ``async with`` or ``aclose``
    ends the call.
    """

    def __init__(
        self,
        client: "Client",
        stream: "Stream",
        offset: Offset | None,
        max_bytes: int,
        store: OffsetStore | None,
        name: str,
        patience_s: float | None,
    ) -> None:
        self._client = client
        self._stream = stream
        self.offset = offset
        """Where the next page begins; None: it is not known yet."""
        self.up_to_date = False
        """Nothing more was there when the server last said something."""
        self.lag_bytes: int | None = None
        """Bytes of the stream behind ``offset``, as far as the server said; None: it did not."""
        self.closed = False
        """The stream is closed, and all of it was read."""
        self._max_bytes = max_bytes
        self._store = store
        self._name = name
        self._patience_s = patience_s
        self._identity = ""
        self._pages: AsyncGenerator[Page, None] | None = None
        self._backoff = Backoff(SystemRandom().random)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page:
        if self.offset is None:
            found = await self._store.load(self._name) if self._store is not None else None
            self.offset = found if found is not None else START
        loop = asyncio.get_running_loop()
        answered_s = loop.time()
        while not self.closed:
            try:
                page = await self._next()
            except DurableStreamError as error:
                await self.aclose()
                if not error.retryable:
                    raise
                wait_s = self._backoff.wait_s(getattr(error, "retry_after_s", 0.0))
                if self._patience_s is not None and loop.time() + wait_s - answered_s > self._patience_s:
                    raise UnavailableError(f"{error}; waited for {self._patience_s:g} s") from None
                await asyncio.sleep(wait_s)
                continue
            self._backoff.reset()
            answered_s = loop.time()
            if page is not None and self._takes(page):
                return page
        await self.aclose()
        raise StopAsyncIteration

    async def _next(self) -> Page | None:
        if self._pages is None:
            assert self.offset is not None
            self._pages = self._client.transport.follow(self._stream.path, self.offset, self._max_bytes)
        try:
            return await anext(self._pages)
        except StopAsyncIteration:  # The server has said all that it wanted to on one call.
            self._pages = None
            return None
        except DurableStreamError:
            self._pages = None
            raise

    def _takes(self, page: Page) -> bool:
        """Whether there is something on it; what it says is known afterwards."""
        if self._identity and page.stream and page.stream != self._identity:
            raise StreamNotFoundError(f"the stream at {self._stream.path!r} is gone, and another one has its place")
        self._identity = page.stream or self._identity
        self._stream.content_type = page.content_type or self._stream.content_type
        self.offset, self.up_to_date, self.closed = page.next_offset, page.up_to_date, page.closed
        self.lag_bytes = page.lag_bytes
        return bool(page.bodies)

    # ------------------------------------------------------------------------------------------------- other iterators

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """The data, page by page."""
        async for page in self:
            yield page.data

    async def iter_text(self, encoding: str = "utf-8") -> AsyncIterator[str]:
        """The data as text; a character that is in two appends comes whole."""
        decoder = codecs.getincrementaldecoder(encoding)()
        async for page in self:
            if text := decoder.decode(page.data):
                yield text

    async def iter_json(self) -> AsyncIterator[Any]:
        """Messages, one by one. ``offset`` is behind the page that they are of."""
        async for page in self:
            for message in page.json():
                yield message

    # ------------------------------------------------------------------------------------------------------------ ends

    async def commit(self) -> None:
        """Keep that everything before ``offset`` is done with.

        Raises:
            ValueError: there is no store.

        """
        if self._store is None:
            raise ValueError("this follower has no store: give one to Stream.follow")
        if self.offset is not None:
            await self._store.save(self._name, self.offset)

    async def aclose(self) -> None:
        """End the call; iterating again begins another one."""
        pages, self._pages = self._pages, None
        if pages is not None:
            with contextlib.suppress(DurableStreamError):
                await pages.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
