"""What is known of a stream besides its data, and the pure rules on it.

The order of fields is the stored format (``storage.codecs``): add only at the end, with a default.
"""

from functools import lru_cache

import msgspec

from durable_streams_cluster.streams.commands import Fork
from durable_streams_cluster.streams.offsets import START, Offset

DEFAULT_CONTENT_TYPE = "application/octet-stream"


class StreamRef(msgspec.Struct, frozen=True, array_like=True):
    """Which stream: its slot and its number there. A path deleted and created again has another number."""

    slot: int
    id: int


class Era(msgspec.Struct, frozen=True, array_like=True):
    """From ``start`` (bytes) on, offsets carry ``generation``, until the next era's start."""

    generation: int
    start: int


class Parent(msgspec.Struct, frozen=True, array_like=True):
    """Where a fork's inherited data comes from: everything of ``ref``'s view before position ``at``."""

    ref: StreamRef
    path: str
    at: int
    depth: int
    """1 for a fork of a plain stream."""


class Requested(msgspec.Struct, frozen=True, array_like=True):
    """The PUT as it was asked; an idempotent PUT is compared with this, not with what it resolved to (PROTOCOL 5.1)."""

    content_type: str | None
    ttl_s: int | None
    expires_at_ms: int | None
    fork: Fork | None


class Closer(msgspec.Struct, frozen=True, array_like=True):
    """The producer batch that closed the stream: its retry is a duplicate, not a conflict (PROTOCOL 5.2.1)."""

    producer_id: str
    epoch: int
    seq: int


class StreamMeta(msgspec.Struct, frozen=True, array_like=True):
    """One stream.

    Invariants (``check``):
    1. eras have strictly growing generations and non-decreasing starts, none beyond the tail;
    2. ``fresh`` (no own append yet) streams stand at their fork point, or at 0;
    3. a soft-deleted stream has forks; forks are never negative;
    4. at most one of ``ttl_s`` and ``expires_at_ms`` is set;
    5. freed <= head <= tail: what is trimmed stays on disk for a while only where forks need it.
    """

    path: str
    content_type: str
    requested: Requested
    created_at: int
    """Cluster time, ms."""
    touched_at: int
    """Cluster time of the newest append or recorded read, ms."""
    tail: int = 0
    """Bytes."""
    eras: tuple[Era, ...] = ()
    fresh: bool = True
    """The next append opens a new era."""
    closed: bool = False
    closer: Closer | None = None
    stream_seq: bytes | None = None
    ttl_s: int | None = None
    expires_at_ms: int | None = None
    """Unix ms."""
    parent: Parent | None = None
    forks: int = 0
    deleted: bool = False
    producers: int = 0
    expiry_due: int | None = None
    """Where the stream's entry in the expiry index stands, if it has one (ms, of the clock its lifetime uses)."""
    head: int = 0
    """Bytes; what lies before was trimmed: nobody reads it here any more."""
    above: int = 0
    """The newest generation of the fork's ancestors when it was made; its own era begins above."""
    freed: int = 0
    """Bytes; own records that end here or before are gone from the store."""
    max_bytes: int | None = None
    """An append that would make the stream hold more is refused."""

    @property
    def tail_offset(self) -> Offset:
        """The offset after the last byte."""
        return Offset(self.eras[-1].generation, self.tail) if self.eras else START

    @property
    def head_offset(self) -> Offset:
        """The first offset that can be read from."""
        return self.offset_at(self.head)

    @property
    def generation(self) -> int:
        """The newest generation, 0 before the first append."""
        return self.eras[-1].generation if self.eras else 0

    @property
    def own_start(self) -> int:
        """Where the stream's own data begins, in bytes: its fork point, or 0."""
        return self.parent.at if self.parent is not None else 0

    @property
    def is_json(self) -> bool:
        """Whether the stream is in JSON mode (PROTOCOL 9.1)."""
        return is_json(self.content_type)

    def offset_at(self, position: int) -> Offset:
        """The offset of ``position`` (bytes), which must be the end of an append or a fork point."""
        if position == 0:
            return START
        for era in reversed(self.eras):
            if era.start < position:
                return Offset(era.generation, position)
        raise AssertionError("a position beyond 0 lies in some era")

    def check(self) -> None:
        """Assert the invariants."""
        generations = [era.generation for era in self.eras]
        starts = [era.start for era in self.eras]
        assert generations == sorted(set(generations)), generations
        assert starts == sorted(starts), starts
        assert not starts or starts[-1] <= self.tail
        assert not self.fresh or self.tail == self.own_start
        assert self.forks >= 0
        assert not self.deleted or self.forks > 0
        assert self.ttl_s is None or self.expires_at_ms is None
        assert 0 <= self.freed <= self.head <= self.tail


@lru_cache(maxsize=256)  # Most streams are of one of few types.
def media_type(content_type: str) -> str:
    """The type without parameters, in lower case: what content types are compared by (PROTOCOL 9)."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Whether a stream of this type holds JSON messages (PROTOCOL 9.1)."""
    return media_type(content_type) == "application/json"
