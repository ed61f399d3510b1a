"""What can happen to streams: the commands of the replicated log, as values.

A command says *what was asked*; time comes separately (``Stamp``), set once by the leader, so that every replica
decides alike. The numbers (``tag``) and the order of fields are the stored format (``storage.codecs``):
never reuse a tag, add fields only at the end and with a default.

Reserved tags: 20 Pin, 21 Unpin, 22 Abandon (forks across groups).
"""

import msgspec

from durable_streams_cluster.streams.offsets import Offset


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """The leader's times for one log entry: cluster time (milliseconds, monotone) and wall time (Unix milliseconds)."""

    cluster_ms: int
    wall_ms: int


class Fork(msgspec.Struct, frozen=True, array_like=True):
    """The fork headers of a PUT (PROTOCOL 4.2)."""

    source: str
    """Path of the source stream."""
    offset: Offset | None
    """None: the source's tail when the command is applied."""
    sub_offset: int
    """Messages (JSON) or bytes past ``offset``."""


class Producer(msgspec.Struct, frozen=True, array_like=True):
    """The three producer headers (PROTOCOL 5.2.1)."""

    id: str
    epoch: int
    seq: int


class Create(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Create a stream or a fork, or confirm that it is there as asked."""

    path: str
    content_type: str | None
    """As asked; None means the default, or the source's."""
    ttl_s: int | None
    expires_at_ms: int | None
    closed: bool
    body: bytes
    """The first record, in stored form (JSON: messages joined by commas); empty for none."""
    fork: Fork | None
    default_ttl_s: int | None = None
    """What the stream's prefix gives when nobody asked for a lifetime, neither here nor for a fork's source."""
    max_bytes: int | None = None
    """The most the stream may hold, by its prefix."""


class Append(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Append, close, or both at once. An empty ``body`` only closes."""

    path: str
    content_type: str | None
    body: bytes
    close: bool
    stream_seq: bytes | None
    producer: Producer | None
    if_match: Offset | None = None
    """Only if the stream's tail is here."""


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Delete a stream; soft while it has forks."""

    path: str


class Touch(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A read renewed the stream's sliding window."""

    path: str
    stream_id: int


class Expire(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """End a stream whose deadline passed, unless it was touched after the leader looked (``touched_at``)."""

    path: str
    stream_id: int
    touched_at: int


class Rearm(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Move the stream's entry in the expiry index to its present deadline."""

    path: str
    stream_id: int


class Trim(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Retention: forget what lies before position ``before`` (bytes), the end of an append."""

    path: str
    stream_id: int
    before: int


Command = Create | Append | Delete | Touch | Expire | Rearm | Trim
