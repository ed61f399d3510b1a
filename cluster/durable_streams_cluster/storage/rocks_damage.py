"""Which file is damaged: RocksDB says it of most blocks of table files, and of nothing else."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Final

from rocksdict import Options, Rdict

_NAMED: Final = re.compile(r"/\S*/(?:\d+\.sst|MANIFEST-\d+)")
_TABLE: Final = re.compile(r"\d+\.sst")
_REASON: Final = re.compile(r"(Corruption: [^/]*?)(?:  The file .*)?$")
_MOST_TABLES: Final = 10_000
"""Looking at one takes less than a millisecond."""


def wals(database: Path) -> list[Path]:
    """The write-ahead log files, oldest first."""
    # Not what somebody else may have put there.
    return sorted((wal for wal in database.glob("*.log") if wal.stem.isdecimal()), key=lambda wal: int(wal.stem))


def full_wals(database: Path) -> list[Path]:
    """Those that hold anything; RocksDB removes old ones in the background."""
    found = []
    for wal in wals(database):
        with contextlib.suppress(FileNotFoundError):
            if wal.stat().st_size:
                found.append(wal)
    return found


def describe(database: Path, error: BaseException) -> str:
    """What RocksDB says against the files in ``database``, and which of them it means."""
    table = None if _TABLE.search(str(error)) else find_table(database, error)
    named = _NAMED.search(str(error))
    if table is None and named is not None:
        return f"{named[0]} is damaged ({error})"
    logs = " or ".join(map(str, full_wals(database)))
    return f"{table or logs or database} is damaged ({error})"


def find_table(database: Path, error: BaseException) -> Path | None:
    """The table file whose head or properties are damaged in the way that ``error`` says, without its name.

    RocksDB opens table files while it reads a MANIFEST, or when they are first read, and then says only what is wrong,
    or even blames the MANIFEST. Asked to take such a file into another database, it says the same thing again; it says
    something else, and takes nothing, of every sound one, for none was made to be taken.
    """
    reason = _REASON.search(str(error))
    if reason is None:
        return None
    aside = database.with_name("inspect")
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(Exception):  # whatever it is: this is only about a name in a message
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        other = Rdict(str(aside), options)
        try:
            for table in sorted(database.glob("*.sst"))[:_MOST_TABLES]:
                if _says(other, table) == reason[1]:
                    return table
        finally:
            other.close()
            shutil.rmtree(aside, ignore_errors=True)
    return None


def find_file(database: Path, call: str, error: BaseException) -> Path | None:
    """The file that a failed call was about, when RocksDB's words do not say it."""
    table = find_table(database, error)
    if table is None and call == "sync":  # "Writer has previous error": a sync of its own threads failed before ours
        return next(reversed(full_wals(database)), None)
    return table


def _says(other: Rdict, table: Path) -> str:
    try:
        other.ingest_external_file([str(table)])
    except Exception as error:
        return str(error)
    return ""
