"""Streams on a ``Kv``: the ``StreamView`` of a turn, and the same for readers.

Two sides, never mixed. The *turn* side shows every write staged since the last ``commit``; the machine decides on it.
The *committed* side shows only what was written; readers use it (``reader``). Both share one bounded cache of decoded
values, which only ``commit`` changes.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from msgspec.structs import replace

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.raft import Membership
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.codecs import AppliedState, Session
from durable_streams_cluster.storage.dropping import drop_records, drop_stream
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.storage.stream_reader import StreamReader
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

_DATA = Family.DATA

_NO_SESSIONS: Mapping[int, Session | None] = {}


class StreamStore:
    """The turn side: what was staged since the last ``commit`` lies over ``committed``."""

    def __init__(self, kv: KvView, group: GroupId) -> None:
        self.committed = StreamReader(kv, group)
        self._kv = kv
        self._group = group
        self._epoch = self.committed.epoch
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
        staged = [
            record.between(position, record.end) for record in self._records.get(ref, ()) if record.end > position
        ]
        return chain(self.committed.records_after(ref, position), staged)

    def record_ends_at(self, ref: StreamRef, position: int) -> bool:
        """See ``StreamView``."""
        staged = any(record.ends_at(position) for record in self._records.get(ref, ()))
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
        staged: list[Record] = []
        last: StreamRef | None = None
        for write in writes:
            # What an append writes: told apart by type, which is much faster than by pattern.
            if type(write) is PutRecord:
                ref, record = write.ref, write.record
                if ref is not last:
                    staged, last = self._records.setdefault(ref, []), ref
                staged.append(record)
                key = keys.record(ref.slot, self._epoch, ref.id, record.end)
                batch.put(_DATA, key, codecs.encode_record(write.at, record))
            elif type(write) is PutMeta:
                self._metas[write.ref] = write.meta
            else:
                self._stage(batch, write)

    def _stage(self, batch: WriteBatch, write: Write) -> None:
        match write:
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
            case PutRecord() | PutMeta():
                raise AssertionError("staged already")

    def sessions(self) -> dict[int, Session]:
        """By origin, as stored."""
        start, end = keys.sessions(self._group)
        return {
            keys.session_origin(key): codecs.decode_session(value) for key, value in self._kv.scan(_DATA, start, end)
        }

    def membership(self) -> Membership | None:
        """Who belongs to the group, as of the last entry that is applied; None if it was never changed."""
        value = self._kv.get(_DATA, keys.membership(self._group))
        return codecs.decode_membership(value) if value is not None else None

    def know_members(self, batch: WriteBatch, membership: Membership) -> None:
        """Who belongs to the group from here on."""
        batch.put(_DATA, keys.membership(self._group), codecs.encode_membership(membership))

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
        if committed.epoch != self._epoch:
            committed.switch(self._epoch)
        committed.applied = self._applied
        committed.remember(self._paths, self._metas, self._producers)
        for staged in (self._paths, self._metas, self._producers, self._records):
            staged.clear()

    def switch(self, applied: AppliedState, epoch: int) -> None:
        """Go on from a snapshot that was stored under ``epoch``: the turn side now, readers with ``commit``."""
        assert not any((self._paths, self._metas, self._producers, self._records)), "nothing else is in this turn"
        self._epoch, self._applied = epoch, applied

    def _drop(self, batch: WriteBatch, ref: StreamRef, meta: StreamMeta) -> None:
        drop_stream(self._kv, batch, self._epoch, ref, meta, staged=ref in self._records)
        self._paths[meta.path] = None
        self._metas[ref] = None
        self._records.pop(ref, None)
        self._producers.pop(ref, None)

    def _drop_records(self, batch: WriteBatch, ref: StreamRef, after: int, upto: int) -> None:
        drop_records(self._kv, batch, self._epoch, ref, after, upto, staged=ref in self._records)
        staged = self._records.get(ref)
        if staged is not None:
            self._records[ref] = [record for record in staged if record.end > upto]
