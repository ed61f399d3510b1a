"""How RocksDB is set up, and how it is opened after a crash without believing more than is there."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.limits import MIB, STORE_OPEN_FILES
from durable_streams_cluster.storage import faults
from durable_streams_cluster.storage.kv import Family
from durable_streams_cluster.storage.reclaim import MARK
from durable_streams_cluster.storage.recovery import (
    FAMILY_TURN,
    FIRST_TURNS,
    NEXT_STEP,
    check_families,
    check_turns,
    find_damage,
    find_endless,
    read_current,
    turn_key,
)
from durable_streams_cluster.storage.rocks_damage import describe, full_wals, wals
from durable_streams_cluster.storage.rocks_room import FANOUT, table_bytes

TURNS: Final = "default"
"""The column family of the turn numbers: the one RocksDB always has, and whose name a record need not carry."""

FAMILIES: Final = {Family.LOG: "log", Family.DATA: "data"}

WRITE_BUFFER: Final = 1024 * MIB
"""Bytes of one memtable at which RocksDB would switch memtable and WAL by itself. ``RocksKv`` refuses writes long
before, so it never does; and not larger, for a build with fallocate reserves 1.1 times as much for each WAL file."""

_NEVER: Final = 1 << 50

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides the options. Sizes in bytes; all families share the block cache."""

    cache_bytes: int
    flush_bytes: int
    """Sizes of table files and levels follow from it, so that a ``DiskPlan``'s reserve holds the largest rewrite."""
    compacting: bool = True
    """False: begin without rewriting files, for lack of room; ``rocks_room`` turns it on."""

    def open(self, path: Path, mode: DBRecoveryMode, *, read_only: bool = False, wal_dir: Path | None = None) -> Rdict:
        """Open RocksDB at ``path``; whatever it says against it is an ``Exception``."""
        cache = Cache(self.cache_bytes)
        options = _database_options(mode)
        if wal_dir is not None:
            options.set_wal_dir(str(wal_dir))
        families = {FAMILIES[Family.LOG]: _log_options(cache), FAMILIES[Family.DATA]: _data_options(cache)}
        families[TURNS] = _log_options(cache)
        for family in families.values():
            # At most four files of level 0 and level 1, or one file and the ten below it, are rewritten at once.
            family.set_max_bytes_for_level_base(max(2 * self.flush_bytes, 4 * MIB))
            family.set_target_file_size_base(table_bytes(self.flush_bytes))
            family.set_max_compaction_bytes(FANOUT * table_bytes(self.flush_bytes))  # ``reclaim`` would take 25
            family.set_disable_auto_compactions(not self.compacting)
        access = AccessType.read_only(False) if read_only else AccessType.read_write()
        return Rdict(str(path), options, families, access)


def open_checked(path: Path, setup: Setup, durable_turn: int) -> tuple[Rdict, int]:
    """Open the database at ``path``, made when ``durable_turn`` is 0 and nothing is there.

    It is read through before it is opened for writing, because that drops the WAL: a refusal leaves all as it was.

    Returns:
        The database, and the newest turn in it; both are durable.

    Raises:
        CorruptData: it does not hold every turn up to ``durable_turn``, or RocksDB finds it damaged.

    """
    if not _is_used(path, durable_turn):
        # Nothing is there, or what a start left that did not come to its first keys: it need not even be sound.
        shutil.rmtree(path, ignore_errors=True)
        return _create(path, setup), 0
    mode, turn = _judge(path, setup, durable_turn)
    try:
        database = setup.open(path, mode)
    except Exception as error:
        raise _refusal(path, error) from error
    found = _newest_turn(database, path)
    if found is None:  # a power cut came between making the database and its first keys
        _write_first_turns(database)
    _check_families(database, path, turn)
    assert (found or 0) == turn, f"{path}: turn {found} when opened for writing, {turn} when opened for reading"
    return database, turn


