"""Committed streams on a ``Kv``, for readers, with a bounded cache of decoded values that only ``remember`` changes."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple, TypeVar

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.limits import MAX_ENTRY_BYTES
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.codecs import AppliedState, Installs
from durable_streams_cluster.storage.kv import Family, KvView
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import GroupState, Record

CACHED = 20_000
"""Decoded values kept of each kind; about 1 KiB each."""

_DATA = Family.DATA

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

    def __init__(self, kv: KvView, group: GroupId) -> None:
        self._kv = kv
        value = kv.get(_DATA, keys.installs(group))
        self.epoch = (codecs.decode_installs(value) if value is not None else Installs()).current
        """The install epoch of what is shown (``keys``)."""
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
            value = self._kv.get(_DATA, keys.path(slot, self.epoch, path))
            if value is None:
                return None
            ref = _bounded(self._paths, path, StreamRef(slot, keys.stream_id(value)))
        return ref

    def meta(self, ref: StreamRef) -> StreamMeta | None:
        """See ``StreamView``."""
        meta = self._metas.get(ref)
        if meta is None:
            value = self._kv.get(_DATA, keys.meta(ref.slot, self.epoch, ref.id))
            if value is None:
                return None
            meta = _bounded(self._metas, ref, codecs.decode_meta(value))
        return meta

    def producer(self, ref: StreamRef, producer_id: str) -> ProducerState | None:
        """See ``StreamView``."""
        state = self._producers.get(ref, producer_id)
        if state is None:
            value = self._kv.get(_DATA, keys.producer(ref.slot, self.epoch, ref.id, producer_id))
            if value is None:
                return None
            state = codecs.decode_producer(value)
            self._producers.put(ref, producer_id, state)
        return state

    def records_after(self, ref: StreamRef, position: int) -> Iterator[Record]:
        """See ``StreamView``."""
        # Made here: what is read is as of this call.
        return self._from(position, self._scan_from(ref, position))

    def _scan_from(self, ref: StreamRef, position: int) -> Iterator[tuple[bytes, bytes]]:
        start = keys.record(ref.slot, self.epoch, ref.id, position + 1)
        return self._kv.scan(_DATA, start, keys.records_end(ref.slot, self.epoch, ref.id))

    @staticmethod
    def _from(position: int, found: Iterator[tuple[bytes, bytes]]) -> Iterator[Record]:
        for key, value in found:
            record = codecs.decode_record(keys.record_end(key), value)
            yield record if record.begins >= position else record.between(position, record.end)

    def _around(self, ref: StreamRef, position: int) -> tuple[int, tuple[int, ...], int, int] | None:
        """Of what ends first beyond ``position``: where it begins, ends within (from there) and ends; and its time."""
        for key, value in self._scan_from(ref, position):
            end = keys.record_end(key)
            return *codecs.record_ends(end, value), end, codecs.record_time(value)
        return None

    def _within(self, ref: StreamRef, position: int, next_end: int) -> tuple[int, ...]:
        """Where the appends that are stored together around ``position`` end before ``next_end``, where they all do.

        What is larger than an entry of many appends is one append: nothing ends within, and it is not read.
        """
        if next_end - position > MAX_ENTRY_BYTES:
            return ()
        found = self._around(ref, position)
        return tuple(found[0] + cut for cut in found[1]) if found is not None else ()

    def _first_end(self, ref: StreamRef, position: int) -> int | None:
        """Where what ends first at ``position`` or beyond does."""
        start = keys.record(ref.slot, self.epoch, ref.id, position)
        key = self._kv.first_key(_DATA, start, keys.records_end(ref.slot, self.epoch, ref.id))
        return keys.record_end(key) if key is not None else None

    def record_ends_at(self, ref: StreamRef, position: int) -> bool:
        """See ``StreamView``."""
        end = self._first_end(ref, position)
        return end is not None and (end == position or position in self._within(ref, position, end))

    def last_end(self, ref: StreamRef, position: int) -> int | None:
        """See ``History``."""
        beyond = self._first_end(ref, position + 1)
        ends = self._within(ref, position, beyond) if beyond is not None else ()
        place = bisect_right(ends, position)
        if place:
            return ends[place - 1]
        start, end = keys.records(ref.slot, self.epoch, ref.id, after=0, upto=position)
        last = next(self._kv.scan(_DATA, start, end, reverse=True), None)
        return keys.record_end(last[0]) if last is not None else None

    def end_and_time(self, ref: StreamRef, position: int) -> tuple[int, int] | None:
        """See ``History``."""
        found = self._around(ref, position)
        if found is None:
            return None
        begins, cuts, end, stored_ms = found
        beyond = bisect_right(cuts, position - begins)
        return begins + cuts[beyond] if beyond < len(cuts) else end, stored_ms

    def paths(self, prefix: str, after: str, limit: int) -> list[str]:
        """At most ``limit`` paths that begin with ``prefix``, in order, beginning behind ``after``."""
        start, end = keys.listing_range(prefix, after)
        found = (keys.listing_parts(key) for key, _ in self._kv.scan(_DATA, start, end))
        return list(islice((path for path, epoch in found if epoch == self.epoch), limit))

    def switch(self, epoch: int) -> None:
        """Show what was installed under ``epoch``."""
        self.epoch = epoch
        self._paths.clear()
        self._metas.clear()
        self._producers = _ProducerCache()

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
        return any(keys.epoch_of(key) == self.epoch for key, _ in self._kv.scan(_DATA, start, end))

    def due(self, *, wall: bool, until_ms: int, limit: int, after: Due | None = None) -> list[Due]:
        """At most ``limit`` streams whose expiry entry is due, oldest first, beginning behind ``after``."""
        start, end = keys.due_range(wall, until_ms)
        if after is not None:
            start = keys.due(wall, after.due_ms, after.ref.slot, self.epoch, after.ref.id) + b"\0"
        found: list[Due] = []
        for key, value in self._kv.scan(_DATA, start, end):
            if keys.epoch_of(key) != self.epoch:
                continue
            due_ms, slot, number = keys.due_parts(key)
            found.append(Due(due_ms, keys.path_text(value), StreamRef(slot, number)))
            if len(found) >= limit:
                break
        return found


def _bounded(cache: dict[K, V], key: K, value: V) -> V:
    """Keep ``value`` in ``cache``, dropping the oldest beyond ``CACHED``."""
    if len(cache) >= CACHED:
        del cache[next(iter(cache))]
    cache[key] = value
    return value
