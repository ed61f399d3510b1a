"""The data directory: made so that a power cut cannot lose it, held by one process, marked with its format.

::

    DIR/lock           held with flock for the life of the store; the holder's process id, for people
    DIR/format         JSON: the version of everything below
    DIR/identity       which replica of which cluster; see ``identity``
    DIR/durable-turn   see ``recovery``
    DIR/ballast        room for a full disk; see ``space``
    DIR/db/            RocksDB's own
    DIR/needs-repair   why the store is not used; see ``repair``
    DIR/damaged-1/     a damaged store that was set aside
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from durable_streams_cluster.errors import CorruptData, DataDirLocked, StorageError
from durable_streams_cluster.storage import faults

FORMAT_VERSION: Final = 1
"""What this version writes, and the only one it reads."""

_COMMENT: Final = "Data of one durable-streams-cluster node. Change nothing here by hand."


class DataDir:
    """A data directory that this process holds. ``close`` lets go of it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path: Final = path
        self.db: Final = path / "db"
        """Where RocksDB keeps its files."""
        self.durable_turn: Final = path / "durable-turn"
        self.ballast: Final = path / "ballast"
        self._lock: int | None = lock

    @classmethod
    def hold(cls, path: Path) -> Self:
        """Hold ``path``, made first when it is not there, whatever it has.

        Raises:
            DataDirLocked: another process holds it.
            StorageError: no directory, not writable, or on a file system without locks.

        """
        path = path.absolute()
        try:
            make_directory(path)
            return cls(path, _lock(path))
        except OSError as error:
            raise StorageError(_explain(path, error)) from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Hold ``path``, and see that this version reads what it has.

        Raises:
            DataDirLocked, StorageError: as ``hold``; or a newer version wrote it.
            CorruptData: the ``format`` file is damaged, or missing beside data.

        """
        directory = cls.hold(path)
        try:
            directory._check_format()
        except OSError as error:
            directory.close()
            raise StorageError(_explain(directory.path, error)) from error
        except BaseException:
            directory.close()
            raise
        return directory

    def close(self) -> None:
        """Let go of the directory; a second call does nothing."""
        if self._lock is not None:
            # The file stays: removing a lock file lets two processes lock two files of the same name.
            os.close(self._lock)
            self._lock = None

    def _check_format(self) -> None:
        path = self.path / "format"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            if present := [each.name for each in (self.db, self.durable_turn) if each.exists()]:
                raise CorruptData(
                    f"{path} is missing although {self.path} holds {' and '.join(present)}. It was removed by hand, "
                    "or the directory was copied in part. Next step: restore the file from where the rest came from."
                ) from None
            comment = {"format": FORMAT_VERSION, "comment": _COMMENT}
            write_file(path, json.dumps(comment).encode() + b"\n")
            return
        try:
            found = _format_of(text)
        except ValueError as error:
            raise CorruptData(
                f"{path} is damaged: {error}. Nothing was changed. Next step: if the rest of {self.path} is sound, "
                f'write {{"format": {FORMAT_VERSION}}} into it; else restore the directory from a backup; or, in a '
                "cluster, empty the directory: it joins anew."
            ) from error
        if found != FORMAT_VERSION:
            raise StorageError(
                f"{path} says data format {found!r}; this version reads {FORMAT_VERSION}. Nothing was changed. "
                "Next step: start the version of durable-streams-cluster that wrote it, or a newer one; if no other "
                "was ever used here, the file is damaged: restore the directory from a backup; or, in a cluster, empty "
                "the directory: it joins anew."
            )


def _format_of(text: bytes) -> int | str:
    """The version that the text of a ``format`` file names, a number so far. Raises ValueError."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    found = document.get("format") if isinstance(document, dict) else None
    # Not True or 1.0, which Python takes for 1, and nothing that would fill the message with the file.
    if isinstance(found, bool) or not isinstance(found, int | str) or len(str(found)) > 40:
        raise ValueError("it names no format")
    return found


def make_directory(path: Path) -> None:
    """Make ``path`` and what is missing above it, so that a power cut after the return cannot take them away.

    Raises:
        OSError: as the system says.

    """
    missing = []
    above = path
    while not above.exists():
        missing.append(above)
        above = above.parent
    # The last one that is there may have been made by a start that was killed before it could sync the name.
    if above.stat().st_dev == above.parent.stat().st_dev:
        with contextlib.suppress(PermissionError):
            sync_directory(above.parent)
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster; the lock decides who stays
            each.mkdir(mode=0o750)
        sync_directory(each.parent)
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a directory")


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of calls on a descriptor say which file it is."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable: a new file's bytes may survive a power cut that its name does not.

    Raises:
        OSError: as the system says.

    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with named(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes) -> None:
    """Make or replace a small file: after a power cut it is there whole, or as it was before.

    Raises:
        OSError: as the system says.

    """
    draft = path.with_name(path.name + ".tmp")
    with named(draft), draft.open("wb") as file:  # closing writes once more what could not be written
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def _lock(path: Path) -> int:
    place = path / "lock"
    handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        with named(place):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _say_who(handle)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise DataDirLocked(
            f"the data directory {path} is in use by another process" + (f" (pid {holder})" if holder else "")
        ) from None
    except BaseException:
        os.close(handle)
        raise
    return handle


def _say_who(handle: int) -> None:
    """Write this process's id for people; on a full disk it is left out, for the store may open nevertheless."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _explain(path: Path, error: OSError) -> str:
    match error:
        case NotADirectoryError() | FileExistsError():
            return (
                f"the data directory {path} is not a directory, or something above it is not. Next step: name another "
                "one with --data-dir, or remove what is in its place."
            )
        case PermissionError():
            return (
                f"the data directory {path} is not writable by user id {os.geteuid()}: {error}. Next step: let this "
                "user write there, or name another one with --data-dir."
            )
        case _:
            advice = faults.NO_ROOM if faults.is_full(error) else faults.UNREADABLE
            return f"the data directory {path} cannot be used: {error}. {advice}"
