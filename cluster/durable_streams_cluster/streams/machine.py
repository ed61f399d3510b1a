"""The stream machine: one command in; an outcome, writes and wakes out (PROTOCOL 4, 5.1-5.5).

It reads no clock and no configuration: time is the leader's ``Stamp``, defaults came with the command. Every replica
that applies the same commands to the same view decides the same, rejections included.
"""

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from durable_streams_cluster.limits import MAX_PRODUCERS_PER_STREAM
from durable_streams_cluster.streams import forks, lifetime, producers, retention
from durable_streams_cluster.streams.commands import (
    Append,
    Command,
    Create,
    Delete,
    Expire,
    Producer,
    Rearm,
    Stamp,
    Touch,
    Trim,
)
from durable_streams_cluster.streams.meta import (
    DEFAULT_CONTENT_TYPE,
    Closer,
    Era,
    Parent,
    Requested,
    StreamMeta,
    StreamRef,
    media_type,
)
from durable_streams_cluster.streams.outcomes import (
    Appended,
    ConfigMismatch,
    Created,
    Deleted,
    ForkRefused,
    ForkSourceDeleted,
    ForkSourceMissing,
    NotFound,
    OffsetMismatch,
    Outcome,
    Renewed,
    SeqRegression,
    SoftDeleted,
    StreamClosed,
    StreamFull,
    TooManyProducers,
    TypeMismatch,
)
from durable_streams_cluster.streams.view import (
    GroupState,
    MoveExpiry,
    PutGroup,
    PutMeta,
    PutPath,
    PutProducer,
    PutRecord,
    Record,
    StreamView,
    Wake,
    Write,
)


class Applied(msgspec.Struct, frozen=True):
    """The whole effect of one command."""

    outcome: Outcome
    writes: Iterable[Write] = ()
    wakes: Iterable[Wake] = ()


def apply(view: StreamView, command: Command, stamp: Stamp) -> Applied:
    """Decide one command on the state that the commands before it left."""
    match command:
        case Append():
            return _append(view, command, stamp)
        case Create():
            return _create(view, command, stamp)
        case Delete():
            return _delete(view, command)
        case Touch():
            return _touch(view, command, stamp)
        case Expire():
            return _expire(view, command)
        case Rearm():
            return _rearm(view, command)
        case Trim():
            return _trim(view, command)


# ---------------------------------------------------------------------------------------------------- append, close


def _append(view: StreamView, command: Append, stamp: Stamp) -> Applied:
    """Precedence: missing, deleted, closed, content type, producer, If-Match, Stream-Seq (PROTOCOL 5.2), bounds.

    The producer comes before Stream-Seq: the retry of a stored batch carries the same Stream-Seq again and must be
    answered as a duplicate, not as a regression. So do the bounds: what is stored already needs no room.
    """
    ref = view.find(command.path)
    meta = view.meta(ref) if ref is not None else None
    if ref is None or meta is None:
        return Applied(NotFound())
    if meta.deleted:
        return Applied(SoftDeleted())
    if meta.closed:
        return Applied(_append_to_closed(meta, command))
    if command.body and not _same_type(command.content_type, meta.content_type):
        return Applied(TypeMismatch(expected=meta.content_type))
    state = None
    if command.producer is not None:
        state = view.producer(ref, command.producer.id)
        verdict = producers.judge(state, command.producer)
        if isinstance(verdict, producers.Repeated):
            return Applied(_repeated(meta, state, verdict, command.producer))
        if not isinstance(verdict, producers.Accepted):
            return Applied(verdict)
    if command.if_match is not None and command.if_match != meta.tail_offset:
        return Applied(OffsetMismatch(next_offset=meta.tail_offset))
    if command.stream_seq is not None and meta.stream_seq is not None and command.stream_seq <= meta.stream_seq:
        return Applied(SeqRegression(last=meta.stream_seq))
    if command.producer is not None and state is None and meta.producers >= MAX_PRODUCERS_PER_STREAM:
        return Applied(TooManyProducers(most=MAX_PRODUCERS_PER_STREAM))
    if not retention.has_room(meta, len(command.body)):
        return Applied(StreamFull(max_bytes=retention.most(meta)))

    writes: list[Write] = []
    group = view.group_state()
    changes, grown = _stored(group, ref, meta, command.body, stamp, writes)
    if grown is not group:
        writes.append(PutGroup(grown))
    changes["touched_at"] = stamp.cluster_ms
    if command.stream_seq is not None:
        changes["stream_seq"] = command.stream_seq
    if command.producer is not None:
        end = meta.tail + len(command.body)
        writes.append(PutProducer(ref, command.producer.id, producers.after(state, command.producer, end)))
        if state is None:
            changes["producers"] = meta.producers + 1
    if command.close:
        changes["closed"] = True
        if command.producer is not None:
            changes["closer"] = Closer(command.producer.id, command.producer.epoch, command.producer.seq)
    meta = replace(meta, **changes)
    writes.append(PutMeta(ref, meta))
    epoch, seq = (command.producer.epoch, command.producer.seq) if command.producer is not None else (None, None)
    outcome = Appended(meta.tail_offset, meta.closed, epoch, seq)
    return Applied(outcome, writes, (Wake(meta.path),))


