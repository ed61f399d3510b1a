"""The disk's thread: syncs block, so they run here, one at a time, while the loop goes on."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

from durable_streams_cluster.storage.kv import Kv, Space

_Done = Callable[[BaseException | None], None]
_Looked = Callable[[Space | None, BaseException | None], None]


class Disk:
    """Runs ``Kv.sync``, ``Kv.flush`` and ``Kv.tend`` in order, and ``Kv.reclaim`` beside them.

    A failure is handed on as it is: whoever owns the disk must stop.
    """

    def __init__(self, kv: Kv, loop: asyncio.AbstractEventLoop) -> None:
        self._kv = kv
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], _Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def sync(self, done: _Done, *, then_flush: bool = False) -> None:
        """Make every earlier write durable (and then start a memtable flush); ``done`` is called on the loop."""
        self._jobs.put((self._sync_and_flush if then_flush else self._kv.sync, done))

    def tend(self, done: _Looked) -> None:
        """Look for faults and at the room on disk; ``done`` is called on the loop with what was seen."""
        seen: list[Space | None] = [None]

        def look() -> None:
            seen[0] = self._kv.tend()

        self._jobs.put((look, lambda failure: done(seen[0], failure)))

    def reclaim(self, done: _Done) -> None:
        """Give back room on disk, beside everything else; ``done`` is called on the loop."""
        # A thread of its own each time, some seconds apart: rewriting files must hold up no sync.
        threading.Thread(target=self._call, args=(self._kv.reclaim, done), name="reclaim", daemon=True).start()

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread after what is queued; blocks, for ``timeout_s`` at most.

        Returns:
            Whether the thread ended. If not, a sync hangs and holds the store: leave the store open and let the process
            end, which does not wait for this thread.

        """
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def release(self, timeout_s: float = 10.0) -> bool:
        """Close the store, after ``close``; blocks, for ``timeout_s`` at most.

        Returns:
            Whether it is closed. If not, the last sync, or a file that RocksDB writes in the background, hangs.

        Raises:
            StorageError: as of ``Kv.close``.

        """
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._kv.close()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work, name="close", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if failures:
            raise failures[0]
        return not thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._call(*job)

    def _sync_and_flush(self) -> None:
        self._kv.sync()
        self._kv.flush()

    def _call(self, work: Callable[[], object], done: _Done) -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # The loop is closed: ``close`` gave up, and nobody listens.
            self._loop.call_soon_threadsafe(done, failure)
