"""The durable store: ``Kv`` on RocksDB, and where every sync and every WAL switch of a node happens.

Only ``storage.rocks*`` imports rocksdict. What it does with the interpreter lock, measured on 0.3.29: ``write`` and
reads hold it, ``flush_wal``, ``flush`` and ``close`` release it.
"""

import contextlib
import threading
from pathlib import Path
from typing import Final, Self

from rocksdict import CompactOptions, Rdict, ReadOptions
from rocksdict import WriteBatch as RocksBatch

from durable_streams_cluster.clock import Clock, SystemClock
from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.limits import DiskPlan, MemoryShares
from durable_streams_cluster.storage import faults, reclaim
from durable_streams_cluster.storage.data_dir import DataDir, sync_directory
from durable_streams_cluster.storage.kv import Delete, Deleted, Family, Put, Space, WriteBatch, WriteStalled
from durable_streams_cluster.storage.reclaim import MARK, Range, Waiting, read_mark
from durable_streams_cluster.storage.recovery import FAMILY_TURN, TURNS_KEPT, DurableTurn, turn_key
from durable_streams_cluster.storage.rocks_open import FAMILIES, WRITE_BUFFER, Setup, open_checked, write_options
from durable_streams_cluster.storage.rocks_read import RocksReader
from durable_streams_cluster.storage.rocks_room import Room, make_hidden_room, make_room
from durable_streams_cluster.storage.space import Ballast, Measure, Share, measure

_RECORD_EVERY_MS: Final = 1000
"""``durable-turn`` is written at most this often, in milliseconds."""

_OP_OVERHEAD: Final = 64
"""Bytes a memtable needs for an entry beside key and value, rounded up (measured: 35)."""

_OWN_OPS: Final = 4
"""What ``write`` adds to a batch: two keys of turns, and the turn of each family."""


