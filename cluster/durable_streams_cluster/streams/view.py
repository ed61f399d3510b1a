"""What the stream machine may read (a port that storage implements) and what it may change (values)."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Protocol

import msgspec

from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.producers import ProducerState


class GroupState(msgspec.Struct, frozen=True, array_like=True):
    """Counters of one group. The order of fields is the stored format: add only at the end, with a default."""

    next_stream_id: int = 1
    generation_floor: int = 0
    """At least the newest generation of every stream that is gone: a new era begins above it."""
    lost_floor: int = 0
    """Generations up to here may have offsets that nobody knows any more: the cluster had lost its quorum, and goes on
    from one directory (``eras.after_loss``). An era of such a generation takes no more appends."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Appends in a row as stored together, one at least: the bytes before ``end``."""

    end: int
    body: bytes
    cuts: tuple[int, ...] = ()
    """Where appends end within ``body``, in order; the last one ends with it."""

    @property
    def begins(self) -> int:
        """The position (bytes) at which the first of them begins."""
        return self.end - len(self.body)

    @property
    def appends(self) -> list[bytes]:
        """Their bodies one by one."""
        if not self.cuts:
            return [self.body]
        return [self.body[begins:ends] for begins, ends in pairwise((0, *self.cuts, len(self.body)))]

    def ends_at(self, position: int) -> bool:
        """Whether one of them ends at ``position`` (bytes)."""
        if position == self.end or not self.cuts:
            return position == self.end
        place = bisect_left(self.cuts, position - self.begins)
        return place < len(self.cuts) and self.cuts[place] == position - self.begins

    def between(self, low: int, high: int) -> "Record":
        """Those bytes of it that are between two positions."""
        begins = self.begins
        if low <= begins and self.end <= high:
            return self
        first, last = max(0, low - begins), min(high, self.end) - begins
        cuts = self.cuts[bisect_right(self.cuts, first) : bisect_left(self.cuts, last)]
        return Record(begins + last, self.body[first:last], tuple(cut - first for cut in cuts) if first else cuts)

    def first(self, max_bytes: int) -> "Record":
        """As many appends from the first one on as ``max_bytes`` hold, one at least."""
        if len(self.body) <= max_bytes or not self.cuts:
            return self
        fitting = bisect_right(self.cuts, max_bytes)
        return self.between(self.begins, self.begins + self.cuts[max(0, fitting - 1)])


def fitting(records: Iterable[Record], max_bytes: int) -> Iterator[Record]:
    """The first appends, as many as ``max_bytes`` hold, and one at least."""
    left = max_bytes
    for number, record in enumerate(records):
        first = record.first(left)
        if number and len(first.body) > left:
            return
        yield first
        left -= len(first.body)
        if first is not record or left <= 0:
            return


class StreamView(Protocol):
    """The streams of one group as the commands before this one left them."""

    def slot_of(self, path: str) -> int:
        """The slot a path lives in."""
        ...

    def group_state(self) -> GroupState:
        """The group's counters."""
        ...

    def find(self, path: str) -> StreamRef | None:
        """The stream at ``path``; soft-deleted ones are still there."""
        ...

    def meta(self, ref: StreamRef) -> StreamMeta | None:
        """What is known of a stream."""
        ...

    def producer(self, ref: StreamRef, producer_id: str) -> ProducerState | None:
        """What a stream remembers of a producer."""
        ...

    def records_after(self, ref: StreamRef, position: int) -> Iterator[Record]:
        """The stream's own appends that end beyond ``position`` (bytes), in order, as of this call."""
        ...

    def record_ends_at(self, ref: StreamRef, position: int) -> bool:
        """Whether one of the stream's own appends ends exactly at ``position`` (bytes)."""
        ...


class History(StreamView, Protocol):
    """The committed streams, for whoever decides what is kept of them."""

    def last_end(self, ref: StreamRef, position: int) -> int | None:
        """Where the last of the stream's own appends that end at or before ``position`` (bytes) ends."""
        ...

    def end_and_time(self, ref: StreamRef, position: int) -> tuple[int, int] | None:
        """Of the first own append that ends beyond ``position`` (bytes): its end, and when it came (cluster ms)."""
        ...


class PutGroup(msgspec.Struct, frozen=True):
    """Set the group's counters."""

    state: GroupState


class PutPath(msgspec.Struct, frozen=True):
    """Bind a path to a stream."""

    path: str
    ref: StreamRef


class PutMeta(msgspec.Struct, frozen=True):
    """Set what is known of a stream."""

    ref: StreamRef
    meta: StreamMeta


class PutRecord(msgspec.Struct, frozen=True):
    """Store appends that came together; ``at`` is cluster time (ms)."""

    ref: StreamRef
    record: Record
    at: int


class DropRecords(msgspec.Struct, frozen=True):
    """Forget the stream's own records that end after ``after`` and at or before ``upto`` (bytes).

    One that goes on beyond ``upto`` stays whole, until what ends it goes, too.
    """

    ref: StreamRef
    after: int
    upto: int


class PutProducer(msgspec.Struct, frozen=True):
    """Remember a producer."""

    ref: StreamRef
    producer_id: str
    state: ProducerState


class MoveExpiry(msgspec.Struct, frozen=True):
    """Change a stream's entry in an expiry index, ``wall`` saying which clock; None: no entry."""

    ref: StreamRef
    path: str
    wall: bool
    old_due: int | None
    new_due: int | None


class DropStream(msgspec.Struct, frozen=True):
    """Forget a stream: its path, meta, producers, records."""

    ref: StreamRef
    meta: StreamMeta


Write = PutGroup | PutPath | PutMeta | PutRecord | DropRecords | PutProducer | MoveExpiry | DropStream


class Wake(msgspec.Struct, frozen=True):
    """Whoever waits for the stream at ``path`` should look again; carries no data, so slow readers hold nothing."""

    path: str