def open_to_read(path: Path, setup: Setup, durable_turn: int) -> Rdict:
    """Open the database at ``path`` for reading, with what ``open_checked`` would find there.

    Only what is cut before any start, bytes that were never synced, is cut here as well.

    Raises:
        CorruptData: as of ``open_checked``; or nothing was ever stored.

    """
    if not _is_used(path, durable_turn):
        raise CorruptData(f"{path} was never used: it holds nothing")
    mode, _ = _judge(path, setup, durable_turn)
    try:
        return setup.open(path, mode, read_only=True)
    except Exception as error:
        raise _refusal(path, error) from error


def _is_used(path: Path, durable_turn: int) -> bool:
    """Whether anything was ever stored; raises CorruptData if so, and it is gone."""
    made, holds_data = (path / "CURRENT").exists(), _holds_data(path)
    if not made and durable_turn:
        raise CorruptData(f"{path} holds no database although turn {durable_turn} was synced there. {NEXT_STEP}")
    if not made and holds_data:
        raise CorruptData(f"{path / 'CURRENT'} is missing beside data. {NEXT_STEP}")
    return bool(durable_turn) or holds_data


def _judge(path: Path, setup: Setup, durable_turn: int) -> tuple[DBRecoveryMode, int]:
    """See ``_inspect``; the end of the MANIFEST is cut, if that is what it takes."""
    try:
        return _inspect(path, setup, durable_turn)
    except StorageError:
        if not _cut_manifest(path, setup, durable_turn):
            raise
    return _inspect(path, setup, durable_turn)


def _holds_data(path: Path) -> bool:
    """Whether anything was ever stored: the first turns are in a table file before a database is used."""
    return any(path.glob("*.sst")) or bool(full_wals(path))


def _cut_endless(path: Path, setup: Setup, durable_turn: int) -> None:
    """Cut a WAL where RocksDB would read for ever, when only unsynced bytes are lost; see ``find_endless``."""
    manifest = read_current(path)
    if (at := find_endless(manifest)) is not None:
        raise CorruptData(f"{manifest} is damaged at byte {at}. {NEXT_STEP}")
    logs = wals(path)
    for place, wal in enumerate(logs):
        at = find_endless(wal)
        if at is None:
            continue
        if any(later.stat().st_size for later in logs[place + 1 :]):
            # All of it was synced before the later one was begun.
            raise CorruptData(f"{wal} is damaged at byte {at}, and it is not the newest. {NEXT_STEP}")
        turn = _turn_when_cut(path, setup, wal, at)
        if turn < durable_turn:
            raise CorruptData(
                f"{wal} is damaged at byte {at}: turn {durable_turn} was synced, but only {turn} is there. {NEXT_STEP}"
            )
        _warn(f"{wal} is damaged at byte {at}", durable_turn, turn)
        _truncate(wal, at)


def _turn_when_cut(path: Path, setup: Setup, damaged: Path, at: int) -> int:
    """The newest turn that would be there with ``damaged`` cut at byte ``at``, found without cutting it."""
    with _aside(path, wals(path), {damaged: at}) as aside:
        try:
            database = setup.open(path, DBRecoveryMode.point_in_time(), read_only=True, wal_dir=aside)
            try:
                return _newest_turn(database, path) or 0
            finally:
                database.close()
        except StorageError:
            raise
        except Exception as error:
            raise _refusal(path, error) from error


