"""Where a read begins and which bytes of which streams it takes: forks are stitched here (PROTOCOL 4.2, 5.6, 8)."""

from collections.abc import Iterator
from enum import Enum

import msgspec

from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.view import Record, StreamView


class Segment(msgspec.Struct, frozen=True):
    """Positions ``lo`` to ``hi`` (bytes) of a view are the own records of ``ref``, the last one cut at ``hi``."""

    ref: StreamRef
    lo: int
    hi: int


class Place(Enum):
    """What an offset turned out to be."""

    BOUNDARY = "the end of an append, the start, or a fork point"
    BEYOND_TAIL = "past the tail of the newest era"
    GONE = "minted by an era that is not this stream's, or before what is retained, or of what is lost"
    INSIDE = "not the end of an append"


def segments(view: StreamView, ref: StreamRef, meta: StreamMeta) -> list[Segment]:
    """The stream's whole content in order, as pieces of its own and its ancestors' records."""
    pieces: list[Segment] = []
    end = meta.tail
    while True:
        lo = meta.own_start
        if lo < end:
            pieces.append(Segment(ref, lo, end))
            end = lo
        if meta.parent is None or end == 0:
            break
        ref = meta.parent.ref
        ancestor = view.meta(ref)
        assert ancestor is not None, "a stream with forks is never dropped"
        meta = ancestor
    pieces.reverse()
    return pieces


def locate(view: StreamView, ref: StreamRef, meta: StreamMeta, offset: Offset) -> Place:
    """Judge an offset that a client sent (DESIGN: Offsets)."""
    if offset == START:
        return Place.BOUNDARY if meta.head == 0 else Place.GONE
    for number, era in enumerate(meta.eras):
        if era.generation == offset.generation:
            newest = number + 1 == len(meta.eras)
            era_end = meta.tail if newest else meta.eras[number + 1].start
            break
    else:
        return Place.GONE
    if offset.position > era_end:
        # In the newest era it is of an append to come; or it was of one that is lost, and another takes its place.
        return Place.BEYOND_TAIL if newest and era.generation > view.group_state().lost_floor else Place.GONE
    if offset.position <= era.start:
        return Place.INSIDE  # the end of the era before carries that era's generation
    if offset.position < meta.head:
        return Place.GONE
    return Place.BOUNDARY if is_boundary(view, ref, meta, offset.position) else Place.INSIDE


def is_boundary(view: StreamView, ref: StreamRef, meta: StreamMeta, position: int) -> bool:
    """Whether an append of this view ends at ``position`` (bytes)."""
    if position in (0, meta.head, meta.tail):
        return True
    for piece in segments(view, ref, meta):
        if piece.lo < position <= piece.hi:
            return position == piece.hi or view.record_ends_at(piece.ref, position)
    return False


def records(view: StreamView, ref: StreamRef, meta: StreamMeta, start: int) -> Iterator[Record]:
    """The appends of this view from boundary ``start`` (bytes) on, as they were stored together up to a fork point."""
    # Every range is opened before the first record is handed out: whoever pauses between two records still reads the
    # stream as it was, also if it is dropped meanwhile.
    pieces = [piece for piece in segments(view, ref, meta) if piece.hi > start]
    opened = [(piece, view.records_after(piece.ref, max(piece.lo, start))) for piece in pieces]
    for piece, following in opened:
        for record in following:
            if record.end >= piece.hi:
                yield record.between(record.begins, piece.hi)
                break
            yield record
        else:
            raise AssertionError("a tail is never beyond its records")
