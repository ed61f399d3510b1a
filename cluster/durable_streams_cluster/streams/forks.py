"""Forks: where they branch off, and what the deletion of a stream with forks means (PROTOCOL 4.2)."""

from msgspec.structs import replace

from durable_streams_cluster.limits import MAX_FORK_DEPTH, MAX_FORKS_PER_STREAM
from durable_streams_cluster.streams import json_mode, reading, retention
from durable_streams_cluster.streams.commands import Fork
from durable_streams_cluster.streams.meta import Era, Parent, StreamMeta, StreamRef
from durable_streams_cluster.streams.outcomes import ForkRefused
from durable_streams_cluster.streams.view import DropStream, MoveExpiry, PutGroup, PutMeta, StreamView, Wake, Write

OFFSET_FIELD = "Stream-Fork-Offset"
SUB_OFFSET_FIELD = "Stream-Fork-Sub-Offset"


def branch_point(view: StreamView, ref: StreamRef, source: StreamMeta, fork: Fork) -> int | ForkRefused:
    """The position (bytes) in the source's view up to which a fork inherits, or why there is none."""
    anchor = source.tail
    if fork.offset is not None:
        match reading.locate(view, ref, source, fork.offset):
            case reading.Place.BOUNDARY:
                anchor = fork.offset.position
            case reading.Place.BEYOND_TAIL:
                return ForkRefused(OFFSET_FIELD, "lies beyond the source's tail")
            case reading.Place.GONE:
                return ForkRefused(OFFSET_FIELD, "is not an offset of the source as it stands")
            case reading.Place.INSIDE:
                return ForkRefused(OFFSET_FIELD, "is not the end of an append of the source")
    if fork.sub_offset == 0:
        return anchor
    following = next(reading.records(view, ref, source, anchor), None)
    if following is None:
        return ForkRefused(SUB_OFFSET_FIELD, "there is no data past the fork offset")
    body = following.appends[0]  # The append that follows, and not those that were stored together with it.
    if source.is_json:
        cut = json_mode.cut_after(body, fork.sub_offset)
    else:
        cut = fork.sub_offset if fork.sub_offset <= len(body) else None
    if cut is None:
        return ForkRefused(SUB_OFFSET_FIELD, "reaches past the append that follows the fork offset")
    return anchor + cut


def parent_of(ref: StreamRef, source: StreamMeta, at: int) -> Parent | ForkRefused:
    """How a fork at ``at`` (bytes) refers to its source."""
    depth = 1 + (source.parent.depth if source.parent is not None else 0)
    if depth > MAX_FORK_DEPTH:
        return ForkRefused("Stream-Forked-From", f"forks of forks go at most {MAX_FORK_DEPTH} deep")
    if source.forks >= MAX_FORKS_PER_STREAM:
        return ForkRefused("Stream-Forked-From", f"names a stream that has {MAX_FORKS_PER_STREAM} forks: delete some")
    return Parent(ref=ref, path=source.path, at=at, depth=depth)


def inherited_eras(source: StreamMeta, at: int) -> tuple[Era, ...]:
    """The eras whose offsets a fork at ``at`` (bytes) shares with its source."""
    return tuple(era for era in source.eras if era.start < at)


def remove(view: StreamView, ref: StreamRef, meta: StreamMeta) -> tuple[bool, list[Write], list[Wake]]:
    """Delete a stream: hide it while it has forks, else drop it and every hidden ancestor that nobody needs any more.

    The cascade follows one chain of parents, so one command drops at most ``MAX_FORK_DEPTH`` + 1 streams.

    Returns:
        Whether it is only hidden; the writes; who to wake.

    """
    if meta.forks > 0:
        return (
            True,
            [*_unschedule(ref, meta), PutMeta(ref, replace(meta, deleted=True, expiry_due=None))],
            [Wake(meta.path)],
        )
    writes: list[Write] = []
    floor = view.group_state().generation_floor
    wakes = [Wake(meta.path)]
    while True:
        writes += [*_unschedule(ref, meta), DropStream(ref, meta)]
        floor = max(floor, meta.generation)
        if meta.parent is None:
            break
        ref = meta.parent.ref
        parent = view.meta(ref)
        assert parent is not None, "a stream with forks is never dropped"
        if parent.forks > 1 or not parent.deleted:
            writes += retention.put_freed(ref, replace(parent, forks=parent.forks - 1))
            break
        meta = parent
    state = view.group_state()
    if floor > state.generation_floor:
        writes.append(PutGroup(replace(state, generation_floor=floor)))
    return False, writes, wakes


def _unschedule(ref: StreamRef, meta: StreamMeta) -> list[Write]:
    if meta.expiry_due is None:
        return []
    return [MoveExpiry(ref, meta.path, wall=meta.ttl_s is None, old_due=meta.expiry_due, new_due=None)]
