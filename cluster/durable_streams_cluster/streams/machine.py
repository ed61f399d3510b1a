"""The stream machine: one command in; an outcome, writes and wakes out (PROTOCOL 4, 5.1-5.5).

It reads no clock and no configuration: time is the leader's ``Stamp``, defaults came with the command. Every replica
that applies the same commands to the same view decides the same, rejections included.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from durable_streams_cluster.streams import appending, forks, lifetime, retention
from durable_streams_cluster.streams.appending import same_type
from durable_streams_cluster.streams.commands import (
    Append,
    Command,
    Create,
    Delete,
    Expire,
    Rearm,
    Stamp,
    Touch,
    Trim,
)
from durable_streams_cluster.streams.eras import open_era
from durable_streams_cluster.streams.meta import (
    DEFAULT_CONTENT_TYPE,
    Parent,
    Requested,
    StreamMeta,
    StreamRef,
)
from durable_streams_cluster.streams.outcomes import (
    ConfigMismatch,
    Created,
    Deleted,
    ForkRefused,
    ForkSourceDeleted,
    ForkSourceMissing,
    NotFound,
    Outcome,
    Renewed,
    SoftDeleted,
    StreamFull,
    TypeMismatch,
)
from durable_streams_cluster.streams.view import (
    MoveExpiry,
    PutGroup,
    PutMeta,
    PutPath,
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


class AppliedRun(msgspec.Struct, frozen=True):
    """The whole effect of some appends to one path, one after the other."""

    outcomes: Sequence[Outcome]
    writes: Iterable[Write]
    wakes: Iterable[Wake]


def apply_run(view: StreamView, commands: Sequence[Append], stamp: Stamp) -> AppliedRun:
    """Decide appends to one path, one at least: the same outcomes and the same state as with ``apply`` on each."""
    outcomes, writes = appending.append(view, commands, stamp)
    return AppliedRun(outcomes, writes, (Wake(commands[0].path),) if writes else ())


def apply(view: StreamView, command: Command, stamp: Stamp) -> Applied:
    """Decide one command on the state that the commands before it left."""
    match command:
        case Append():
            run = apply_run(view, (command,), stamp)
            return Applied(run.outcomes[0], run.writes, run.wakes)
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
        if command.content_type is not None and not same_type(command.content_type, source.content_type):
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
    if command.body and meta.tail + len(command.body) > retention.limit(meta):
        return Applied(StreamFull(max_bytes=retention.most(meta)))
    if command.body:
        meta, state = open_era(state, meta)
        meta = replace(meta, tail=meta.tail + len(command.body))
        writes.append(PutRecord(ref, Record(meta.tail, command.body), stamp.cluster_ms))
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
    return same_type(command.content_type or DEFAULT_CONTENT_TYPE, existing.content_type)


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