@contextlib.contextmanager
def _aside(path: Path, files: Iterable[Path], cut: Mapping[Path, int]) -> Iterator[Path]:
    """A folder with links to ``files`` beside the database, for looking only; some are copied up to a byte instead."""
    aside = path.with_name("inspect")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for file in files:
            if file not in cut:
                (aside / file.name).hardlink_to(file)
                continue
            with file.open("rb") as source, (aside / file.name).open("wb") as target:
                target.write(source.read(cut[file]))
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cut_manifest(path: Path, setup: Setup, durable_turn: int) -> bool:
    """Cut the MANIFEST at its first damage, when the version before that still leads to everything that was synced.

    RocksDB takes a torn end for what it is, but refuses other traces of a power cut in bytes that were never synced.
    What the cut takes away is at worst the end of a flush or of a compaction, and until that is synced the files that
    it replaces are there. If they are not, the database does not open without it, or it lacks turns: the turn numbers
    are flushed behind all else that the same turns wrote, for flushes are begun in that order and run one at a time.

    Returns:
        Whether it was cut.

    """
    manifest = read_current(path)
    at = find_damage(manifest)
    if at is None:
        return False
    logs = wals(path)
    cut = {wal: end for wal in logs if (end := find_endless(wal)) is not None}
    with _aside(path, [path / "CURRENT", manifest, *path.glob("*.sst"), *logs], cut | {manifest: at}) as aside:
        try:
            database = setup.open(aside, DBRecoveryMode.point_in_time(), read_only=True)
            try:
                turn = _newest_turn(database, path) or 0
                _check_families(database, path, turn)
            finally:
                database.close()
        except Exception:  # what is said of the whole file says more
            return False
    if turn < durable_turn:
        return False
    _warn(f"{manifest} is damaged at byte {at}", durable_turn, turn)
    _truncate(manifest, at)
    return True


def _truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _warn(damage: str, durable_turn: int, turn: int) -> None:
    _log.warning(
        "%s, but only after the last turn on record as synced (%d): what a power cut does to bytes not yet synced. "
        "Everything after turn %d is dropped.",
        damage,
        durable_turn,
        turn,
    )


def _inspect(path: Path, setup: Setup, durable_turn: int) -> tuple[DBRecoveryMode, int]:
    """The recovery mode in which nothing that was synced is lost, and the newest turn that it recovers."""
    _cut_endless(path, setup, durable_turn)
    mode = DBRecoveryMode.tolerate_corrupted_tail_records()
    damage = None
    try:
        database = setup.open(path, mode, read_only=True)
    except Exception as refused:
        # Either bytes that were synced went bad, or a power cut left a hole in bytes that were not; the last turn
        # before the damage tells which.
        damage = describe(path, refused)
        mode = DBRecoveryMode.point_in_time()
        try:
            database = setup.open(path, mode, read_only=True)
        except Exception as error:
            raise _refusal(path, error) from error
    try:
        turn = _newest_turn(database, path) or 0
        _check_families(database, path, turn)
    finally:
        database.close()
    if turn < durable_turn:
        left = ", ".join(wal.name for wal in wals(path)) or "none"
        reason = damage or (
            f"in {path}, a write-ahead log file (*.log; there: {left}) is missing or was cut, or "
            f"{read_current(path).name} is not the newest"
        )
        raise CorruptData(f"{reason}: turn {durable_turn} was synced, but only {turn} is there. {NEXT_STEP}")
    if damage is not None:
        _warn(damage, durable_turn, turn)
    return mode, turn


def _create(path: Path, setup: Setup) -> Rdict:
    try:
        database = setup.open(path, DBRecoveryMode.tolerate_corrupted_tail_records())
    except Exception as error:
        raise StorageError(f"{path} cannot be made: {error}") from error
    _write_first_turns(database)
    return database


def _write_first_turns(database: Rdict) -> None:
    # Into a table file, not only the WAL: if the whole first WAL were lost, nothing else would tell.
    rows = WriteBatch(True)
    for turn in FIRST_TURNS:
        rows.put(turn_key(turn), b"")
    for name in FAMILIES.values():
        rows.put(FAMILY_TURN, (0).to_bytes(8, "big"), database.get_column_family_handle(name))
    database.write(rows)
    database.flush_wal(True)
    for family in (*map(database.get_column_family, FAMILIES.values()), database):
        family.flush(True)


def _newest_turn(database: Rdict, path: Path) -> int | None:
    """The newest turn, or None in a database where nothing was ever written."""
    keys = []
    try:
        cursor = database.iter(ReadOptions())
        cursor.seek_to_first()
        while cursor.valid() and (key := cursor.key()) < MARK:
            keys.append(key)
            cursor.next()
        cursor.status()
        logs = [wal.name for wal in full_wals(path)]
        return check_turns(keys, read_current(path), logs) if keys else None
    except CorruptData:
        raise
    except Exception as error:
        raise _refusal(path, error) from error