def _append_to_closed(meta: StreamMeta, command: Append) -> Outcome:
    if command.producer is None:
        if command.close and not command.body:
            return Appended(meta.tail_offset, closed=True)
    elif meta.closer == Closer(command.producer.id, command.producer.epoch, command.producer.seq):
        return Appended(meta.tail_offset, True, command.producer.epoch, command.producer.seq, duplicate=True)
    return StreamClosed(next_offset=meta.tail_offset)


def _repeated(
    meta: StreamMeta, state: producers.ProducerState | None, repeated: producers.Repeated, producer: Producer
) -> Appended:
    assert state is not None
    offset = meta.offset_at(repeated.end) if repeated.end is not None else meta.tail_offset
    return Appended(offset, meta.closed, producer.epoch, state.seq, duplicate=True)


def _stored(
    state: GroupState, ref: StreamRef, meta: StreamMeta, body: bytes, stamp: Stamp, writes: list[Write]
) -> tuple[dict[str, object], GroupState]:
    """What appending ``body`` changes of the stream, and the group after it; the first own append opens a new era.

    Eras (DESIGN: Offsets) of streams that belong together, forks and what has forks, raise the group's floor, so that
    their generations differ whoever appends first: an offset of one that another did not inherit never fits there.
    """
    if not body:
        return {}, state
    tail = meta.tail + len(body)
    changes: dict[str, object] = {"tail": tail}
    if meta.fresh:
        generation = max(state.generation_floor, meta.generation, meta.above) + 1
        changes |= {"fresh": False, "eras": (*meta.eras, Era(generation, start=meta.tail))}
        if meta.forks or meta.parent is not None:
            state = replace(state, generation_floor=generation)
    writes.append(PutRecord(ref, Record(tail, body), stamp.cluster_ms))
    return changes, state


def _same_type(asked: str | None, stored: str) -> bool:
    return asked == stored or (asked is not None and media_type(asked) == media_type(stored))


# ----------------------------------------------------------------------------------------------------------- create


def _create(view: StreamView, command: Create, stamp: Stamp) -> Applied:
    ref = view.find(command.path)
    existing = view.meta(ref) if ref is not None else None
    if existing is not None:
        return Applied(_confirm(existing, command))
    source = source_ref = None
    if command.fork is not None:
        source_ref = view.find(command.fork.source)
        source = view.meta(source_ref) if source_ref is not None else None
        if source is None or source_ref is None:
            return Applied(ForkSourceMissing())
        if source.deleted:
            return Applied(ForkSourceDeleted())
        if command.content_type is not None and not _same_type(command.content_type, source.content_type):
            return Applied(TypeMismatch(expected=source.content_type))
    parent: Parent | None = None
    writes: list[Write] = []
    if command.fork is not None and source is not None and source_ref is not None:
        at = forks.branch_point(view, source_ref, source, command.fork)
        made = forks.parent_of(source_ref, source, at) if isinstance(at, int) else at
        if isinstance(made, ForkRefused):
            return Applied(made)
        parent = made
        writes.append(PutMeta(source_ref, replace(source, forks=source.forks + 1)))
    ttl_s, expires_at_ms = lifetime.inherited(command, source)
    state = view.group_state()
    ref = StreamRef(view.slot_of(command.path), state.next_stream_id)
    meta = StreamMeta(
        path=command.path,
        content_type=command.content_type or (source.content_type if source is not None else DEFAULT_CONTENT_TYPE),
        requested=Requested(command.content_type, command.ttl_s, command.expires_at_ms, command.fork),
        created_at=stamp.cluster_ms,
        touched_at=stamp.cluster_ms,
        tail=parent.at if parent is not None else 0,
        eras=forks.inherited_eras(source, parent.at) if source is not None and parent is not None else (),
        ttl_s=ttl_s,
        expires_at_ms=expires_at_ms,
        parent=parent,
        above=max(source.generation, source.above) if source is not None else 0,
        head=source.head if source is not None else 0,
        max_bytes=command.max_bytes,
    )
    if not retention.has_room(meta, len(command.body)):
        return Applied(StreamFull(max_bytes=retention.most(meta)))
    changes, state = _stored(state, ref, meta, command.body, stamp, writes)
    meta = replace(meta, **changes)
    due = lifetime.deadline(meta)
    meta = replace(meta, closed=command.closed, expiry_due=due)
    if due is not None:
        writes.append(MoveExpiry(ref, meta.path, wall=meta.ttl_s is None, old_due=None, new_due=due))
    writes += [
        PutGroup(replace(state, next_stream_id=state.next_stream_id + 1)),
        PutPath(command.path, ref),
        PutMeta(ref, meta),
    ]
    return Applied(_created(meta, existed=False), writes)


