"""The one door to streams: for the HTTP gateway, gRPC and tests. Served here (``runtime.service``) or elsewhere.

Writes answer with the replicated ``Outcome``, rejections included; reads with a page or a rejection. What this node
cannot do now is a ``ClusterError``.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol, Self

import msgspec

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.streams.commands import Append, Create, Delete
from durable_streams_cluster.streams.meta import is_json
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import NotFound, SoftDeleted
from durable_streams_cluster.streams.view import Record


class From(Enum):
    """Where to read from, besides an offset (PROTOCOL 8, sentinels)."""

    START = "-1"
    NOW = "now"


class BadOffset(msgspec.Struct, frozen=True):
    """The offset is not the end of an append of this stream: never minted by this system."""


class OffsetGone(msgspec.Struct, frozen=True):
    """The offset belongs to another stream that had this path, or to data that is no longer kept."""

    first: Offset
    """Where what is kept begins."""


ReadRejected = NotFound | SoftDeleted | BadOffset | OffsetGone


class Page(msgspec.Struct):
    """One read: whole appends, in order. Shared by everybody who reads the same range; never changed."""

    stream: str
    """Names the stream for ever: another stream at the same path has another name."""
    content_type: str
    is_json: bool
    start: Offset
    next: Offset
    records: list[Record]
    up_to_date: bool
    """Nothing more was there when the page was made."""
    closed: bool
    """The stream is closed and the page reaches its end."""
    ttl_s: int | None
    expires_at_ms: int | None
    encoded: dict[str, bytes]
    """Forms of the bodies made by readers, kept for the next reader of the same page."""
    behind: int = 0
    """Bytes of the stream behind the page, when it was made."""
    after_cr: bool = False
    """Of text: the page begins with a line feed, right behind a carriage return: one line end in two appends."""

    @property
    def bodies(self) -> list[bytes]:
        """Append by append."""
        return [body for record in self.records for body in record.appends]

    @property
    def size(self) -> int:
        """Bytes of the appends together."""
        return sum(len(record.body) for record in self.records)

    @property
    def content(self) -> bytes:
        """All of it, as a reader gets it: of JSON an array of its messages (PROTOCOL 9.1)."""
        if self.is_json:
            if "content" not in self.encoded:
                self.encoded["content"] = b"[" + b",".join(self.bodies) + b"]"
            return self.encoded["content"]
        return self.records[0].body if len(self.records) == 1 else b"".join([record.body for record in self.records])


class Described(msgspec.Struct, frozen=True):
    """What is known of a stream besides its data (PROTOCOL 5.5)."""

    path: str
    content_type: str
    first_offset: Offset
    """Where what is kept begins."""
    next_offset: Offset
    """Where it ends."""
    closed: bool
    ttl_s: int | None
    expires_at_ms: int | None

    @property
    def is_json(self) -> bool:
        """Whether it is a stream of JSON messages (PROTOCOL 9.1)."""
        return is_json(self.content_type)


class Watch(Protocol):
    """Told when one stream moves. Register first, then read: no wake falls between.

    A context manager; it may be entered again, and in between no move is seen.
    """

    moved: bool
    """Whether the stream moved since the last ``wait``: the next one ends at once."""

    async def wait(self, timeout_s: float) -> bool:
        """Until the stream moved since the last ``wait`` (True), or ``timeout_s`` seconds passed (False)."""
        ...

    def wake(self) -> None:
        """End the wait now."""
        ...

    def call(self, moved: Callable[[], None]) -> None:
        """From now on call ``moved`` at each move, too; it must be short."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Streams(Protocol):
    """Streams by path. Every call may raise ``ClusterError``."""

    def create(self, command: Create) -> Answer:
        """Create or confirm (PROTOCOL 5.1, 4.2). Raises at once, or tells it later; so do the other two.

        What one caller asks of a stream, one call after the other, happens in that order: no answer need be waited for.
        """
        ...

    def append(self, command: Append) -> Answer:
        """Append, close, or both (PROTOCOL 5.2, 5.3)."""
        ...

    def delete(self, command: Delete) -> Answer:
        """Delete (PROTOCOL 5.4)."""
        ...

    async def head(self, path: str) -> Described | NotFound | SoftDeleted:
        """What is known of a stream; renews nothing (PROTOCOL 5.5)."""
        ...

    async def list_streams(self, prefix: str, after: str, limit: int) -> list[Described]:
        """At most ``limit`` streams whose path begins with ``prefix``, by path, beginning behind ``after``.

        In the order of UTF-8. Deleted streams are not among them. Fewer than ``limit`` means that there are no more.
        """
        ...

    async def read(
        self, path: str, at: Offset | From, max_bytes: int | None = None, *, fresh: bool = True
    ) -> Page | ReadRejected:
        """Whole appends from ``at`` on, up to a page (PROTOCOL 5.6).

        ``max_bytes`` asks for a smaller page than usual; it still holds one append, however large. Fresh, it is as new
        as anything that anybody was told before the call, and renews a sliding window. Else it is what is here, and
        never older than what was here before: for who was woken, or goes on with the next page.
        """
        ...

    def read_now(self, path: str, at: Offset | From, max_bytes: int | None = None) -> Page | ReadRejected | None:
        """What a fresh ``read`` would answer, if that is known here and now; None: it takes a wait, so ask that."""
        ...

    def watch(self, path: str) -> Watch:
        """Be told when the stream at ``path`` moves."""
        ...