def _check_families(database: Rdict, path: Path, turn: int) -> None:
    try:
        found = {name: database.get_column_family(name).get(FAMILY_TURN) for name in FAMILIES.values()}
    except Exception as error:
        raise _refusal(path, error) from error
    check_families(found, turn, read_current(path))


def _refusal(path: Path, error: Exception) -> StorageError:
    text = str(error)
    if "orruption" in text or "No such file" in text:
        return CorruptData(f"{describe(path, error)}. {NEXT_STEP}")
    if faults.is_full(error):
        return StorageError(f"{path} cannot be opened: {text}. {faults.NO_ROOM}")
    return StorageError(f"{path} cannot be opened: {text}. {faults.UNREADABLE}")


def write_options() -> WriteOptions:
    """Unsynced, and refused rather than delayed: a delayed write holds the interpreter lock of the whole process."""
    options = WriteOptions()
    options.sync = False
    options.no_slowdown = True
    return options


def _database_options(mode: DBRecoveryMode) -> Options:
    options = _log_options(None)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_wal_recovery_mode(mode)
    options.set_paranoid_checks(True)
    # A WAL switch by RocksDB itself leaves the old file unsynced. What could cause one: a full memtable, this bound
    # on the size of all WALs, the two bounds over all memtables (off unless set), a flush. See RocksKv.flush.
    options.set_max_total_wal_size(_NEVER)
    options.set_max_background_jobs(2)
    options.set_bytes_per_sync(MIB)  # spreads the write-back of table files; the WAL is synced by us
    options.set_avoid_unnecessary_blocking_io(True)  # old files are removed in the background, not in a reader
    options.set_max_open_files(STORE_OPEN_FILES)
    options.set_max_file_opening_threads(2)
    options.set_max_log_file_size(4 * MIB)
    options.set_keep_log_file_num(4)
    options.set_max_manifest_file_size(16 * MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _log_options(cache: Cache | None) -> Options:
    """Raft's log, and the turn numbers: written, rarely read, deleted soon; not worth compressing."""
    options = Options(raw_mode=True)
    options.set_write_buffer_size(WRITE_BUFFER)
    # One that is written to and two that are written out (``MemoryShares``); a flush waits for the older of them.
    options.set_max_write_buffer_number(3)
    # A flush waits rather than bring level 0 to the slowdown mark, and all syncing waits behind it.
    options.set_level_zero_file_num_compaction_trigger(4)
    options.set_level_zero_slowdown_writes_trigger(40)
    options.set_level_zero_stop_writes_trigger(60)
    options.set_compression_type(DBCompressionType.none())
    if cache is not None:
        table = BlockBasedOptions()
        table.set_block_cache(cache)
        table.set_block_size(16 * 1024)
        table.set_bloom_filter(10, False)
        # Indexes and filters count against the cache, else they grow with the data beside the budget.
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options.set_block_based_table_factory(table)
    return options


def _data_options(cache: Cache) -> Options:
    """Streams: kept, read in order.

    No blob files: with values of 16 KiB they saved 20 % of the bytes written (1.57 GB stored: 4.1 GB against 5.1), but
    a whole scan took twice as long, and of deleted streams not a byte was freed, for tables without values are too
    small for RocksDB to ever compact them, and so to collect the blobs they refer to.
    """
    options = _log_options(cache)
    # Small streams are deleted key by key: a file with many such deletions in a row is rewritten soon. See ``reclaim``
    # for the large ones. No ratio: half of a memtable that is written out early may be deletions, three of six keys,
    # and then the files below it are rewritten each time (measured: 100 MB for 20 kB deleted).
    options.add_compact_on_deletion_collector_factory(1024, 512, 0)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bottommost_compression_type(DBCompressionType.zstd())
    return options