def _confirm(existing: StreamMeta, command: Create) -> Outcome:
    """Idempotent PUT: the first difference between what was asked then and now, if any (PROTOCOL 5.1)."""
    if existing.deleted:
        return SoftDeleted()
    requested = existing.requested
    differences = {
        "Content-Type": not _confirms_type(existing, command),
        "Stream-TTL": command.ttl_s != requested.ttl_s,
        "Stream-Expires-At": command.expires_at_ms != requested.expires_at_ms,
        "Stream-Closed": command.closed != existing.closed,
        "Stream-Forked-From": command.fork != requested.fork,
    }
    for field, differs in differences.items():
        if differs:
            return ConfigMismatch(field)
    return _created(existing, existed=True)


def _confirms_type(existing: StreamMeta, command: Create) -> bool:
    if command.content_type is None and command.fork is not None:
        return True
    return _same_type(command.content_type or DEFAULT_CONTENT_TYPE, existing.content_type)


def _created(meta: StreamMeta, *, existed: bool) -> Created:
    return Created(
        existed=existed,
        content_type=meta.content_type,
        next_offset=meta.tail_offset,
        closed=meta.closed,
        ttl_s=meta.ttl_s,
        expires_at_ms=meta.expires_at_ms,
    )


# -------------------------------------------------------------------------------------------------- delete, lifetime


def _delete(view: StreamView, command: Delete) -> Applied:
    ref = view.find(command.path)
    meta = view.meta(ref) if ref is not None else None
    if ref is None or meta is None:
        return Applied(NotFound())
    if meta.deleted:
        return Applied(SoftDeleted())
    soft, writes, wakes = forks.remove(view, ref, meta)
    return Applied(Deleted(soft=soft), writes, wakes)


def _touch(view: StreamView, command: Touch, stamp: Stamp) -> Applied:
    ref, meta = _living(view, command.path, command.stream_id)
    if ref is None or meta is None:
        return Applied(NotFound())
    return Applied(Renewed(), (PutMeta(ref, replace(meta, touched_at=stamp.cluster_ms)),))


def _expire(view: StreamView, command: Expire) -> Applied:
    """An append or touch committed since the leader looked has renewed a sliding window; a fixed end stays."""
    ref, meta = _living(view, command.path, command.stream_id)
    if ref is None or meta is None:
        return Applied(NotFound())
    if meta.ttl_s is not None and meta.touched_at != command.touched_at:
        return Applied(Renewed())
    soft, writes, wakes = forks.remove(view, ref, meta)
    return Applied(Deleted(soft=soft), writes, wakes)


def _rearm(view: StreamView, command: Rearm) -> Applied:
    ref, meta = _living(view, command.path, command.stream_id)
    if ref is None or meta is None:
        return Applied(NotFound())
    due = lifetime.deadline(meta)
    move = MoveExpiry(ref, meta.path, wall=meta.ttl_s is None, old_due=meta.expiry_due, new_due=due)
    return Applied(Renewed(), (move, PutMeta(ref, replace(meta, expiry_due=due))))


def _trim(view: StreamView, command: Trim) -> Applied:
    ref, meta = _living(view, command.path, command.stream_id)
    if ref is None or meta is None:
        return Applied(NotFound())
    return Applied(Renewed(), retention.trim(view, ref, meta, command.before))


def _living(view: StreamView, path: str, stream_id: int) -> tuple[StreamRef | None, StreamMeta | None]:
    """The stream that a lifetime command means, unless it is gone, hidden, or another one has its path now."""
    ref = view.find(path)
    if ref is None or ref.id != stream_id:
        return None, None
    meta = view.meta(ref)
    return (None, None) if meta is None or meta.deleted else (ref, meta)
