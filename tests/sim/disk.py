"""A disk whose syncs take as long as they are told to, and that forgets what was not synced."""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random

from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.storage.kv import Space, WriteBatch, WriteStalled
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


class NodeDisk:
    """The disk of one node, through all its lives; ``kv`` is what the present one sees."""

    def __init__(self, random: Random, watch: Seen) -> None:
        self.random = random
        self.watch = watch
        self.batches: list[WriteBatch] = []
        """All that is written, in order; all in front of ``durable`` survives everything."""
        self.durable = 0
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
        self.kv = SimKv(self)
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
