"""How a stream's keys are deleted: one by one where they are few, as ranges that are reclaimed where they are many."""

from itertools import islice

from durable_streams_cluster.limits import KIB
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef

FEW_KEYS = 64
"""A stream with at most this many keys is deleted key by key."""
FEW_BYTES = 256 * KIB
"""A stream with more data of its own is not even read to count its keys: reading holds up the loop."""
WORTH_A_MARK = 16 * KIB
"""A stream deleted key by key is put on record to be reclaimed from here on; with less, its keys weigh enough."""

_DATA = Family.DATA


def drop_stream(
    kv: KvView, batch: WriteBatch, epoch: int, ref: StreamRef, meta: StreamMeta, *, staged: bool = False
) -> None:
    """Delete every key of a stream but its expiry entries; ``staged``: ``batch`` holds records that no scan sees."""
    batch.delete(_DATA, keys.path(ref.slot, epoch, meta.path))
    batch.delete(_DATA, keys.listing(meta.path, epoch))
    start, end = keys.stream_range(ref.slot, epoch, ref.id)
    size = meta.tail - max(meta.own_start, meta.freed)
    if meta.freed:
        # No two deleted ranges overlap: the store may be freeing the one before (``kv.DeleteRange``).
        records, kept = keys.records(ref.slot, epoch, ref.id, after=-1, upto=meta.freed)
        _delete(kv, batch, start, records, 0, staged=staged)
        start = kept
    _delete(kv, batch, start, end, size, staged=staged)


def drop_records(
    kv: KvView, batch: WriteBatch, epoch: int, ref: StreamRef, after: int, upto: int, *, staged: bool = False
) -> None:
    """Delete the stream's own records that end after ``after`` and at or before ``upto`` (bytes)."""
    start, end = keys.records(ref.slot, epoch, ref.id, after=after, upto=upto)
    _delete(kv, batch, start, end, upto - after, staged=staged)


def _delete(kv: KvView, batch: WriteBatch, start: bytes, end: bytes, size: int, *, staged: bool) -> None:
    """Delete a range of a stream's keys, whose values are about ``size`` bytes."""
    by_range = staged or size > FEW_BYTES
    few = [] if by_range else [key for key, _ in islice(kv.scan(_DATA, start, end), FEW_KEYS + 1)]
    if by_range or len(few) > FEW_KEYS:
        batch.delete_range(_DATA, start, end, frees=size)
    else:
        # A range tombstone costs every later reader of its neighbourhood; a few keys are deleted one by one.
        for key in few:
            batch.delete(_DATA, key)
        if size >= WORTH_A_MARK:
            batch.deleted(_DATA, start, end, size)
