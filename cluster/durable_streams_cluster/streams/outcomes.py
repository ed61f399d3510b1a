"""The replicated answers: what the machine decided, as values; every replica decides the same.

A rejection is an outcome, not an exception: it travelled through the log like any success.
"""

import msgspec

from durable_streams_cluster.streams.offsets import Offset


class Created(msgspec.Struct, frozen=True):
    """The stream exists as asked; ``existed`` when it did before (PROTOCOL 5.1)."""

    existed: bool
    content_type: str
    next_offset: Offset
    closed: bool
    ttl_s: int | None
    expires_at_ms: int | None


class Appended(msgspec.Struct, frozen=True):
    """Stored, closed, or both; ``duplicate`` when the producer's batch was stored before (PROTOCOL 5.2.1)."""

    next_offset: Offset
    closed: bool
    producer_epoch: int | None = None
    producer_seq: int | None = None
    duplicate: bool = False


class Deleted(msgspec.Struct, frozen=True):
    """The stream is gone, or hidden while forks need its data (``soft``)."""

    soft: bool


class Renewed(msgspec.Struct, frozen=True):
    """The stream lives: it was touched, or its expiry entry was moved."""


class NotFound(msgspec.Struct, frozen=True):
    """No stream at this path."""


class SoftDeleted(msgspec.Struct, frozen=True):
    """The stream was deleted and its data is kept for its forks (PROTOCOL 4.2)."""


class ConfigMismatch(msgspec.Struct, frozen=True):
    """A stream with another configuration is there; ``field`` names the first difference."""

    field: str


class StreamClosed(msgspec.Struct, frozen=True):
    """No more appends, for ever."""

    next_offset: Offset


class TypeMismatch(msgspec.Struct, frozen=True):
    """The body's content type is not the stream's."""

    expected: str


class SeqRegression(msgspec.Struct, frozen=True):
    """Stream-Seq does not grow; ``last`` is the newest accepted."""

    last: bytes


class OffsetMismatch(msgspec.Struct, frozen=True):
    """The tail is not where the append expected it (If-Match)."""

    next_offset: Offset


class StreamFull(msgspec.Struct, frozen=True):
    """The append would make the stream hold more than its prefix allows."""

    max_bytes: int


class TooManyProducers(msgspec.Struct, frozen=True):
    """The stream remembers as many producers as it may."""

    most: int


class ProducerFenced(msgspec.Struct, frozen=True):
    """A newer epoch of this producer was seen."""

    epoch: int


class ProducerBadStart(msgspec.Struct, frozen=True):
    """A new epoch must begin with sequence 0."""

    epoch: int
    seq: int


class ProducerGap(msgspec.Struct, frozen=True):
    """A batch is missing before this one."""

    expected: int
    received: int


class ForkSourceMissing(msgspec.Struct, frozen=True):
    """No stream at the source's path."""


class ForkSourceDeleted(msgspec.Struct, frozen=True):
    """The source is soft-deleted."""


class ForkRefused(msgspec.Struct, frozen=True):
    """The fork point is not a place in the source, or a bound is reached; ``rule`` says which."""

    field: str
    rule: str


Rejected = (
    NotFound
    | SoftDeleted
    | ConfigMismatch
    | StreamClosed
    | TypeMismatch
    | SeqRegression
    | OffsetMismatch
    | StreamFull
    | TooManyProducers
    | ProducerFenced
    | ProducerBadStart
    | ProducerGap
    | ForkSourceMissing
    | ForkSourceDeleted
    | ForkRefused
)
Outcome = Created | Appended | Deleted | Renewed | Rejected
