"""Read what shim.c wrote down, prove that it saw everything, and tell what of it is durable.

The proof is made before every cut: replayed from the state before it, the journal must lead exactly to the files and
names that are there; undone from there, exactly to the state before it. A change that the shim did not see breaks one
of the two, and ``JournalError`` says which file.
"""

import copy
import dataclasses
import mmap
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.system.power.shim import Kind

DIRECTORY: Final = 0
"""What stands for a directory where a file has its inode."""
PENDING, DONE, FAILED = range(3)
SYNCS: Final = frozenset({Kind.SYNC, Kind.SYNC_ALL})
NAMES: Final = frozenset({Kind.CREATE, Kind.RENAME, Kind.UNLINK, Kind.MKDIR, Kind.RMDIR, Kind.LINK})

_HEADER: Final = struct.Struct("=8sQQ")
_RECORD: Final = struct.Struct("=IIQiiQQqqqIIQQ")
_MAGIC: Final = 0x4452
_STATE_AT, _INODE_AT, _RESULT_AT = 16, 24, 56


class JournalError(AssertionError):
    """The shim missed a change, or met a call that it does not know: what it says about the disk cannot be trusted."""


@dataclasses.dataclass(slots=True)
class Change:
    """One record. ``synced`` is found out by ``Model``."""

    at: int
    kind: Kind
    state: int
    inode: int
    second: int
    offset: int
    before: int
    result: int
    path: str
    target: str
    old: memoryview
    new: memoryview
    synced: bool = False
    lost: bool = False
    """A sync of it failed: later ones that succeed mean nothing to it, for the kernel has forgotten it."""

    @property
    def after(self) -> int:
        """The length of the file after it."""
        return self.offset if self.kind is Kind.TRUNCATE else max(self.before, self.offset + self.result)

    @property
    def parent(self) -> str:
        """The directory of the name."""
        return self.path.rpartition("/")[0]

    def undo(self, content: bytearray) -> None:
        """Take it back from the content that it led to."""
        if len(content) != self.after:
            raise JournalError(f"{self.path}: {len(content)} bytes where the journal has {self.after}")
        if self.kind is Kind.WRITE:
            del content[self.before :]
            content[self.offset : self.offset + len(self.old)] = self.old
        else:
            del content[self.before :]
            content += self.old

    def redo(self, content: bytearray) -> None:
        """Make it again, from the content that it met."""
        if len(content) != self.before or content[self.offset : self.offset + len(self.old)] != self.old:
            raise JournalError(f"{self.path}: the journal has other bytes before the change at {self.offset}")
        if self.kind is Kind.WRITE:
            content.extend(bytes(max(0, self.offset - self.before)))
            content[self.offset : self.offset + self.result] = self.new[: self.result]
        else:
            del content[self.offset :]
            content.extend(bytes(max(0, self.offset - self.before)))


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What is on the disk, all of it durable."""

    names: Mapping[str, int]
    """Name below the root → inode, or ``DIRECTORY``."""
    contents: Mapping[int, tuple[int, int]]
    """Inode → length and checksum."""

    @classmethod
    def take(cls, root: Path) -> "Snapshot":
        """Of the folder as it is, while no process changes it."""
        names = list_names(root)
        files = {inode: root / name for name, inode in names.items() if inode != DIRECTORY}
        return cls(names, {inode: summary(path.read_bytes()) for inode, path in files.items()})


@dataclasses.dataclass(slots=True)
class File:
    """One file that was there, with or without a name."""

    where: Path
    content: bytes
    base: bytes
    """Before the first change."""
    changes: list[Change]
    changed_later: bool = False
    """What is in ``where`` has gone on since."""

    @property
    def unsynced(self) -> list[Change]:
        return [change for change in self.changes if not change.synced]


def list_names(root: Path) -> dict[str, int]:
    """Every name below the root, the root itself apart."""
    found: dict[str, int] = {}
    for folder, _, _ in os.walk(root):
        with os.scandir(folder) as entries:
            for entry in entries:
                directory = entry.is_dir(follow_symlinks=False)
                found[os.path.relpath(entry.path, root)] = DIRECTORY if directory else entry.inode()
    return found


def summary(content: bytes) -> tuple[int, int]:
    return len(content), zlib.crc32(content)


def read(journal: Path) -> list[Change]:
    """Every record; empty when nothing was journalled yet."""
    return [change for change, _ in _records(_load(journal))]


def settle(journal: Path, root: Path) -> None:
    """Find out whether the change that a killed process was making happened, and put that into the journal.

    To be called after every end of a process, before the next begins.
    """
    if not journal.exists():
        return
    with journal.open("r+b") as file, mmap.mmap(file.fileno(), 0) as whole:
        for change, start in list(_records(_load(journal))):
            if change.state != PENDING or change.kind in SYNCS:
                continue
            happened = _happened(change, root)
            if change.kind is Kind.CREATE and happened:
                _put(whole, start + _INODE_AT, "Q", (root / change.path).stat().st_ino)
            _put(whole, start + _RESULT_AT, "q", happened)
            _put(whole, start + _STATE_AT, "i", DONE if happened else FAILED)


def _put(whole: mmap.mmap, at: int, kind: str, value: int) -> None:
    struct.pack_into(f"={kind}", whole, at, value)


def _happened(change: Change, root: Path) -> int:
    """For a write, how many bytes of it; otherwise 1 or 0."""
    path, target = root / change.path, root / change.target
    match change.kind:
        case Kind.WRITE:
            content = path.read_bytes()[change.offset :] if path.exists() else b""
            same = (a == b for a, b in zip(content, change.new, strict=False))
            return next((count for count, equal in enumerate(same) if not equal), min(len(content), len(change.new)))
        case Kind.TRUNCATE:
            return int(path.stat().st_size == change.offset)
        case Kind.CREATE | Kind.MKDIR:
            return int(path.exists())
        case Kind.UNLINK | Kind.RMDIR | Kind.RENAME:
            return int(not path.exists())
        case _:
            return int(target.exists())


def _load(journal: Path) -> bytes:
    if not journal.exists():
        return b""
    with journal.open("rb") as file:
        tail = int(_HEADER.unpack(file.read(_HEADER.size))[2])
        file.seek(0)
        return file.read(tail)


def _records(content: bytes) -> Iterator[tuple[Change, int]]:
    view, at = memoryview(content), _HEADER.size
    while at < len(content):
        magic, kind, size, state, _, inode, second, offset, before, result, name, more, old, new = _RECORD.unpack_from(
            content, at
        )
        if magic != _MAGIC:
            raise JournalError(f"no record at byte {at} of the journal")
        start, ends = at + _RECORD.size, []
        for part in (name, more, old, new):
            ends.append(view[start : start + part])
            start += part
        path, target = (bytes(part).decode() for part in ends[:2])
        if kind == Kind.UNKNOWN:
            raise JournalError(f"the shim does not know: {path} ({target})")
        made = Change(at, Kind(kind), state, inode, second, offset, before, result, path, target, ends[2], ends[3])
        yield made, at
        at += size


class Model:
    """The disk after a process has ended: proven complete, every change marked as synced or not."""

    def __init__(self, before: Snapshot, journal: Path, root: Path, graveyard: Path) -> None:
        """Read, replay and compare.

        Args:
            before: the state at the beginning of the journal.
            journal: as the shim wrote it, settled.
            root: the watched folder.
            graveyard: where files without a name are kept.

        Raises:
            JournalError: the journal does not lead from there to here.

        """
        self.before = before
        self.root = root
        self.records = read(journal)
        self.naming: list[Change] = []
        """Changes of names, in order."""
        self.files: dict[int, File] = {}
        changes = self._sort_out()
        self._check_names()
        self._check_files(changes, graveyard)

    def at(self, moment: int) -> "Model":
        """The same disk earlier: when the journal had come to this byte. A sync counts when it had ended before."""
        past = copy.copy(self)
        past.naming, past.files = [], {}
        past.records = [
            dataclasses.replace(
                each,
                synced=False,
                lost=False,
                state=PENDING if each.kind in SYNCS and each.offset >= moment else each.state,
            )
            for each in self.records
            if each.at < moment
        ]
        changes = past._sort_out()
        for inode, file in self.files.items():
            made = changes.get(inode, [])
            content, later = file.content, len(made) < len(file.changes)
            if later:
                work = bytearray(file.base)
                for change in made:
                    change.redo(work)
                content = bytes(work)
            past.files[inode] = File(file.where, content, file.base, made, later)
        return past

    def count(self, kind: Kind, ending: str = "") -> int:
        """How many changes of this kind were made to files whose names end so."""
        return sum(each.kind is kind and each.state == DONE and each.path.endswith(ending) for each in self.records)

    def _sort_out(self) -> dict[int, list[Change]]:
        """Changes by inode, with ``synced`` set; and the changes of names."""
        changes: dict[int, list[Change]] = {}
        for record in self.records:
            if record.kind in SYNCS:
                covered = self._covered(record, changes)
                for change in covered:
                    change.lost = change.lost or record.state == FAILED
                    change.synced = change.synced or (record.state == DONE and not change.lost)
            elif record.state != DONE:
                assert record.state == FAILED, f"{record.kind.name} of {record.path} was not settled"
            elif record.kind in NAMES:
                self.naming.append(record)
            elif record.kind in {Kind.WRITE, Kind.TRUNCATE}:
                changes.setdefault(record.inode, []).append(record)
        return changes

    def _covered(self, sync: Change, changes: Mapping[int, list[Change]]) -> list[Change]:
        """What a sync makes durable: everything of its file or directory before it."""
        if sync.kind is Kind.SYNC_ALL:
            covered = [*self.naming, *(change for each in changes.values() for change in each)]
        elif sync.second:
            covered = [change for change in self.naming if change.parent == sync.path]
        else:
            covered = changes.get(sync.inode, [])
        return [change for change in covered if not change.synced]

    def _check_names(self) -> None:
        names = dict(self.before.names)
        for change in self.naming:
            rename(names, change)
        found = list_names(self.root)
        if names != found:
            wrong = {name for name in names.keys() | found.keys() if names.get(name) != found.get(name)}
            raise JournalError(f"names that the journal does not lead to: {sorted(wrong)}")

    def _check_files(self, changes: Mapping[int, list[Change]], graveyard: Path) -> None:
        places = {inode: self.root / name for name, inode in list_names(self.root).items() if inode != DIRECTORY}
        places |= {int(each.name): each for each in graveyard.iterdir()}
        for inode in changes.keys() - places.keys():
            raise JournalError(f"{changes[inode][0].path} (inode {inode}) is nowhere")
        for inode, place in places.items():
            content, made = place.read_bytes(), changes.get(inode, [])
            work = bytearray(content)
            for change in reversed(made):
                change.undo(work)
            base = bytes(work)
            if summary(base) != self.before.contents.get(inode, summary(b"")):
                raise JournalError(f"{place}: the journal does not lead back to what it was")
            for change in made:
                change.redo(work)
            if work != content:
                raise JournalError(f"{place}: the journal does not lead to what it is")
            assert stat.S_ISREG(place.stat().st_mode)
            self.files[inode] = File(place, content, base, made)


def rename(names: dict[str, int], change: Change) -> None:
    """Make one change of names; one that cannot be, because others before it were left out, changes nothing."""
    match change.kind:
        case Kind.CREATE:
            names[change.path] = change.inode
        case Kind.MKDIR:
            names[change.path] = DIRECTORY
        case Kind.UNLINK | Kind.RMDIR:
            names.pop(change.path, None)
        case Kind.RENAME | Kind.LINK:
            if change.kind is Kind.RENAME and names.get(change.path) == change.inode:
                del names[change.path]
            names[change.target] = change.inode
        case _:
            raise AssertionError(change.kind)
