"""Which deleted ranges RocksDB should be made to forget now: a deletion only hides data until files are rewritten.

Left alone, RocksDB rewrites a file when later writes push its level over a bound: a stream of a gigabyte that was
deleted may stay on disk for days. Rewriting at once would cost more than it frees where little in a file is dead. So
ranges wait until a fifth of the files around them is dead (``choose``). What waits is on record in the store itself,
in the batch of the deletion, and so survives a restart.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from struct import Struct
from typing import Final, NamedTuple

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.limits import MIB

WORTH_BYTES: Final = 64 * MIB
"""A memtable that holds the deletion of so much is written out for that alone; any is after ``PATIENCE_MS``."""
PATIENCE_MS: Final = 20_000
URGENT_BYTES: Final = MIB
URGENT_MS: Final = 1_000
"""On a disk that is almost full, one with so much is after so long, any after ``AGAIN_MS``. Not sooner: it may be
almost full for hours while somebody goes on deleting a little, and each time files are rewritten."""
SPARE_BYTES: Final = 64 * MIB
"""There, files of which less than ``DEAD_SHARE`` is dead are rewritten, too: so much of them each ``LATER_MS``, and as
much again of the levels above. Measured with all of it each second, and a stream of 20 kB deleted a second: 50 MB/s."""
AGAIN_MS: Final = 5_000
LATER_MS: Final = 30_000
"""Until the next look after one that found nothing: what was not worth it is so seldom a moment later."""
DEAD_SHARE: Final = 0.2
"""Rewrite files of which this share is dead. So dead data takes at most a quarter of what lives, on the average."""

OFF_RECORD: Final = 500
"""Ranges that one write takes off the record, at most: it holds up the loop."""

MARK: Final = b"\1"
"""What the keys on record begin with; the turn numbers beside them begin with 0."""
_VALUE: Final = Struct(">Q")


class Range(NamedTuple):
    """Keys that are deleted, from ``start`` to just before ``end``, and about how many bytes that was."""

    start: bytes
    end: bytes
    frees: int


class File(NamedTuple):
    """A table file: its level, its bytes, its first and last key."""

    level: int
    size: int
    first: bytes
    last: bytes


def mark_key(dead: Range) -> bytes:
    """The key that says a range waits to be reclaimed."""
    return MARK + dead.start


def mark_value(dead: Range) -> bytes:
    """The value of ``mark_key``."""
    return _VALUE.pack(dead.frees) + dead.end


def read_mark(key: bytes, value: bytes) -> Range:
    """The range of a key and value on record; raises ``CorruptData``."""
    if len(value) < _VALUE.size:
        raise CorruptData(f"a deleted range on record has {len(value)} bytes, fewer than {_VALUE.size}")
    return Range(key[len(MARK) :], value[_VALUE.size :], int(_VALUE.unpack_from(value)[0]))


def choose(waiting: Sequence[Range], files: Iterable[File], spare: int = 0) -> list[Range]:
    """The ranges of ``waiting`` that lie in files of which enough (``DEAD_SHARE``) is dead. Pure.

    A file counts where a range's data lies deepest: what is above is little and is rewritten with it.

    Args:
        waiting: the ranges.
        files: all there are.
        spare: so many bytes of files of which less is dead may be rewritten, too, those first that free most; and one
            range in any case.

    """
    tables = _Tables(files)
    around = [tables.around(dead) for dead in waiting]
    dead_in: dict[File, float] = {}
    for dead, touched in zip(waiting, around, strict=True):
        for file in touched:
            dead_in[file] = dead_in.get(file, 0.0) + dead.frees / len(touched)
    shares = [_share(touched, dead_in) for touched in around]
    chosen = {place for place, share in enumerate(shares) if share >= DEAD_SHARE}
    rewritten = {file for place in chosen for file in around[place]}
    for place in sorted(set(range(len(waiting))) - chosen, key=lambda place: -shares[place]) if spare else ():
        more = set(around[place]) - rewritten
        spare -= sum(file.size for file in more)
        if spare < 0 and chosen:
            break
        chosen.add(place)
        rewritten |= more
    return [dead for place, dead in enumerate(waiting) if place in chosen]


def _share(touched: Sequence[File], dead_in: Mapping[File, float]) -> float:
    """How much of these files is dead; all of none: nothing is left, and it can be taken off the record."""
    return sum(dead_in[file] for file in touched) / sum(file.size for file in touched) if touched else 1.0


class _Tables:
    """Table files by level, to find those around a range. Below level 0 no two files of a level overlap."""

    def __init__(self, files: Iterable[File]) -> None:
        levels: dict[int, list[File]] = {}
        for file in sorted(files, key=lambda each: each.first):
            levels.setdefault(file.level, []).append(file)
        self._levels = [
            (levels[level], [file.last for file in levels[level]]) for level in sorted(levels, reverse=True)
        ]

    def around(self, dead: Range) -> list[File]:
        for files, lasts in self._levels:
            begin = bisect_left(lasts, dead.start) if files[0].level else 0
            touched = []
            for file in islice(files, begin, None):
                if file.first >= dead.end:
                    break
                if file.last >= dead.start:
                    touched.append(file)
            if touched:
                return touched
        return []


class Waiting:
    """The ranges that wait. Told of writes and flushes by the store; any thread."""

    def __init__(self, found: Iterable[Range], now_ms: int) -> None:
        self._lock = threading.Lock()
        self._ready = list(found)
        """Deleted before the last flush, so that no memtable knows them."""
        self._fresh: list[Range] = []
        self._fresh_since_ms = now_ms
        # Sums are kept, not made: they are asked for after each write.
        self._ready_bytes = _frees(self._ready)
        self._fresh_bytes = 0
        self._look_ms = now_ms
        """When to look next."""
        self._looked_ms = now_ms - AGAIN_MS
        self._spare_ms = now_ms
        """When to look next for what is not worth it otherwise."""
        self._done: deque[Range] = deque()
        """Reclaimed, and still on record."""
        self.urgent = False
        """The disk is almost full: every deletion is worth it, and soon, within bounds."""

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes are deleted and not reclaimed."""
        return self._ready_bytes + self._fresh_bytes

    def off_record(self) -> list[Range]:
        """Some of those that are reclaimed: the next write takes them off the record."""
        return list(islice(self._done, OFF_RECORD))

    def written(self, dead: Iterable[Range], off_record: Sequence[Range], now_ms: int) -> None:
        """A write deleted ``dead`` just now, and took ``off_record`` off the record."""
        for _ in off_record:
            self._done.popleft()
        with self._lock:
            for each in dead:
                if not self._fresh:
                    self._fresh_since_ms = now_ms
                self._fresh.append(each)
                self._fresh_bytes += each.frees

    def needs_flush(self, now_ms: int) -> bool:
        """Whether what a memtable still holds is worth writing it out early."""
        if not self._fresh:
            return False
        patience_ms = PATIENCE_MS
        if self.urgent:
            patience_ms = URGENT_MS if self._fresh_bytes >= URGENT_BYTES else AGAIN_MS
        return now_ms - self._fresh_since_ms >= patience_ms or self._fresh_bytes >= WORTH_BYTES

    def flushed(self) -> None:
        """The memtables were switched: what was deleted so far is in none that is written to."""
        with self._lock:
            self._ready += self._fresh
            self._ready_bytes += self._fresh_bytes
            self._fresh, self._fresh_bytes = [], 0

    def due(self, now_ms: int) -> bool:
        """Whether it is time to ``take``."""
        look_ms = min(self._look_ms, self._looked_ms + AGAIN_MS) if self.urgent else self._look_ms
        return bool(self._ready) and now_ms >= look_ms

    def ready(self) -> tuple[Range, ...]:
        """What was deleted before the last flush: to be asked before the memtables that are written out are counted."""
        with self._lock:
            return tuple(self._ready)

    def take(self, ready: Sequence[Range], files: Iterable[File], now_ms: int) -> list[Range]:
        """What of ``ready`` is worth reclaiming now; it waits no more."""
        spare = SPARE_BYTES if self.urgent and now_ms >= self._spare_ms else 0
        if spare:
            self._spare_ms = now_ms + LATER_MS
        chosen = dict.fromkeys(choose(ready, files, spare))
        with self._lock:
            self._ready = [dead for dead in self._ready if dead not in chosen]
            self._ready_bytes = _frees(self._ready)
            self._looked_ms, self._look_ms = now_ms, now_ms + (AGAIN_MS if chosen else LATER_MS)
        return list(chosen)

    def ended(self, taken: Sequence[Range], *, done: bool) -> None:
        """What was taken is done, and need not be looked at after a restart; or it waits again."""
        if done:
            self._done.extend(taken)
            return
        with self._lock:
            self._ready += taken
            self._ready_bytes = _frees(self._ready)


def _frees(ranges: Iterable[Range]) -> int:
    return sum(dead.frees for dead in ranges)


def last_before(end: bytes) -> bytes:
    """A key behind every key of ours below ``end``, and below it itself: RocksDB counts the end of a compaction in.

    Were it ``end``, a memtable with the next trim of the same stream, which begins there, would be written out.
    """
    body = end.rstrip(b"\0")
    return body[:-1] + bytes((body[-1] - 1,)) + b"\xff" * 16 if body else end


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same ranges in order, neighbours made one: what was trimmed piece by piece is rewritten once."""
    found: list[Range] = []
    for dead in sorted(ranges):
        if found and found[-1].end == dead.start:
            last = found.pop()
            found.append(Range(last.start, dead.end, last.frees + dead.frees))
        else:
            found.append(dead)
    return found
