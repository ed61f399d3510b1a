"""A handle to one stream."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from durable_streams_client._batching import ProducerLimits
from durable_streams_client._encoding import encode
from durable_streams_client.follower import Follower, OffsetStore
from durable_streams_client.producer import Producer
from durable_streams_client.types import (
    START,
    AppendRequest,
    AppendResult,
    CreateRequest,
    CreateResult,
    Fork,
    HeadResult,
    Offset,
    Page,
)

if TYPE_CHECKING:
    from durable_streams_client.client import Client
    from durable_streams_client.transport import Transport


class Stream:
    """The stream at one path. Made by ``Client.stream``; as cheap as a string."""

    def __init__(self, client: "Client", path: str, content_type: str | None = None) -> None:
        self._client = client
        self.path = path
        self.content_type = content_type
        """Of the stream, as far as it is known here."""

    def __repr__(self) -> str:
        return f"Stream({self.path!r})"

    async def create(
        self,
        *,
        content_type: str | None = None,
        ttl_s: int | None = None,
        expires_at_ms: int | None = None,
        body: Any = b"",
        closed: bool = False,
        timeout_s: float | None = None,
    ) -> CreateResult:
        """Create the stream, or confirm that it is there as asked (PROTOCOL 5.1).

        Args:
            content_type: ``application/json`` makes it a stream of messages; None: that of this handle, else
                ``application/octet-stream``.
            ttl_s: it ends so many seconds after the last append or read.
            expires_at_ms: it ends then, in Unix milliseconds.
            body: its first content, as of ``append``; ``b""`` for none.
            closed: it takes no appends.
            timeout_s: see ``Client``.

        Raises:
            StreamExistsError: another one is there.

        """
        wanted = content_type or self.content_type
        first = encode(body, wanted or "application/octet-stream") if body != b"" else b""
        request = CreateRequest(self.path, wanted, ttl_s, expires_at_ms, closed, first)
        return self._learn(await self._transport.create(request, timeout_s or self._client.timeout_s))

    async def fork(
        self,
        path: str,
        *,
        offset: Offset | None = None,
        sub_offset: int = 0,
        ttl_s: int | None = None,
        expires_at_ms: int | None = None,
        timeout_s: float | None = None,
    ) -> "Stream":
        """Make another stream at ``path`` that has what this one has (PROTOCOL 4.2).

        Args:
            path: of the fork.
            offset: where it parts from this one; None: at its end.
            sub_offset: so many messages (JSON) or bytes behind ``offset``.
            ttl_s: as of ``create``.
            expires_at_ms: as of ``create``.
            timeout_s: see ``Client``.

        Returns:
            A handle to it.

        Raises:
            ForkSourceError: this stream is not there, or was deleted.

        """
        fork = Stream(self._client, path)
        request = CreateRequest(path, None, ttl_s, expires_at_ms, fork=Fork(self.path, offset, sub_offset))
        fork._learn(await self._transport.create(request, timeout_s or self._client.timeout_s))
        return fork

    async def append(
        self,
        data: Any,
        *,
        stream_seq: str | bytes | None = None,
        if_match: Offset | None = None,
        close: bool = False,
        timeout_s: float | None = None,
    ) -> AppendResult:
        """Append once, and return when it is stored (PROTOCOL 5.2).

        It is not sent again when nobody knows whether it was stored; a ``producer`` may.

        Args:
            data: of a JSON stream, one message, anything that ``json`` encodes, or ``bytes`` that are JSON text, of
                which an array is many messages; else ``bytes``, or a ``str`` that is stored as UTF-8.
            stream_seq: must grow from append to append, compared byte by byte.
            if_match: only if the stream ends at this offset.
            close: it is the last one.
            timeout_s: see ``Client``.

        Raises:
            StreamNotFoundError, StreamClosedError, ContentTypeMismatchError, TooLargeError: it was not stored.
            OverloadedError, UnavailableError: it was not stored, and may be tried again.
            OutcomeUnknownError: it may or may not be stored.

        """
        type_ = await self.known_type(timeout_s)
        seq = stream_seq.encode() if isinstance(stream_seq, str) else stream_seq
        request = AppendRequest(self.path, encode(data, type_), type_, close, seq, None, if_match)
        return await self._transport.begin_append(request, timeout_s or self._client.timeout_s)

    async def close(self, *, timeout_s: float | None = None) -> AppendResult:
        """Let it take no more appends, for ever (PROTOCOL 5.3)."""
        request = AppendRequest(self.path, close=True)
        return await self._transport.begin_append(request, timeout_s or self._client.timeout_s)

    async def delete(self, *, timeout_s: float | None = None) -> bool:
        """Delete it (PROTOCOL 5.4); whether its data stays until its forks are gone. Raises StreamNotFoundError."""
        return await self._transport.delete(self.path, timeout_s or self._client.timeout_s)

    async def head(self, *, timeout_s: float | None = None) -> HeadResult:
        """What is known of it besides its data (PROTOCOL 5.5). Raises StreamNotFoundError."""
        found = await self._transport.head(self.path, timeout_s or self._client.timeout_s)
        self.content_type = found.content_type
        return found

    async def read(self, offset: Offset = START, *, max_bytes: int = 0, timeout_s: float | None = None) -> Page:
        """Whole appends from ``offset`` on, up to a page (PROTOCOL 5.6); ``max_bytes`` 0: some megabyte.

        Raises:
            StreamNotFoundError: no stream is there.
            RetentionGoneError: the data at ``offset`` is no longer kept.

        """
        page = await self._transport.read(self.path, offset, max_bytes, timeout_s or self._client.timeout_s)
        self.content_type = page.content_type
        return page

    def follow(
        self,
        offset: Offset | None = None,
        *,
        max_bytes: int = 0,
        store: "OffsetStore | None" = None,
        name: str = "",
        patience_s: float | None = None,
    ) -> "Follower":
        """What is there from an offset on, and then what is appended, as it comes: an async iterator of pages.

        Args:
            offset: where it begins; None: where ``store`` says that it was, else where the stream begins.
            max_bytes: of one page, at most, unless one append is larger; 0: some megabyte.
            store: keeps how far this reader came, when it says so by ``commit``.
            name: of this reader in ``store``; empty: the stream's path.
            patience_s: how long (seconds) it goes on trying while nobody answers; None: for ever.

        """
        return Follower(self._client, self, offset, max_bytes, store, name or self.path, patience_s)

    def producer(
        self,
        id: str | None = None,  # noqa: A002
        *,
        epoch: int = 0,
        auto_claim: bool = False,
        limits: ProducerLimits | None = None,
    ) -> "Producer":
        """One that appends many, each exactly once, whatever fails in between (PROTOCOL 5.2.1).

        Args:
            id: names it for ever in the stream; None: one that nobody else has.
            epoch: of one that goes on under its ``id`` after a restart, larger than those before, and less than 2**53;
                it fences them off.
            auto_claim: go on in the next epoch if another one wrote before.
            limits: of batches, and of what waits; None: those of a ``ProducerLimits()``.

        """
        name, is_fresh = (id, False) if id else (uuid4().hex, True)
        limits = limits or ProducerLimits()
        return Producer(self._client, self, name, epoch, is_fresh=is_fresh, auto_claim=auto_claim, limits=limits)

    async def known_type(self, timeout_s: float | None = None) -> str:
        """The content type; asks for it if it is not known. Raises StreamNotFoundError."""
        if self.content_type is None:
            await self.head(timeout_s=timeout_s)
        assert self.content_type is not None
        return self.content_type

    def _learn(self, created: CreateResult) -> CreateResult:
        self.content_type = created.content_type
        return created

    @property
    def _transport(self) -> "Transport":
        return self._client.transport
