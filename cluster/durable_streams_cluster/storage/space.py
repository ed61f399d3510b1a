"""Free room on the disk of the data directory, and the ballast: room that is given up when there is none."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from durable_streams_cluster.limits import MIB, DiskPlan
from durable_streams_cluster.storage.data_dir import named, sync_directory

_log: Final = logging.getLogger(__name__)

_FEW_FILES: Final = 64
"""With fewer inodes left, a file system counts as full: RocksDB must be able to make files."""


class DiskFree(NamedTuple):
    """Bytes that this process may still write, and of the whole file system."""

    free: int
    size: int
    few_files: bool = False
    """None is free because there are no inodes, and giving up a file's room gives none."""


Measure = Callable[[Path], DiskFree]
"""``measure``, or what a test says instead."""


def measure(path: Path) -> DiskFree:
    """Of the file system that ``path`` is on, or the nearest directory above it that is there.

    Raises:
        OSError: as the system says.

    """
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    few = bool(found.f_files) and found.f_favail < _FEW_FILES
    return DiskFree(0 if few else found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, few)


class Ballast:
    """A file of zeros that really takes its room, so that cutting it gives room to open a store on a full disk."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._gave_up = False

    @property
    def size(self) -> int:
        """Bytes it has, or should have."""
        return self._size

    def taken(self) -> int:
        """Bytes it has now."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def missing(self) -> int:
        """Bytes that it should have and has not; none where it cannot be."""
        return 0 if self._gave_up else max(0, self._size - self.taken())

    def make(self) -> None:
        """Make it, or what is missing of it; a file system that cannot is said so, once, and is no error.

        Raises:
            OSError: as the system says, but for a want of room.

        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        before = os.fstat(handle).st_size
        try:
            with named(self._path):
                os.posix_fallocate(handle, 0, self._size)
                os.fsync(handle)
            taken = os.fstat(handle).st_blocks * 512
        except OSError as error:
            os.ftruncate(handle, before)  # what is there already helps, too
            if not before:
                self._path.unlink()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP):
                raise
            self._give_up(f"{self._path} cannot be made ({error.strerror})")
            return
        finally:
            os.close(handle)
        sync_directory(self._path.parent)
        if taken < self._size:
            self._give_up(f"{self._path} takes no room on this file system (compressed, or thin)")

    def give(self, wanted: int, keep: int = 0, *, enough: bool = False) -> int:
        """Give up ``wanted`` bytes, or what there is of them.

        Args:
            wanted: how many.
            keep: so many are not given.
            enough: give nothing if it is less than ``wanted``.

        Returns:
            How many were given.

        Raises:
            OSError: as the system says.

        """
        there = self.taken()
        given = min(wanted, there - keep)
        if given <= 0 or (enough and given < wanted):
            return 0
        with named(self._path):
            os.truncate(self._path, there - given)
        return given

    def _give_up(self, why: str) -> None:
        self._gave_up = True
        text = "%s: if the disk runs full, the node may not open again until %d MiB of it are free"
        _log.warning(text, why, self._size // MIB)


class Share(NamedTuple):
    """How a store shares its disk."""

    plan: DiskPlan
    ballast: Ballast
    measure: Measure
