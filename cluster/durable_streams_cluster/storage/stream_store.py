"""Streams on a ``Kv``: the ``StreamView`` of a turn, and the same for readers.

Two sides, never mixed. The *turn* side shows every write staged since the last ``commit``; the machine decides on it.
The *committed* side shows only what was written; readers use it (``reader``). Both share one bounded cache of decoded
values, which only ``commit`` changes.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.limits import KIB
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.codecs import AppliedState, Session
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import (
    DropRecords,
    DropStream,
    GroupState,
    MoveExpiry,
    PutGroup,
    PutMeta,
    PutPath,
    PutProducer,
    PutRecord,
    Record,
    Write,
)

CACHED = 20_000
"""Decoded values kept of each kind; about 1 KiB each."""

_DATA = Family.DATA
FEW_KEYS = 64
"""A stream with at most this many keys is deleted key by key."""
FEW_BYTES = 256 * KIB
"""A stream with more data of its own is not even read to count its keys: reading holds up the loop."""
WORTH_A_MARK = 16 * KIB
"""A stream deleted key by key is put on record to be reclaimed from here on; with less, its keys weigh enough."""

K = TypeVar("K")
V = TypeVar("V")


class Due(NamedTuple):
    """An entry of an expiry index."""

    due_ms: int
    path: str
    ref: StreamRef


class _ProducerCache:
    """At most ``CACHED`` producer states, by stream: a stream is forgotten in the time its own take."""

    def __init__(self) -> None:
        self._streams: dict[StreamRef, dict[str, ProducerState]] = {}
        self._count = 0

    def get(self, ref: StreamRef, producer_id: str) -> ProducerState | None:
        states = self._streams.get(ref)
        return states.get(producer_id) if states is not None else None

    def put(self, ref: StreamRef, producer_id: str, state: ProducerState) -> None:
        """Keep ``state``, dropping the oldest one of the stream that was put to longest ago."""
        states = self._streams.pop(ref, None) or {}
        if states.pop(producer_id, None) is not None:
            self._count -= 1
        states[producer_id] = state
        self._streams[ref] = states
        self._count += 1
        if self._count > CACHED:
            oldest, states = next(iter(self._streams.items()))
            del states[next(iter(states))]
            self._count -= 1
            if not states:
                del self._streams[oldest]

    def forget(self, ref: StreamRef) -> None:
        self._count -= len(self._streams.pop(ref, ()))


class StreamReader:
    """The committed side: a ``StreamView`` over what is written."""

    def __init__(self, kv: KvView, group: GroupId, epoch: int = 0) -> None:
        self._kv = kv
        self._group = group
        self._epoch = epoch
        self._slots: dict[str, int] = {}
        self._paths: dict[str, StreamRef] = {}
        self._metas: dict[StreamRef, StreamMeta] = {}
        self._producers = _ProducerCache()
        value = kv.get(_DATA, keys.group_state(group))
        self.applied = codecs.decode_applied(value) if value is not None else AppliedState()

    def slot_of(self, path: str) -> int:
        """See ``StreamView``."""
        slot = self._slots.get(path)
        if slot is None:
            slot = _bounded(self._slots, path, keys.slot_of(path))
        return slot

    def group_state(self) -> GroupState:
        """See ``StreamView``."""
        return self.applied.group

    def find(self, path: str) -> StreamRef | None:
        """See ``StreamView``."""
        ref = self._paths.get(path)
        if ref is None:
            slot = self.slot_of(path)
            value = self._kv.get(_DATA, keys.path(slot, self._epoch, path))
            if value is None:
                return None
            ref = _bounded(self._paths, path, StreamRef(slot, keys.stream_id(value)))
        return ref

    def meta(self, ref: StreamRef) -> StreamMeta | None:
        """See ``StreamView``."""
        meta = self._metas.get(ref)
        if meta is None:
            value = self._kv.get(_DATA, keys.meta(ref.slot, self._epoch, ref.id))
            if value is None:
                return None
            meta = _bounded(self._metas, ref, codecs.decode_meta(value))
        return meta

    def producer(self, ref: StreamRef, producer_id: str) -> ProducerState | None:
        """See ``StreamView``."""
        state = self._producers.get(ref, producer_id)
        if state is None:
            value = self._kv.get(_DATA, keys.producer(ref.slot, self._epoch, ref.id, producer_id))
            if value is None:
                return None
            state = codecs.decode_producer(value)
            self._producers.put(ref, producer_id, state)
        return state

    def records_after(self, ref: StreamRef, position: int) -> Iterator[Record]:
        """See ``StreamView``."""
        start = keys.record(ref.slot, self._epoch, ref.id, position + 1)
        end = keys.records_end(ref.slot, self._epoch, ref.id)
        return (
            Record(keys.record_end(key), codecs.record_body(value)) for key, value in self._kv.scan(_DATA, start, end)
        )

    def record_ends_at(self, ref: StreamRef, position: int) -> bool:
        """See ``StreamView``."""
        return self._kv.has(_DATA, keys.record(ref.slot, self._epoch, ref.id, position))

    def last_end(self, ref: StreamRef, position: int) -> int | None:
        """See ``History``."""
        start, end = keys.records(ref.slot, self._epoch, ref.id, after=0, upto=position)
        found = next(self._kv.scan(_DATA, start, end, reverse=True), None)
        return keys.record_end(found[0]) if found is not None else None

    def end_and_time(self, ref: StreamRef, position: int) -> tuple[int, int] | None:
        """See ``History``."""
        start = keys.record(ref.slot, self._epoch, ref.id, position + 1)
        found = next(self._kv.scan(_DATA, start, keys.records_end(ref.slot, self._epoch, ref.id)), None)
        return (keys.record_end(found[0]), codecs.record_time(found[1])) if found is not None else None

    def paths(self, prefix: str, after: str, limit: int) -> list[str]:
        """At most ``limit`` paths that begin with ``prefix``, in order, beginning behind ``after``."""
        start, end = keys.listing_range(prefix, after)
        found = (keys.listing_parts(key) for key, _ in self._kv.scan(_DATA, start, end))
        return list(islice((path for path, epoch in found if epoch == self._epoch), limit))

    def remember(
        self,
        paths: Mapping[str, StreamRef | None],
        metas: Mapping[StreamRef, StreamMeta | None],
        producers: Mapping[StreamRef, Mapping[str, ProducerState]],
    ) -> None:
        """Take over what a turn has written, None meaning that it is gone."""
        for path, ref in paths.items():
            self._paths.pop(path, None)
            if ref is not None:
                _bounded(self._paths, path, ref)
        for ref, meta in metas.items():
            self._metas.pop(ref, None)
            if meta is not None:
                _bounded(self._metas, ref, meta)
            else:
                self._producers.forget(ref)
        for ref, states in producers.items():
            for producer_id, state in states.items():
                self._producers.put(ref, producer_id, state)

    def has_windows(self) -> bool:
        """Whether any stream has a TTL, so that cluster time matters to somebody."""
        start, end = keys.due_range(False, keys.MAX_U64)
        return next(iter(self._kv.scan(_DATA, start, end)), None) is not None

    def due(self, *, wall: bool, until_ms: int, limit: int, after: Due | None = None) -> list[Due]:
        """At most ``limit`` streams whose expiry entry is due, oldest first, beginning behind ``after``."""
        start, end = keys.due_range(wall, until_ms)
        if after is not None:
            start = keys.due(wall, after.due_ms, after.ref.slot, self._epoch, after.ref.id) + b"\0"
        found: list[Due] = []
        for key, value in self._kv.scan(_DATA, start, end):
            due_ms, slot, number = keys.due_parts(key)
            found.append(Due(due_ms, keys.path_text(value), StreamRef(slot, number)))
            if len(found) >= limit:
                break
        return found


_NO_SESSIONS: Mapping[int, Session | None] = {}


class StreamStore:
    """The turn side: what was staged since the last ``commit`` lies over ``committed``."""

    def __init__(self, kv: KvView, group: GroupId, epoch: int = 0) -> None:
        self.committed = StreamReader(kv, group, epoch)
        self._kv = kv
        self._group = group
        self._epoch = epoch
        self._applied = self.committed.applied
        self._paths: dict[str, StreamRef | None] = {}
        self._metas: dict[StreamRef, StreamMeta | None] = {}
        self._producers: dict[StreamRef, dict[str, ProducerState]] = {}
        self._records: dict[StreamRef, list[Record]] = {}

    # ------------------------------------------------------------------------------------------------- StreamView

    def slot_of(self, path: str) -> int:
        """See ``StreamView``."""
        return self.committed.slot_of(path)

    def group_state(self) -> GroupState:
        """See ``StreamView``."""
        return self._applied.group

    def find(self, path: str) -> StreamRef | None:
        """See ``StreamView``."""
        return self._paths[path] if path in self._paths else self.committed.find(path)

    def meta(self, ref: StreamRef) -> StreamMeta | None:
        """See ``StreamView``."""
        return self._metas[ref] if ref in self._metas else self.committed.meta(ref)

    def producer(self, ref: StreamRef, producer_id: str) -> ProducerState | None:
        """See ``StreamView``."""
        staged = self._producers.get(ref)
        return (staged and staged.get(producer_id)) or self.committed.producer(ref, producer_id)

    def records_after(self, ref: StreamRef, position: int) -> Iterator[Record]:
        """See ``StreamView``."""
        staged = [record for record in self._records.get(ref, ()) if record.end > position]
        return chain(self.committed.records_after(ref, position), staged)

    def record_ends_at(self, ref: StreamRef, position: int) -> bool:
        """See ``StreamView``."""
        staged = any(record.end == position for record in self._records.get(ref, ()))
        return staged or self.committed.record_ends_at(ref, position)

    # --------------------------------------------------------------------------------------------------- the turn

    @property
    def applied(self) -> AppliedState:
        """How far the turn side has come."""
        return self._applied

    def stage(self, batch: WriteBatch, writes: Iterable[Write]) -> None:
        """Put one command's writes into the turn.

        Metas, producers and counters wait for ``finish``: a stream that takes a hundred appends is written once.
        """
        for write in writes:
            match write:
                case PutMeta(ref, meta):
                    self._metas[ref] = meta
                case PutRecord(ref, record, at):
                    self._records.setdefault(ref, []).append(record)
                    key = keys.record(ref.slot, self._epoch, ref.id, record.end)
                    batch.put(_DATA, key, codecs.encode_record(at, record.body))
                case DropRecords(ref, after, upto):
                    self._drop_records(batch, ref, after, upto)
                case PutProducer(ref, producer_id, state):
                    self._producers.setdefault(ref, {})[producer_id] = state
                case PutPath(path, ref):
                    self._paths[path] = ref
                    batch.put(_DATA, keys.path(ref.slot, self._epoch, path), keys.stream_id_value(ref.id))
                    batch.put(_DATA, keys.listing(path, self._epoch), keys.listing_value(ref.slot, ref.id))
                case PutGroup(state):
                    self._applied = replace(self._applied, group=state)
                case MoveExpiry(ref, path, wall, old_due, new_due):
                    if old_due is not None:
                        batch.delete(_DATA, keys.due(wall, old_due, ref.slot, self._epoch, ref.id))
                    if new_due is not None:
                        batch.put(_DATA, keys.due(wall, new_due, ref.slot, self._epoch, ref.id), path.encode())
                case DropStream(ref, meta):
                    self._drop(batch, ref, meta)

    def sessions(self) -> dict[int, Session]:
        """By origin, as stored."""
        start, end = keys.sessions(self._group)
        return {
            keys.session_origin(key): codecs.decode_session(value) for key, value in self._kv.scan(_DATA, start, end)
        }

    def finish(
        self,
        batch: WriteBatch,
        index: int,
        term: int,
        cluster_ms: int,
        sessions: Mapping[int, Session | None] = _NO_SESSIONS,
    ) -> None:
        """End the turn's batch with what was deferred and how far it comes: atomic with the writes themselves."""
        for origin, session in sessions.items():
            if session is None:
                batch.delete(_DATA, keys.session(self._group, origin))
            else:
                batch.put(_DATA, keys.session(self._group, origin), codecs.encode_session(session))
        for ref, meta in self._metas.items():
            if meta is not None:
                batch.put(_DATA, keys.meta(ref.slot, self._epoch, ref.id), codecs.encode_meta(meta))
        for ref, states in self._producers.items():
            for producer_id, state in states.items():
                key = keys.producer(ref.slot, self._epoch, ref.id, producer_id)
                batch.put(_DATA, key, codecs.encode_producer(state))
        self._applied = AppliedState(index, term, cluster_ms, self._applied.group)
        batch.put(_DATA, keys.group_state(self._group), codecs.encode_applied(self._applied))

    def commit(self) -> None:
        """The batch was written: show it to readers."""
        committed = self.committed
        committed.applied = self._applied
        committed.remember(self._paths, self._metas, self._producers)
        for staged in (self._paths, self._metas, self._producers, self._records):
            staged.clear()

    def _drop(self, batch: WriteBatch, ref: StreamRef, meta: StreamMeta) -> None:
        batch.delete(_DATA, keys.path(ref.slot, self._epoch, meta.path))
        batch.delete(_DATA, keys.listing(meta.path, self._epoch))
        start, end = keys.stream_range(ref.slot, self._epoch, ref.id)
        size = meta.tail - max(meta.own_start, meta.freed)
        if meta.freed:
            # No two deleted ranges overlap: the store may be freeing the one before (``kv.DeleteRange``).
            records, kept = keys.records(ref.slot, self._epoch, ref.id, after=-1, upto=meta.freed)
            self._delete(batch, ref, start, records, 0)
            self._delete(batch, ref, kept, end, size)
        else:
            self._delete(batch, ref, start, end, size)
        self._paths[meta.path] = None
        self._metas[ref] = None
        self._records.pop(ref, None)
        self._producers.pop(ref, None)

    def _drop_records(self, batch: WriteBatch, ref: StreamRef, after: int, upto: int) -> None:
        start, end = keys.records(ref.slot, self._epoch, ref.id, after=after, upto=upto)
        self._delete(batch, ref, start, end, upto - after)
        staged = self._records.get(ref)
        if staged is not None:
            self._records[ref] = [record for record in staged if record.end > upto]

    def _delete(self, batch: WriteBatch, ref: StreamRef, start: bytes, end: bytes, size: int) -> None:
        """Delete a range of a stream's keys, whose values are about ``size`` bytes."""
        # Records staged in this turn are in the batch, where a scan does not see them; metas and producers are not yet.
        by_range = ref in self._records or size > FEW_BYTES
        few = [] if by_range else [key for key, _ in islice(self._kv.scan(_DATA, start, end), FEW_KEYS + 1)]
        if by_range or len(few) > FEW_KEYS:
            batch.delete_range(_DATA, start, end, frees=size)
        else:
            # A range tombstone costs every later reader of its neighbourhood; a few keys are deleted one by one.
            for key in few:
                batch.delete(_DATA, key)
            if size >= WORTH_A_MARK:
                batch.deleted(_DATA, start, end, size)


def _bounded(cache: dict[K, V], key: K, value: V) -> V:
    """Keep ``value`` in ``cache``, dropping the oldest beyond ``CACHED``."""
    if len(cache) >= CACHED:
        del cache[next(iter(cache))]
    cache[key] = value
    return value
