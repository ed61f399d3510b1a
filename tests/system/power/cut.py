"""What a power cut may leave of a disk: everything that was synced, and of the rest whatever chance wants.

Each file and each directory is damaged by itself, as a disk does that has written some pages back and others not:

* bytes: none of what was not synced, all of it, a prefix, or each page (or sector) in some earlier state, with the
  length at any state it had; what was never written back reads as zeros, or now and then as garbage;
* names: none of what was not synced, all, a prefix, or any selection: a file may be missing though its bytes were
  synced, an old name may be back, a removed file may be there again.

A rename is one change: it happened or not, and if it did then so did every change of names before it in the same
directory. File systems with a journal (ext4, XFS, Btrfs) keep that order, POSIX does not promise it, and RocksDB counts
on it: it makes a MANIFEST, renames a file to CURRENT, and only then syncs the directory. Other changes of names are
taken one by one. Bytes and length that were synced stay as they were synced.
"""

import dataclasses
import operator
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.system.power.journal import DIRECTORY, Change, File, Model, Snapshot, rename, settle
from tests.system.power.shim import Kind, Shim


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """What is done to a file, and to the names in a directory, and how often."""

    content: Mapping[str, int]
    names: Mapping[str, int]


LAWFUL: Final = Weights(
    content={"nothing": 6, "prefix": 4, "pages": 5, "holes": 2, "garbage": 1, "all": 2},
    names={"nothing": 3, "prefix": 3, "any": 2, "all": 2},
)
NOTHING: Final = Weights(content={"nothing": 1}, names={"nothing": 1})
"""All that may be dropped is dropped."""
NAMES_ONLY: Final = Weights(content={"nothing": 1}, names={"all": 1})

PAGE, SECTOR = 4096, 512


@dataclasses.dataclass(slots=True)
class Loss:
    """What one cut did, in bytes and counts."""

    unsynced: int = 0
    dropped: int = 0
    """Bytes that were written, not synced, and are not there as they were written."""
    files: int = 0
    names: int = 0
    """Changes of names that were undone."""
    wals: int = 0
    """Write-ahead log files that lost something."""
    wal_unsynced: int = 0
    wal_dropped: int = 0
    switches: int = 0
    """Write-ahead log files begun while the process ran, the first one of each start apart."""
    syncs: int = 0

    def add(self, other: "Loss") -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def __str__(self) -> str:
        return (
            f"{self.unsynced} bytes unsynced, {self.dropped} dropped from {self.files} files (WALs: {self.wal_dropped} "
            f"of {self.wal_unsynced}, from {self.wals}), {self.names} changes of names undone; "
            f"{self.switches} WAL switches, {self.syncs} syncs"
        )


class Disk:
    """A watched folder that can lose its power, again and again."""

    def __init__(self, shim: Shim) -> None:
        assert shim.journal is not None, "a cut needs a journal"
        self._shim = shim
        self._journal = shim.journal
        self.before = Snapshot.take(shim.root)

    def settle(self) -> None:
        """After the end of a process that is not followed by a cut."""
        settle(self._journal, self._shim.root)

    def model(self) -> Model:
        """What is on the disk, and what of it is durable. No process may be running.

        Raises:
            JournalError: the shim missed something.

        """
        self.settle()
        return Model(self.before, self._journal, self._shim.root, self._shim.graveyard)

    def cut(self, chance: random.Random, weights: Weights = LAWFUL, model: Model | None = None) -> Loss:
        """Make the folder what a power cut leaves of it; raises as ``model``, which may be given if it was called."""
        root = self._shim.root
        fresh, stale = root.with_name(root.name + ".new"), root.with_name(root.name + ".old")
        loss = leave(model or self.model(), fresh, chance, weights)
        root.rename(stale)
        fresh.rename(root)
        shutil.rmtree(stale)
        for each in self._shim.graveyard.iterdir():
            each.unlink()
        self._journal.unlink(missing_ok=True)
        self.before = Snapshot.take(root)
        return loss


def leave(model: Model, into: Path, chance: random.Random, weights: Weights = LAWFUL, *, link: bool = True) -> Loss:
    """Make a folder of what a power cut may leave of a disk.

    Files that lost nothing are linked when ``link``; otherwise only table files are, which nobody ever changes.
    """
    loss = Loss(
        switches=max(0, model.count(Kind.CREATE, ".log") - model.count(Kind.START)), syncs=model.count(Kind.SYNC)
    )
    names = choose_names(model, chance, loss, weights.names)
    into.mkdir()
    made: dict[int, Path] = {}
    for name in sorted(names):  # a directory comes before what is in it
        path, inode = into / name, names[name]
        if inode == DIRECTORY:
            path.mkdir()
            if (model.root / name).is_dir():
                shutil.copymode(model.root / name, path)
        elif inode in made:
            path.hardlink_to(made[inode])
        else:
            made[inode], file = path, model.files[inode]
            content = choose_content(file, chance, loss, weights.content)
            whole = content == file.content and not file.changed_later
            if whole and (link or name.endswith(".sst")):
                path.hardlink_to(file.where)
            else:
                path.write_bytes(content)
                shutil.copymode(file.where, path)
    return loss


