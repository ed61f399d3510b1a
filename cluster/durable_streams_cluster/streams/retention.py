"""How much of a stream is kept: the bound on what it may hold, and the trimming of its oldest appends.

Trimming moves the head: what lies before it is gone for readers of this stream (PROTOCOL 5.6, 410). The store forgets
the records as soon as no fork needs them. Whoever trims decides where (``cut_by_size``, ``cut_by_age``: the leader, by
its configuration); the command carries the place, so every replica does the same.
"""

from collections.abc import Generator

from msgspec.structs import replace

from durable_streams_cluster.streams import reading
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.offsets import MAX_PART
from durable_streams_cluster.streams.view import DropRecords, History, PutMeta, StreamView, Write

WORTH_FRACTION = 10
"""A stream is trimmed once a tenth more than it may keep is there: fewer, larger cuts cost the store less."""


def most(meta: StreamMeta) -> int:
    """The most that a stream may hold, in bytes."""
    # A position has 16 digits in an offset: beyond them, offsets would no longer sort as text.
    return MAX_PART if meta.max_bytes is None else meta.max_bytes


def limit(meta: StreamMeta) -> int:
    """How far the tail may come, in bytes."""
    return min(meta.head + most(meta), MAX_PART)


def trim(view: StreamView, ref: StreamRef, meta: StreamMeta, before: int) -> tuple[Write, ...]:
    """Move the head to ``before`` (bytes), if that is an end of an append ahead of it, and free what nobody needs.

    Forks of the stream read its records: while it has any only the head moves, and the last one to go frees them.
    """
    if not meta.head < before <= meta.tail or not reading.is_boundary(view, ref, meta, before):
        return ()
    return put_freed(ref, replace(meta, head=before))


def put_freed(ref: StreamRef, meta: StreamMeta) -> tuple[Write, ...]:
    """The writes that store ``meta``, and free what lies before its head unless it has forks."""
    if meta.forks or meta.freed == meta.head:
        return (PutMeta(ref, meta),)
    put = PutMeta(ref, replace(meta, freed=meta.head))
    after = max(meta.freed, meta.own_start)
    return (DropRecords(ref, after, meta.head), put) if after < meta.head else (put,)


def exceeds(meta: StreamMeta, keep: int) -> bool:
    """Whether a stream that keeps its newest ``keep`` bytes is worth trimming."""
    return meta.tail - meta.head > keep + keep // WORTH_FRACTION


def cut_by_size(view: History, ref: StreamRef, meta: StreamMeta, keep: int) -> int:
    """Where to trim a stream so that at least its newest ``keep`` bytes stay; its head when that is not worth it."""
    if not exceeds(meta, keep):
        return meta.head
    return max(meta.head, _last_end(view, ref, meta, meta.tail - keep))


def oldest_ms(view: History, ref: StreamRef, meta: StreamMeta) -> int | None:
    """When the oldest append that is kept was stored (cluster time); None of an empty stream."""
    return _append_at(view, ref, meta, meta.head)[2] if meta.head < meta.tail else None


def cut_by_age(view: History, ref: StreamRef, meta: StreamMeta, before_ms: int) -> Generator[None, None, int]:
    """Where to trim a stream so that what was stored before ``before_ms`` (cluster time) is gone.

    Appends are stored in the order of time, so the first one that stays is found by strides that double, and then by
    halving: few look-ups where little is to go, and never many. It yields after each, for each reads an append whole:
    of 16 MiB that takes some ten milliseconds. Nobody may trim the stream meanwhile; go on only while it is there.
    """
    low, high, stride = meta.head, meta.tail, 0
    while low < high:
        start, end, stored_ms = _append_at(view, ref, meta, min(low + stride, (low + high) // 2))
        if stored_ms < before_ms:
            stride, low = 2 * (end - low), end
        else:
            high = start
        yield
    return low


def _last_end(view: History, ref: StreamRef, meta: StreamMeta, position: int) -> int:
    """The last end of an append at or before ``position`` (bytes), inherited ones too; 0 when there is none."""
    for piece in reversed(reading.segments(view, ref, meta)):
        if piece.hi <= position:
            return piece.hi
        if piece.lo < position:
            end = view.last_end(piece.ref, position)
            return end if end is not None and end > piece.lo else piece.lo
    return 0


def _append_at(view: History, ref: StreamRef, meta: StreamMeta, position: int) -> tuple[int, int, int]:
    """The append that holds the byte behind ``position``: its start and end (bytes), and its time (cluster ms)."""
    for piece in reading.segments(view, ref, meta):
        if piece.lo <= position < piece.hi:
            found = view.end_and_time(piece.ref, position)
            assert found is not None, "a tail is never beyond its records"
            start = view.last_end(piece.ref, position)
            return max(piece.lo, start or 0), min(piece.hi, found[0]), found[1]
    raise AssertionError("the segments of a stream hold every position before its tail")
