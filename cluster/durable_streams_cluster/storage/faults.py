"""What went wrong with the disk, in words for whoever has to repair it: which file, and what to do next."""

import errno
import re
from pathlib import Path
from typing import Final

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.limits import MIB

NEXT_STEP: Final = (
    "Next step: keep this directory as it is, and put back a copy of it from before the damage; without one, an empty "
    "--data-dir starts a new node, without its streams."
)
"""After damage to what was synced."""

FULL: Final = (
    "The disk is full. Next step: start the node again: it opens with the room of its ballast file, serves reads and "
    "deletes, and takes appends as soon as there is room: delete streams, or make the disk larger."
)
FAILING: Final = (
    "The disk failed, and nobody knows what of the last writes is on it. Next step: see what the system says about the "
    "disk (dmesg); when it works, start the node again: everything acknowledged is there, or the node says what is not."
)
NO_ROOM: Final = (
    "Nothing was changed. Next step: free some room on this disk, or make it larger; then start the node again."
)
UNREADABLE: Final = (
    "Nothing was changed. Next step: see whether this user may read and write the file, and what the system says about "
    "the disk (dmesg); then start the node again."
)

UNTOLD: Final = "background work"
"""What failed, when RocksDB's diary does not have it, or not yet."""

_NAMED: Final = re.compile(r"/\d+\.(sst|log)|/MANIFEST-\d+|/CURRENT")
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded")
_BACKGROUND: Final = re.compile(
    r"Waiting after background (\w+) error: (.*?), Accumulated background error counts: (\d+)"
)
_LOG_TAIL: Final = 256 * 1024
_SCARCE: Final = 16 * MIB


def is_full(error: BaseException) -> bool:
    """Whether it was for want of room."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _FULL.search(str(error)) is not None


def is_short(error: BaseException) -> bool:
    """Whether RocksDB takes an error for a want of room; a quota that is used up is any failure to it."""
    return "No space left on device" in str(error)


def is_put_off(error: BaseException) -> bool:
    """Whether RocksDB began no rewriting because it saw that it has no room: it counts that, and nothing failed."""
    return "Compaction too large" in str(error)


def names_file(error: BaseException) -> bool:
    """Whether RocksDB's words tell which file they are about."""
    return _NAMED.search(str(error)) is not None


def while_running(call: str, place: Path, error: BaseException, file: Path | None = None) -> StorageError:
    """What to raise for a failure of a store that was open; ``file``: which, if RocksDB's own words do not say."""
    plain = isinstance(error, OSError) or type(error) is Exception  # the latter is how RocksDB's errors come
    reason = str(error) if plain else f"{type(error).__name__}: {error}"
    reason += f" in {file}" if file is not None else ""
    if "orruption" in str(error):
        return CorruptData(f"{call} failed in {place}: {reason}. {NEXT_STEP}")
    return StorageError(f"{call} failed in {place}: {reason}. {FULL if is_full(error) else FAILING}")


def background_errors(log: Path, free: int, known: int, count: int) -> list[tuple[str, Exception]]:
    """What RocksDB's own threads did when they failed, and how it ended; it counts that, and tells its diary only.

    Args:
        log: The diary. When the disk is full it may lack some of them.
        free: The room in bytes, which has to tell then.
        known: How many failures are not asked for, the first ones.
        count: How often they failed in all.

    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = _BACKGROUND.findall(file.read().decode("utf-8", "replace"))
    except OSError:
        lines = []
    found = {int(number): (work, Exception(reason)) for work, reason, number in lines}
    reason = f"No space left on device ({free} bytes are free)" if free < _SCARCE else f"{log} may say how"
    return [found.get(number) or (UNTOLD, Exception(reason)) for number in range(known + 1, count + 1)]