def choose_names(model: Model, chance: random.Random, loss: Loss, weights: Mapping[str, int]) -> dict[str, int]:
    """Names after the cut."""
    keep = {change.at for change in model.naming if change.synced}
    unsynced: dict[str, list[Change]] = {}
    for change in model.naming:
        if not change.synced:
            unsynced.setdefault(change.parent, []).append(change)
    for changes in unsynced.values():
        kept = _pick(weights, chance)
        if kept == "any":
            picked = {change.at: change for change in changes if chance.random() < 0.5}
            last = max((at for at, change in picked.items() if change.kind is Kind.RENAME), default=-1)
            chosen = [change for change in changes if change.at < last or change.at in picked]
        else:
            count = {"nothing": 0, "all": len(changes)}.get(kept, chance.randint(0, len(changes)))
            chosen = changes[:count]
        keep |= {change.at for change in chosen}
        loss.names += len(changes) - len(chosen)
    names = dict(model.before.names)
    for change in model.naming:
        if change.at in keep:
            rename(names, change)
    for name in sorted(names):  # a directory comes before what is in it
        parent = name.rpartition("/")[0]
        if parent and names.get(parent) != DIRECTORY:
            del names[name]
    return names


def choose_content(file: File, chance: random.Random, loss: Loss, weights: Mapping[str, int]) -> bytes:
    """The bytes of one file after the cut."""
    unsynced = file.unsynced
    if not unsynced:
        return file.content
    how = _pick(weights, chance)
    if how in {"nothing", "all"}:
        content = file.content if how == "all" else _prefix(file, 0, 0)
    elif how == "prefix":
        count = chance.randint(1, len(unsynced))
        content = _prefix(file, count, chance.randint(0, max(0, unsynced[count - 1].result)))
    else:
        content = _pages(file, how, chance)
    written = sum(change.result for change in unsynced if change.kind is Kind.WRITE)
    same = sum(
        sum(map(operator.eq, content[change.offset : change.offset + change.result], change.new))
        for change in unsynced
        if change.kind is Kind.WRITE
    )
    loss.unsynced += written
    loss.dropped += written - same
    wal = unsynced[0].path.endswith(".log")
    loss.files += content != file.content
    loss.wals += wal and content != file.content
    loss.wal_unsynced += written if wal else 0
    loss.wal_dropped += written - same if wal else 0
    return content


def _pick(weights: Mapping[str, int], chance: random.Random) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def _prefix(file: File, count: int, last: int) -> bytes:
    """Every synced change and the first of the others; of the last of those, if it is a write, so many bytes."""
    work = bytearray(file.base)
    unsynced = file.unsynced
    left = {change.at for change in unsynced[count:]}
    torn = unsynced[count - 1].at if count else None
    for change in file.changes:
        if change.at not in left:
            _apply(work, change, last if change.at == torn else None)
    return bytes(work)


def _apply(work: bytearray, change: Change, only: int | None = None) -> None:
    """A change on bytes that others before it may be missing from; of a write, perhaps only the first bytes."""
    size = change.result if only is None else only
    if change.kind is Kind.TRUNCATE:
        del work[change.offset :]
        work.extend(bytes(change.offset - len(work)))
    elif size:
        work.extend(bytes(max(0, change.offset - len(work))))
        work[change.offset : change.offset + size] = change.new[:size]


class _Pages:
    """Up to which unsynced change each page was written back; drawn when first asked for."""

    def __init__(self, how: str, unit: int, last: int, chance: random.Random) -> None:
        self.unit = unit
        self._how, self._last, self._chance = how, last, chance
        self._upto: dict[int, int] = {}

    def holds(self, page: int, number: int) -> bool:
        """Whether the unsynced change of this number reached the page."""
        if page not in self._upto:
            if self._how == "holes":
                self._upto[page] = 0 if self._chance.random() < 0.15 else self._last
            else:
                self._upto[page] = self._chance.choice([0, self._last, self._chance.randint(0, self._last)])
        return self._upto[page] > number

    def never(self) -> list[int]:
        """Pages that none reached."""
        return [page for page, upto in self._upto.items() if upto == 0]

    def spans(self, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that the change of this number reached."""
        while start < end:
            until = min(end, (start // self.unit + 1) * self.unit)
            if self.holds(start // self.unit, number):
                yield start, until
            start = until


def _pages(file: File, how: str, chance: random.Random) -> bytes:
    """Each page as it was after some change, all of them independent; and a length that the file had.

    ``holes`` leaves most pages and the length as they were last; ``garbage`` puts random bytes where nothing was.
    """
    unsynced = file.unsynced
    pages = _Pages(how, chance.choice([PAGE, PAGE, SECTOR]), len(unsynced), chance)
    synced = _prefix(file, 0, 0)
    sizes = [len(synced), *(change.after for change in unsynced)]
    size = sizes[-1] if how == "holes" else chance.choice([sizes[-1], chance.choice(sizes)])
    work = bytearray(file.base)
    number = 0
    for change in file.changes:
        if change.synced:
            _apply(work, change)
            continue
        end = change.offset + change.result if change.kind is Kind.WRITE else len(work)
        for start, until in pages.spans(change.offset, end, number):
            work.extend(bytes(max(0, start - len(work))))
            new = change.new[start - change.offset : until - change.offset]
            # Behind a cut the pages it reached are empty.
            work[start:until] = new if change.kind is Kind.WRITE else bytes(until - start)
        number += 1
    work.extend(bytes(max(0, size - len(work))))
    if how == "garbage":
        for page in pages.never():
            start, until = max(page * pages.unit, len(synced)), min((page + 1) * pages.unit, size)
            work[start:until] = chance.randbytes(max(0, until - start))
    del work[size:]
    return bytes(work)
