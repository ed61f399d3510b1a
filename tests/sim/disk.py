"""A disk whose syncs take as long as they are told to, that forgets what was not synced, and that may go bad."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from random import Random

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.storage.kv import Delete, DeleteRange, Family, Put, Space, WriteBatch, WriteStalled
from durable_streams_cluster.storage.memory import MemoryKv

Done = Callable[[BaseException | None], None]
Seen = Callable[[int, WriteBatch], None]
USUAL_SYNC_S = (0.0003, 0.002)


class SimKv(MemoryKv):
    """What one process sees of its disk: every write at once."""

    def __init__(self, disk: "NodeDisk") -> None:
        super().__init__()
        self._disk = disk
        for batch in disk.batches:
            super().write(batch)

    def write(self, batch: WriteBatch) -> None:
        disk = self._disk
        assert disk.kv is self, "a process that ended writes"
        if disk.refuses or (disk.refuses_some and disk.random.random() < disk.refuses_some):
            raise WriteStalled
        assert not disk.flushing, "a write came between the sync before a flush and its end"
        disk.watch(len(disk.batches), batch)
        super().write(batch)
        disk.batches.append(batch)
        disk.unflushed += batch.size

    def sync(self) -> int:
        raise AssertionError("the simulated disk syncs")

    def flush_due(self) -> bool:
        return self._disk.unflushed > self._disk.flush_bytes

    def whole(self) -> Iterator[tuple[bytes, bytes]]:
        """All of DATA as it was written."""
        return MemoryKv.scan(self, Family.DATA, b"", b"\xff")


class DamagedKv(SimKv):
    """Some of what is there is not what was written: a log entry comes with a bit flipped, all else not at all."""

    def get(self, family: Family, key: bytes) -> bytes | None:
        value = super().get(family, key)
        return None if value is None else self._found(family, key, value)

    def scan(self, family: Family, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        pairs = super().scan(family, start, end, reverse=reverse)
        return ((key, self._found(family, key, value)) for key, value in pairs)

    def write(self, batch: WriteBatch) -> None:
        super().write(batch)
        for op in batch.ops:
            if isinstance(op, Put | Delete):
                self._disk.bad.discard((op.family, op.key))
            elif isinstance(op, DeleteRange):
                self._disk.bad -= {(op.family, key) for _, key in self._disk.bad if op.start <= key < op.end}

    def _found(self, family: Family, key: bytes, value: bytes) -> bytes:
        if (family, key) not in self._disk.bad:
            return value
        if key.startswith(b"E") and value:
            at = len(value) // 2
            return value[:at] + bytes([value[at] ^ 4]) + value[at + 1 :]
        raise CorruptData(f"a block of {family.name} does not match its checksum")


class NodeDisk:
    """The disk of one node, through all its lives; ``kv`` is what the present one sees."""

    def __init__(self, random: Random, watch: Seen) -> None:
        self.random = random
        self.watch = watch
        self.batches: list[WriteBatch] = []
        """All that is written, in order; all in front of ``durable`` survives everything."""
        self.durable = 0
        self.bad: set[tuple[Family, bytes]] = set()
        """Keys whose values went bad; what is written anew is well again."""
        self.kv: SimKv | None = None
        self.sync_s = USUAL_SYNC_S
        """A sync takes between the two."""
        self.stalled = 0
        """How many faults want that no sync ends ..."""
        self.refuses = False
        """... and no write is taken ..."""
        self.refuses_some = 0.0
        """... or this share of them."""
        self.fails = False
        """The next sync fails."""
        self.flushing = False
        self.unflushed = 0
        self.flush_bytes = 10**9
        self.flushes = 0

    def open(self) -> SimKv:
        """A process starts on what is there, which is durable then: recovery writes it into table files."""
        self.durable = len(self.batches)
        self.kv = DamagedKv(self) if self.bad else SimKv(self)
        self.flushing, self.unflushed = False, 0
        return self.kv

    def kill(self) -> None:
        """The process ends: what it wrote is with the kernel, and stays."""
        self.kv = None

    def cut(self) -> int:
        """The power fails: what was synced stays, and perhaps some of what was written next. What is lost."""
        self.kv = None
        least = min(self.durable, len(self.batches))
        keep = self.random.choice((least, self.random.randint(least, len(self.batches))))
        lost = len(self.batches) - keep
        del self.batches[keep:]
        return lost

    def wipe(self) -> None:
        """Everything is gone."""
        self.kv = None
        self.batches.clear()
        self.durable = 0
        self.bad.clear()

    def damage(self) -> bool:
        """Something that is there goes bad, while no process runs; False if there is nothing."""
        assert self.kv is None
        held = MemoryKv()
        for batch in self.batches:
            held.write(batch)
        kinds: dict[bytes, list[tuple[Family, bytes]]] = {}
        for family in Family:
            for key, _ in held.scan(family, b"", b"\xff"):
                kinds.setdefault(key[:1], []).append((family, key))
        if kinds:
            self.bad.add(self.random.choice(kinds[self.random.choice(sorted(kinds))]))
        return bool(kinds)


class SimDisk:
    """In place of ``runtime.disk.Disk``: one job after the other, on the loop."""

    def __init__(self, kv: SimKv, loop: asyncio.AbstractEventLoop) -> None:
        self._kv = kv
        self._loop = loop
        self._disk = kv._disk
        self._jobs: deque[tuple[Callable[[], None], Done]] = deque()
        self._busy = False

    def sync(self, done: Done, *, then_flush: bool = False) -> None:
        disk = self._disk
        covers: list[int] = []

        def begin() -> None:
            covers.append(len(disk.batches))
            disk.flushing = then_flush

        def end(failure: BaseException | None) -> None:
            if failure is None:
                disk.durable = max(disk.durable, covers[0])
            if then_flush:
                disk.flushing, disk.unflushed = False, 0
            done(failure)

        if then_flush:
            disk.flushing = True
            disk.flushes += 1
        self._put(begin, end)

    def tend(self, done: Callable[[Space | None, BaseException | None], None]) -> None:
        self._put(lambda: None, lambda failure: done(None, failure))

    def close(self) -> bool:
        return True

    def release(self) -> bool:
        self._kv.close()
        return True

    def _put(self, begin: Callable[[], None], end: Done) -> None:
        self._jobs.append((begin, end))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._jobs)
        if self._busy:
            begin, end = self._jobs.popleft()
            begin()
            self._loop.call_later(self._disk.random.uniform(*self._disk.sync_s), self._end, end)

    def _end(self, end: Done) -> None:
        disk = self._disk
        if disk.stalled:
            self._loop.call_later(0.02, self._end, end)
            return
        failure = StorageError("the disk failed") if disk.fails else None
        disk.fails = False
        end(failure)
        self._next()
