"""What RocksDB takes of the disk beside the data: how much that can be, and what it may not begin for lack of room."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

from rocksdict import Rdict

from durable_streams_cluster.limits import MIB, DiskPlan
from durable_streams_cluster.storage import faults
from durable_streams_cluster.storage.kv import Family, Space
from durable_streams_cluster.storage.space import Share, measure

_log: Final = logging.getLogger(__name__)

_CALM: Final = 4
"""With so many times the reserve free, what rewriting files may take is not worth asking about."""
FANOUT: Final = 11
"""One file is rewritten with about ten of the level below."""
_MANY_FILES: Final = 36
"""Files in level 0 (of 40, see ``rocks_open``) with which a flush may have to wait for their rewriting."""
_STEADY: Final = 5
"""So many looks in a row nothing else must have taken room before the ballast gives any."""
_REST: Final = 10
"""Looks without rewriting files after it lacked room: RocksDB asks every five seconds whether it has some again."""
_OPENING: Final = 8 * MIB
"""What opening takes beside the memtables: a new MANIFEST, options, RocksDB's diary."""

_PROPERTIES: Final = {
    "memtable_bytes": "rocksdb.cur-size-all-mem-tables",
    "sst_bytes": "rocksdb.total-sst-files-size",
    "blob_bytes": "rocksdb.total-blob-file-size",
    "immutable_memtables": "rocksdb.num-immutable-mem-table",
    "pending_compaction_bytes": "rocksdb.estimate-pending-compaction-bytes",
}


def make_room(database: Path, share: Share) -> bool:
    """Before the store is opened: give up the ballast when opening would fail for lack of room.

    Returns:
        Whether there is so much room that table files may be rewritten from the first moment.

    Raises:
        OSError: as the system says.

    """
    found = share.measure(database)
    if found.free < _OPENING + wal_bytes(database) and not found.few_files:
        _give_room(database, share, found.free)
    return found.free >= 2 * share.plan.reserve


def make_hidden_room(database: Path, share: Share) -> bool:
    """After the store could not be opened for lack of room, though there is enough: so a quota is used up.

    Returns:
        Whether the ballast gave what opening takes, or some of it.

    Raises:
        OSError: as the system says.

    """
    enough = share.measure(database).free >= _OPENING + wal_bytes(database)
    return enough and _give_room(database, share, 0)


def _give_room(database: Path, share: Share, free: int) -> bool:
    needed = _OPENING + wal_bytes(database)
    # No more than is needed: something else may be eating up the disk, and deleted data will want some, too.
    given = share.ballast.give(needed - free)
    if given:
        _log.warning(
            "the disk is full: %d MiB are free, and opening takes up to %d; the ballast gives %d",
            *_mib(free, needed, given),
        )
    return given > 0


def wal_bytes(database: Path) -> int:
    """Bytes in write-ahead log files."""
    if not database.exists():
        return 0
    total = 0
    with os.scandir(database) as files:
        for file in files:
            if file.name.endswith(".log"):
                with contextlib.suppress(FileNotFoundError):  # dropped after a flush, just now
                    total += file.stat().st_size
    return total


