"""Appends to one stream, decided one after the other (PROTOCOL 5.2, 5.3).

A stream that many write to gets a hundred appends in one log entry. What they have in common is read and written once:
the decision on each sees what those before it changed, and the store gets the stream as the last one left it.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from durable_streams_cluster.limits import MAX_PRODUCERS_PER_STREAM
from durable_streams_cluster.streams import producers, retention
from durable_streams_cluster.streams.commands import Append, Producer, Stamp
from durable_streams_cluster.streams.eras import open_era, opens_era
from durable_streams_cluster.streams.meta import Closer, StreamMeta, StreamRef, media_type
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.outcomes import (
    Appended,
    NotFound,
    OffsetMismatch,
    Outcome,
    SeqRegression,
    SoftDeleted,
    StreamClosed,
    StreamFull,
    TooManyProducers,
    TypeMismatch,
)
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import (
    GroupState,
    PutGroup,
    PutMeta,
    PutProducer,
    PutRecord,
    Record,
    StreamView,
    Write,
)


def append(view: StreamView, commands: Sequence[Append], stamp: Stamp) -> tuple[list[Outcome], list[Write]]:
    """Decide appends to one path, one at least, on the state that the commands before them left.

    Returns:
        An outcome for each, and what to write: nothing unless one at least is taken.

    """
    ref = view.find(commands[0].path)
    meta = view.meta(ref) if ref is not None else None
    if ref is None or meta is None:
        return [NotFound() for _ in commands], []
    if meta.deleted:
        return [SoftDeleted() for _ in commands], []
    stream = _Stream(view, ref, meta, stamp)
    outcomes = [stream.take(command) for command in commands]
    return outcomes, stream.writes()


def same_type(asked: str | None, stored: str) -> bool:
    """Whether a content type is that of the stream (PROTOCOL 9)."""
    return asked == stored or (asked is not None and media_type(asked) == media_type(stored))


class _Stream:
    """A stream that is ahead of what the view shows by the appends that were taken."""

    def __init__(self, view: StreamView, ref: StreamRef, meta: StreamMeta, stamp: Stamp) -> None:
        self._view = view
        self._ref = ref
        self._stamp = stamp
        self._meta = meta
        """Up to date but for ``_tail``, ``_seq`` and the time, which every append changes."""
        self._tail = meta.tail
        self._seq = meta.stream_seq
        self._generation = meta.generation
        self._opens_era = opens_era(view.group_state(), meta)
        self._limit = retention.limit(meta)
        self._producers: dict[str, ProducerState] = {}
        self._bodies: list[bytes] = []
        self._cuts: list[int] = []
        """Where the appends that were taken end, from the first one's beginning on."""
        self._group: GroupState | None = None
        self._taken = False

    def take(self, command: Append) -> Outcome:
        """Decide one. Precedence: closed, content type, producer, If-Match, Stream-Seq (PROTOCOL 5.2), bounds.

        The producer comes before Stream-Seq: the retry of a stored batch carries the same Stream-Seq again and must be
        answered as a duplicate, not as a regression. So do the bounds: what is stored already needs no room.
        """
        meta, body, producer = self._meta, command.body, command.producer
        if meta.closed:
            return _append_to_closed(self._current(), command)
        if body and not same_type(command.content_type, meta.content_type):
            return TypeMismatch(expected=meta.content_type)
        state = None
        if producer is not None:
            state = self._producers.get(producer.id) or self._view.producer(self._ref, producer.id)
            verdict = producers.judge(state, producer)
            if isinstance(verdict, producers.Repeated):
                return _repeated(self._current(), state, verdict, producer)
            if not isinstance(verdict, producers.Accepted):
                return verdict
        if command.if_match is not None and command.if_match != self._offset:
            return OffsetMismatch(next_offset=self._offset)
        if command.stream_seq is not None and self._seq is not None and command.stream_seq <= self._seq:
            return SeqRegression(last=self._seq)
        if producer is not None and state is None and meta.producers >= MAX_PRODUCERS_PER_STREAM:
            return TooManyProducers(most=MAX_PRODUCERS_PER_STREAM)
        if body and self._tail + len(body) > self._limit:
            return StreamFull(max_bytes=retention.most(meta))
        self._store(body)
        if command.stream_seq is not None:
            self._seq = command.stream_seq
        if producer is not None:
            self._note(producer, state)
        if command.close:
            closer = Closer(producer.id, producer.epoch, producer.seq) if producer is not None else None
            self._meta = replace(self._meta, closed=True, closer=closer)
        self._taken = True
        if producer is None:
            return Appended(self._offset, command.close)
        return Appended(self._offset, command.close, producer.epoch, producer.seq)

    def writes(self) -> list[Write]:
        """All that the appends that were taken change."""
        if not self._taken:
            return []
        writes: list[Write] = []
        if self._bodies:
            body = self._bodies[0] if len(self._bodies) == 1 else b"".join(self._bodies)
            record = Record(self._tail, body, tuple(self._cuts[:-1]))
            writes.append(PutRecord(self._ref, record, self._stamp.cluster_ms))
        if self._group is not None:
            writes.append(PutGroup(self._group))
        for producer_id, state in self._producers.items():
            writes.append(PutProducer(self._ref, producer_id, state))
        writes.append(PutMeta(self._ref, self._current()))
        return writes

    @property
    def _offset(self) -> Offset:
        return Offset(self._generation, self._tail) if self._generation else START

    def _current(self) -> StreamMeta:
        touched_at = self._stamp.cluster_ms if self._taken else self._meta.touched_at
        return replace(self._meta, tail=self._tail, stream_seq=self._seq, touched_at=touched_at)

    def _store(self, body: bytes) -> None:
        if not body:
            return
        if self._opens_era:
            before = self._view.group_state()
            self._meta, after = open_era(before, self._meta)
            self._opens_era, self._generation = False, self._meta.generation
            self._group = after if after is not before else None
        self._tail += len(body)
        self._bodies.append(body)
        self._cuts.append(self._tail - self._meta.tail)

    def _note(self, producer: Producer, state: ProducerState | None) -> None:
        self._producers[producer.id] = producers.after(state, producer, self._tail)
        if state is None:
            self._meta = replace(self._meta, producers=self._meta.producers + 1)


def _append_to_closed(meta: StreamMeta, command: Append) -> Outcome:
    if command.producer is None:
        if command.close and not command.body:
            return Appended(meta.tail_offset, closed=True)
    elif meta.closer == Closer(command.producer.id, command.producer.epoch, command.producer.seq):
        return Appended(meta.tail_offset, True, command.producer.epoch, command.producer.seq, duplicate=True)
    return StreamClosed(next_offset=meta.tail_offset)


def _repeated(
    meta: StreamMeta, state: ProducerState | None, repeated: producers.Repeated, producer: Producer
) -> Appended:
    assert state is not None
    offset = meta.offset_at(repeated.end) if repeated.end is not None else meta.tail_offset
    return Appended(offset, meta.closed, producer.epoch, state.seq, duplicate=True)