class RocksKv(RocksReader):
    """A ``Kv`` in a data directory, which it holds until ``close``.

    ``write``, ``get``, ``has`` and ``scan`` are the loop's, ``sync`` and ``flush`` the disk thread's. After any failure
    but ``WriteStalled`` every call raises ``StorageError``: what is on disk is unknown, and only the recovery at the
    next open finds out.
    """

    def __init__(
        self,
        directory: DataDir,
        durable: DurableTurn,
        database: Rdict,
        turn: int,
        setup: Setup,
        share: Share | None,
        clock: Clock,
    ) -> None:
        families = tuple(database.get_column_family(FAMILIES[family]) for family in Family)
        super().__init__(directory.path, families)
        self._directory = directory
        self._durable = durable
        self._clock = clock
        self._database = database
        self._handles = tuple(database.get_column_family_handle(FAMILIES[family]) for family in Family)
        database.set_write_options(write_options())
        self._turn = turn
        self._synced = turn
        self._recorded_ms = clock.steady_ms()
        self._unflushed = 0
        self._moved = 0
        """Bytes in the memtables that the last flush began to write out; none when they are."""
        self._flush_bytes = setup.flush_bytes
        self._room = Room(database, families, directory.db, share, compacting=setup.compacting)
        self._closed = False
        self._disk = threading.Lock()
        """Held by whoever syncs, flushes or closes."""
        self._gate = threading.Lock()
        """Held during a write, and from before the last sync to the end of a flush."""
        self._waiting = Waiting(_marks(database), clock.steady_ms())
        self._reclaiming = threading.Lock()
        """Held by whoever reclaims."""
        self.sync_count = 0
        """Syncs of the write-ahead log that were really done."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        memory_budget: int,
        flush_bytes: int | None = None,
        clock: Clock | None = None,
        plan: DiskPlan | None = None,
        measure: Measure = measure,
    ) -> Self:
        """Open the store in the directory ``path``, made when it is not there.

        Args:
            path: the data directory.
            memory_budget: bytes for everything, divided by ``MemoryShares``.
            flush_bytes: bytes in memtables at which ``flush_due`` says so; by default what the budget gives. At twice
                as many, writes are refused.
            clock: says when ``durable-turn`` is due.
            plan: how the disk is shared; None: there is no ballast, and room is not looked at.
            measure: says how much room there is.

        Raises:
            DataDirLocked: another process holds the directory.
            CorruptData: something that was synced is missing or damaged; nothing was changed.
            StorageError: the directory or the database cannot be used.

        """
        shares = MemoryShares.of(memory_budget)
        flush_bytes = flush_bytes or shares.flush_bytes
        assert 0 < flush_bytes * 8 <= WRITE_BUFFER, "RocksDB must never reach the size at which it switches by itself"
        directory = DataDir.open(path)
        durable = None
        share = Share(plan, Ballast(directory.ballast, plan.ballast), measure) if plan is not None else None
        try:
            setup = Setup(shares.cache_bytes, flush_bytes, compacting=share is None or make_room(directory.db, share))
            durable = DurableTurn.open(directory.durable_turn, directory.db)
            try:
                database, turn = open_checked(directory.db, setup, durable.expected)
            except StorageError as error:
                if share is None or not (faults.is_full(error) and make_hidden_room(directory.db, share)):
                    raise
                database, turn = open_checked(directory.db, setup, durable.expected)
            # RocksDB makes ``db`` and syncs what is in it, not its name. At every open, for a start that was killed
            # may have made a name here that it did not sync.
            sync_directory(path)
            if turn != durable.turn:
                durable.record(turn)  # recovery wrote it into table files
            opened = cls(directory, durable, database, turn, setup, share, clock or SystemClock())
        except OSError as error:
            _release(directory, durable)
            advice = faults.NO_ROOM if faults.is_full(error) else faults.UNREADABLE
            raise StorageError(f"the data directory {path} cannot be used: {error}. {advice}") from error
        except BaseException:
            _release(directory, durable)
            raise
        try:
            opened.tend()
        except StorageError:
            opened.close()
            raise
        return opened

    @property
    def last_write(self) -> int:
        """The number of the newest write, 0 before the first ever."""
        return self._turn

    def write(self, batch: WriteBatch) -> None:
        """Apply ``batch`` as the next turn, unsynced.

        Raises:
            WriteStalled: nothing was written: RocksDB is behind, a flush runs, or one is overdue.
            StorageError: the outcome is unknown, or the store failed before or is closed.

        """
        if self._fault is not None:
            self._refuse()
        if self._unflushed >= 2 * self._flush_bytes:
            raise WriteStalled(f"{self._unflushed} bytes wait for a flush")
        # Never waited for: a flush blocks, and this is the loop's thread.
        if not self._gate.acquire(blocking=False):
            raise WriteStalled("a flush runs")
        try:
            turn = self._turn + 1
            cost = batch.size + _OP_OVERHEAD * (len(batch.ops) + _OWN_OPS)
            assert cost <= WRITE_BUFFER // 4, f"a batch of {batch.size} bytes"
            rows = RocksBatch(True)
            handles = self._handles
            dead: list[Range] = []
            for op in batch.ops:
                if isinstance(op, Put):
                    rows.put(op.key, op.value, handles[op.family])
                elif isinstance(op, Delete):
                    rows.delete(op.key, handles[op.family])
                elif isinstance(op, Deleted):
                    dead.append(Range(op.start, op.end, op.frees))
                elif op.start < op.end:  # RocksDB refuses a range whose end comes first
                    rows.delete_range(op.start, op.end, handles[op.family])
                    if op.frees:
                        dead.append(Range(op.start, op.end, op.frees))
            rows.put(turn_key(turn), b"")
            rows.delete(turn_key(turn - TURNS_KEPT))
            for handle in handles:
                rows.put(FAMILY_TURN, turn.to_bytes(8, "big"), handle)
            for each in dead:
                rows.put(reclaim.mark_key(each), reclaim.mark_value(each))
            off_record = self._waiting.off_record()
            for each in off_record:
                rows.delete(reclaim.mark_key(each))
            self._database.write(rows)
            if dead or off_record:
                self._waiting.written(dead, off_record, self._clock.steady_ms())
            # Only now: a sync that runs meanwhile must not count a write that was not finished when it began.
            self._turn = turn
            self._unflushed += cost
        except BaseException as error:
            message = str(error)
            if message.startswith("Result incomplete") and "stall" in message:
                raise WriteStalled(message) from None
            raise self._fail("write", error) from error
        finally:
            self._gate.release()

    def sync(self) -> int:
        """Make every write that has returned durable; blocks.

        Returns:
            The number of the newest durable write.

        Raises:
            StorageError: what is durable is unknown, or the store failed before or is closed.

        """
        with self._disk:
            return self._sync(record=False)

    def flush_due(self) -> bool:
        """Whether memtables hold more than ``flush_bytes``, or deletions that wait to be reclaimed.

        Not while a flush would wait for RocksDB, and every sync behind it.
        """
        # On a disk that is almost full little is kept in memtables, so that the next open needs little room.
        most = self._flush_bytes // 8 if self._room.low else self._flush_bytes
        # Deletions are written out early only to be reclaimed; where that cannot be, each would leave one more file.
        reclaims = self._room.compacting and self._waiting.needs_flush(self._clock.steady_ms())
        due = self._unflushed >= most or reclaims
        return due and self._fault is None and not self._room.behind()

    def flush(self) -> None:
        """Switch to new memtables and a new WAL file, and start writing the old ones out.

        Every write before is synced first, so the new WAL never becomes durable before the old one, and is put on
        record in ``durable-turn``, so damage anywhere in the old WAL is known for what it is. Writes meanwhile are
        refused with ``WriteStalled``. Waits while RocksDB is several flushes or compactions behind.

        Raises:
            StorageError: what is durable is unknown, or the store failed before or is closed.

        """
        with self._disk, self._gate:
            self._sync(record=True)
            unwritten = self._unwritten()
            try:
                # The first one starts a new WAL; the others find it empty and start none.
                for family in (*self._families, self._database):
                    family.flush(False)
            except BaseException as error:
                raise self._fail("flush", error) from error
            self._moved, self._unflushed = unwritten, 0
            self._waiting.flushed()

    def reclaim_due(self) -> bool:
        """Whether deleted ranges wait that no memtable knows, and it is time to look at the files around them."""
        return self._fault is None and self._room.compacting and self._waiting.due(self._clock.steady_ms())

    def tend(self) -> Space | None:
        """See ``Kv``.

        Raises:
            CorruptData: RocksDB found damage while it rewrote files.
            StorageError: its own threads failed otherwise, the disk cannot be looked at, or the store failed before.

        """
        with self._disk:
            if self._fault is not None:
                self._refuse()
            try:
                failed = self._room.background_failure()
                deleted = self._waiting.waiting_bytes > 0
                space = self._room.look(self._unwritten(), deleted=deleted) if failed is None else None
            except Exception as error:
                raise self._fail("a look at the disk", error) from error
            if failed is not None:
                raise self._fail(*failed)
            self._waiting.urgent = self._room.low
            return space

    def reclaim(self) -> None:
        """Rewrite the table files around deleted ranges, where that is worth it.

        RocksDB would write out a memtable that knows any key of a compacted range or its end, and with that switch the
        WAL by itself. So a range comes here only after a flush that is done, nobody ever writes into it again
        (``kv.DeleteRange``), and the end that RocksDB is told lies before its own (``last_before``).

        Raises:
            StorageError: as of ``sync``.

        """
        with self._reclaiming:
            data = self._families[Family.DATA]
            try:
                ready = self._waiting.ready()  # before the count: a flush may begin at any time, and makes more ready
                if self._closed or data.property_int_value("rocksdb.num-immutable-mem-table"):
                    return
                files = [
                    reclaim.File(each["level"], each["size"], each["start_key"], each["end_key"])
                    for each in self._database.live_files()
                ]
                taken = self._waiting.take(ready, files, self._clock.steady_ms())
                for dead in reclaim.joined(taken):
                    if self._closed:
                        return
                    if self._room.lacked():  # which ``compact_range`` does not tell
                        break
                    options = CompactOptions()
                    options.set_exclusive_manual_compaction(False)
                    data.compact_range(dead.start, reclaim.last_before(dead.end), options)
                self._waiting.ended(taken, done=not self._room.lacked())
            except Exception as error:
                if not self._closed:
                    raise self._fail("reclaim", error) from error

    def close(self) -> None:
        """Sync, then let go of the database and the directory; waits for a running ``sync``, and ends a ``reclaim``.

        A second call does nothing. A scan that was neither exhausted nor dropped keeps RocksDB's files open.

        Raises:
            StorageError: the last sync failed; all was let go of nevertheless.

        """
        with self._disk, self._gate:
            if self._closed:
                return
            self._closed = True
            try:
                if self._fault is None:
                    self._sync(record=True)
            finally:
                self._fault = self._fault or "the store is closed"
                # RocksDB closes when nothing refers to it. Each of these also writes its memtables out, which fails
                # after a fault, and says nothing new.
                self._handles = ()
                if self._reclaiming.locked():
                    self._database.cancel_all_background(False)  # told to wait, it would hold the interpreter
                with self._reclaiming:
                    pass
                for family in (*self._families, self._database):
                    with contextlib.suppress(Exception):
                        family.close()
                _release(self._directory, self._durable)

    def properties(self) -> dict[str, int]:
        """Sizes in bytes, and a count of memtables, for metrics.

        Raises:
            StorageError: the store failed or is closed.

        """
        if self._fault is not None:
            self._refuse()
        return {"unflushed_bytes": self._unflushed, "dead_bytes": self._waiting.waiting_bytes, **self._room.sizes()}

    def _sync(self, *, record: bool) -> int:
        if self._fault is not None:
            self._refuse()
        turn = self._turn
        try:
            if turn != self._synced:
                self._database.flush_wal(True)
                self.sync_count += 1
                self._synced = turn
                self._durable.note(turn)
            now = self._clock.steady_ms()
            if turn != self._durable.turn and (record or now - self._recorded_ms >= _RECORD_EVERY_MS):
                self._durable.record(turn)
                self._recorded_ms = now
        except BaseException as error:
            raise self._fail("sync", error) from error
        return turn

    def _unwritten(self) -> int:
        """Bytes in memtables, those included that are being written out."""
        if self._moved and not self._room.writing_out():
            self._moved = 0
        return self._unflushed + self._moved


def _marks(database: Rdict) -> list[Range]:
    """The ranges on record as deleted and not reclaimed."""
    cursor = database.iter(ReadOptions())
    cursor.seek(MARK)
    found = []
    while cursor.valid():
        found.append(read_mark(cursor.key(), cursor.value()))
        cursor.next()
    cursor.status()
    return found


def _release(directory: DataDir, durable: DurableTurn | None) -> None:
    if durable is not None:
        durable.close()
    directory.close()