class Room:
    """Watches the disk for a store that is open. ``look`` is the disk thread's, the rest anybody's."""

    def __init__(
        self, database: Rdict, families: tuple[Rdict, ...], path: Path, share: Share | None, *, compacting: bool
    ) -> None:
        """``families`` are those of ``Family``, and ``database`` the default one; RocksDB's files are in ``path``."""
        self._all = (*families, database)
        self._families = families
        self._path = path
        self._share = share
        self._allowed = [compacting] * len(families)
        """Which families' files may be rewritten. The default one's are always: it has next to nothing."""
        self._said = False
        self._free = 0
        """As of the last look."""
        self._steady = 0
        """For how many looks nothing else took room."""
        self._errors = 0
        """Failures of RocksDB's threads that are known."""
        self._untold = False
        """The last one was not in RocksDB's diary, which is written after it is counted."""
        self._rest = 0
        """Looks until files may be rewritten again."""
        self.low = False
        """Whether room is so scarce that everything which gives some back comes first."""
        if not compacting:
            database.set_options(_auto_compactions(on=True))

    @property
    def compacting(self) -> bool:
        """Whether files of streams may be rewritten."""
        return self._allowed[Family.DATA]

    def writing_out(self) -> bool:
        """Whether memtables are being written out."""
        return any(family.property_int_value("rocksdb.num-immutable-mem-table") for family in self._all)

    def behind(self) -> bool:
        """Whether a flush would wait for RocksDB, and all syncing with it."""
        return self.writing_out() or any(
            (family.property_int_value("rocksdb.num-files-at-level0") or 0) >= _MANY_FILES for family in self._all
        )

    def lacked(self) -> bool:
        """Whether rewriting files failed just now."""
        return self._rest > 0 or self._failures() > self._errors

    def background_failure(self) -> tuple[str, Exception] | None:
        """What RocksDB's own threads failed at, and how; the next write would say it, and not of everything.

        Rewriting files that only lacked room is none: all is as it was before, and RocksDB goes on. But a second such
        failure before it found room again makes it write its memtables out by itself then, and so switch its WAL. So
        nothing is rewritten for a while after the first, and the second is a failure. What was to be rewritten when the
        first one failed is put off by RocksDB itself (``faults.is_put_off``): that is counted, too, once a family, and
        is none. Several may come between two looks: the diary tells them apart.

        Raises:
            OSError: as the system says.

        """
        failures = self._failures()
        if failures == self._errors:
            return None
        found = faults.background_errors(self._path / "LOG", measure(self._path).free, self._errors, failures)
        if not self._untold and any(work == faults.UNTOLD for work, _ in found):
            self._untold = True
            return None
        self._errors, self._untold = failures, False
        failed = [each for each in found if not faults.is_put_off(each[1])]
        first = next((each for each in failed if self._is_shortage(*each)), None) if not self._rest else None
        if rest := [each for each in failed if each is not first]:
            return rest[-1]
        if first is not None:
            _log.warning("rewriting files lacked room, and is tried again later: %s", first[1])
        self._rest = _REST
        return None

    def _is_shortage(self, work: str, error: Exception) -> bool:
        return self._share is not None and work == "compaction" and faults.is_short(error)

    def _failures(self) -> int:
        return self._all[-1].property_int_value("rocksdb.background-errors") or 0

    def look(self, unwritten: int, *, deleted: bool) -> Space | None:
        """Measure, and decide whether files may be rewritten and whether there is room for the ballast.

        What is ``deleted`` gives its room back only by rewriting. Where there is no room for that, the ballast gives
        some: when nothing else is eating up the disk, and what memtables hold (``unwritten`` bytes) is so little that
        the next open needs no more than the rest.

        Raises:
            OSError, Exception: as the system and RocksDB say.

        """
        if self._share is None:
            return None
        plan, ballast, _ = self._share
        free, size, few_files = self._share.measure(self._path)
        rewrites = self._largest_rewrites(plan) if free < _CALM * plan.reserve else [0] * len(self._families)
        # What memtables hold is written out while that goes on.
        needed = [
            rewrite + max((1 if allowed else 2) * plan.flush_bytes, unwritten)
            for rewrite, allowed in zip(rewrites, self._allowed, strict=True)
        ]
        self._steady = self._steady + 1 if free >= self._free - MIB and not few_files else 0
        missing = needed[Family.DATA] - free
        if missing > 0 and deleted and unwritten <= _OPENING and self._steady >= _STEADY:
            if given := ballast.give(missing, keep=2 * _OPENING, enough=True):
                _log.warning("the ballast gives %d MiB, so that deleted data can give its room back", given // MIB)
            free = self._share.measure(self._path).free
        self._free = free
        self._rest = max(0, self._rest - 1)
        self._allow([free >= each and not self._rest for each in needed], free, rewrites[Family.DATA])
        wanted = max(plan.reserve, max(rewrites) + 2 * plan.flush_bytes)
        if 0 < ballast.missing() <= free - wanted - wanted // 4:
            ballast.make()
            free = self._share.measure(self._path).free
        wanted += ballast.missing()  # what the ballast gave is not for appends
        self.low = free < wanted + wanted // 4
        return Space(free, size, wanted, unwritten, min(4 * plan.flush_bytes, plan.reserve // 2))

    def sizes(self) -> dict[str, int]:
        """In bytes, and a count of memtables."""
        found = {
            name: sum(family.property_int_value(source) or 0 for family in self._all)
            for name, source in _PROPERTIES.items()
        }
        return {"wal_bytes": wal_bytes(self._path), **found}

    def _allow(self, allowed: list[bool], free: int, rewrite: int) -> None:
        """Set what may be rewritten; ``free`` and ``rewrite``, the most for streams, are for the log."""
        if allowed[Family.DATA] != self.compacting or not (allowed[Family.DATA] or self._said):
            self._said = True
            if allowed[Family.DATA]:
                _log.info("%d MiB are free: files are rewritten again, %d MiB at once at most", *_mib(free, rewrite))
            else:
                _log.warning(
                    "%d MiB are free, and rewriting files takes up to %d: deleted data gives no room back until there "
                    "is more",
                    *_mib(free, rewrite),
                )
        for family, before, now in zip(self._families, self._allowed, allowed, strict=True):
            if before != now:
                try:
                    family.set_options(_auto_compactions(on=now))
                except Exception as error:
                    if not faults.is_full(error):  # in force, but RocksDB could not put it into its file of options
                        raise
        self._allowed = allowed

    def _largest_rewrites(self, plan: DiskPlan) -> list[int]:
        """By family, how much RocksDB could rewrite at once, at most; rather more than less."""
        table = table_bytes(plan.flush_bytes)
        levels = (str(family.property_value("rocksdb.levelstats")) for family in self._families)
        return [largest_rewrite(each, table) for each in levels]


def _auto_compactions(*, on: bool) -> dict[str, str]:
    return {"disable_auto_compactions": str(not on).lower()}


def largest_rewrite(levels: str, table: int) -> int:
    """As ``Room`` says, from RocksDB's list of levels (number, files, MiB) and the bytes of a table file."""
    rows = [tuple(map(int, row.split())) for row in levels.splitlines()[2:]]
    sizes = {level: mib * MIB for level, files, mib in rows if files}
    below = [sizes[level] for level in sorted(sizes) if level]
    # All of level 0 with the first level below it that has anything; or one file of a level with those of the next.
    first = sizes[0] + sum(below[:1]) + MIB if 0 in sizes else 0
    return max(first, min(FANOUT * table, sum(below)) if len(below) > 1 else 0)


def table_bytes(flush_bytes: int) -> int:
    """The size of a table file below level 0."""
    return max(flush_bytes // 4, MIB)


def _mib(*sizes: int) -> tuple[int, ...]:
    return tuple(size // MIB for size in sizes)
