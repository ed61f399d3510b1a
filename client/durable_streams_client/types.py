"""What is asked for and what comes back, as values."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Offset = str
"""A place in a stream, as the server gave it out: opaque, and in the order of the stream when compared as text."""

START: Offset = "-1"
"""Where what is kept of a stream begins."""
NOW: Offset = "now"
"""Where it ends: only what comes is read."""


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What is there after a create."""

    existed: bool
    """It was there before, as asked."""
    content_type: str
    next_offset: Offset
    """Where it ends."""
    closed: bool
    ttl_s: int | None
    """Seconds after the last append or read at which it ends; None: never by that."""
    expires_at_ms: int | None
    """When it ends, in Unix milliseconds; None: never by that."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """An append that is stored, durably on a majority of the voters."""

    next_offset: Offset
    """Where it ends; of a duplicate, where the original did, and empty if the server does not say so."""
    closed: bool = False
    """The stream takes no more."""
    duplicate: bool = False
    """This batch of the producer was stored before."""
    resent: bool = False
    """It was sent more than once: what was stored before may be of the sending whose answer was lost."""
    producer_epoch: int | None = None
    """Of a producer: the newest batch of it that is stored, by its epoch"""
    producer_seq: int | None = None
    """and its number there."""


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What is known of a stream besides its data."""

    content_type: str
    offset: Offset
    """Where it ends."""
    first_offset: Offset
    """Where what is kept of it begins; empty over HTTP when that is the start."""
    closed: bool
    ttl_s: int | None
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class ListedStream:
    """One stream of a list."""

    path: str
    content_type: str
    first_offset: Offset
    next_offset: Offset
    closed: bool
    ttl_s: int | None
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Whole appends, in order."""

    bodies: tuple[bytes, ...]
    """One for each append; of a JSON stream, its messages with a comma between each two. Over HTTP all are one."""
    offset: Offset
    """Where the first one begins."""
    next_offset: Offset
    """Where the last one ends: from here a reader goes on."""
    up_to_date: bool
    """Nothing more was there."""
    closed: bool
    """The stream is closed, and this is its end."""
    content_type: str
    lag_bytes: int | None = None
    """Bytes of the stream behind this page, when it was made; None: not known (over HTTP, unless up to date)."""
    stream: str = ""
    """Names the stream for ever, so that another one at the same path is told from it; empty over HTTP."""
    ttl_s: int | None = None
    """As of ``CreateResult``; None over HTTP, too."""
    expires_at_ms: int | None = None
    """As of ``CreateResult``; None over HTTP, too."""
    after_cr: bool = False
    """Of text: the append before ends with a carriage return, and the first one here begins with a line feed: one line
    end. Not told over HTTP."""

    @property
    def is_json(self) -> bool:
        """Whether the stream is one of JSON messages."""
        return is_json(self.content_type)

    @property
    def data(self) -> bytes:
        """All of them; of a JSON stream, a JSON array of the messages. Joined each time it is asked for."""
        if self.is_json:
            return b"[" + b",".join(self.bodies) + b"]"
        return self.bodies[0] if len(self.bodies) == 1 else b"".join(self.bodies)

    def text(self, encoding: str = "utf-8") -> str:
        """The data as text. Raises UnicodeDecodeError; a stream of text may have one character in two appends."""
        return self.data.decode(encoding)

    def json(self) -> list[Any]:
        """The messages. Raises ValueError when it is no JSON stream."""
        if not self.is_json:
            raise ValueError(f"a stream of {self.content_type} has no JSON messages")
        messages: list[Any] = json.loads(self.data)
        return messages


@dataclass(frozen=True, slots=True)
class Fork:
    """Of which stream one is made, and where it parts from it."""

    source: str
    """Its path."""
    offset: Offset | None = None
    """None: at its end."""
    sub_offset: int = 0
    """So many messages (JSON) or bytes behind ``offset``."""


@dataclass(frozen=True, slots=True)
class ProducerBatch:
    """The place of one append among those of a producer (PROTOCOL 5.2.1)."""

    id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A stream that is to be there."""

    path: str
    content_type: str | None = None
    ttl_s: int | None = None
    expires_at_ms: int | None = None
    closed: bool = False
    body: bytes = b""
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """An append, a close, or both."""

    path: str
    body: bytes = b""
    content_type: str | None = None
    close: bool = False
    stream_seq: bytes | None = None
    producer: ProducerBatch | None = None
    if_match: Offset | None = None

    @property
    def is_idempotent(self) -> bool:
        """Whether it may be sent again when nobody knows what became of it."""
        return self.producer is not None or not self.body


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """A stream that is to be gone."""

    path: str


@lru_cache(maxsize=256)
def is_json(content_type: str) -> bool:
    """Whether a stream of this type is one of JSON messages (PROTOCOL 9.1)."""
    return content_type.partition(";")[0].strip().lower() == "application/json"
