"""The disk's thread: order, failures, and an end that comes even when a sync hangs."""

import asyncio
import threading
import time
from typing import Any, cast

import pytest

from durable_streams_cluster.runtime.disk import Disk

Outcome = BaseException | None


class Store:
    """Of a ``Kv``, what the disk's thread calls; a sync waits until ``working``."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.begun = threading.Event()
        self.working = threading.Event()
        self.working.set()
        self.failure = failure

    def sync(self) -> int:
        self.begun.set()
        self.working.wait(30)
        self.calls.append("sync")
        if self.failure is not None:
            raise self.failure
        return 0

    def flush(self) -> None:
        self.calls.append("flush")

    def reclaim(self) -> None:
        self.begun.set()
        self.working.wait(30)
        self.calls.append("reclaim")
        if self.failure is not None:
            raise self.failure


def disk_of(store: Store, loop: asyncio.AbstractEventLoop) -> Disk:
    return Disk(cast("Any", store), loop)


def disk_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "disk"]


def test_close_waits_for_what_is_queued() -> None:
    async def main() -> None:
        store, outcomes = Store(), list[Outcome]()
        disk = disk_of(store, asyncio.get_running_loop())
        disk.sync(outcomes.append)
        disk.sync(outcomes.append, then_flush=True)
        assert disk.close()
        assert disk.close(), "a second call finds it ended"
        assert store.calls == ["sync", "sync", "flush"]
        await asyncio.sleep(0)
        assert outcomes == [None, None]

    asyncio.run(main())


def test_a_failure_is_handed_on_and_nothing_is_flushed() -> None:
    async def main() -> None:
        failure = OSError("no disk")
        store, outcomes = Store(failure), list[Outcome]()
        disk = disk_of(store, asyncio.get_running_loop())
        disk.sync(outcomes.append, then_flush=True)
        assert disk.close()
        await asyncio.sleep(0)
        assert (store.calls, outcomes) == (["sync"], [failure])

    asyncio.run(main())


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_close_gives_up_on_a_sync_that_hangs() -> None:
    store, outcomes = Store(), list[Outcome]()

    async def main() -> None:
        store.working.clear()
        disk = disk_of(store, asyncio.get_running_loop())
        disk.sync(outcomes.append)
        assert store.begun.wait(10)
        began = time.monotonic()
        assert not disk.close(timeout_s=0.05)
        assert time.monotonic() - began < 5

    before = disk_threads()
    asyncio.run(main())
    (thread,) = (one for one in disk_threads() if one not in before)
    assert thread.daemon, "the process must be able to end"
    # A hung disk that comes back after the loop has closed tells nobody, and its thread ends.
    store.working.set()
    thread.join(10)
    assert not thread.is_alive()
    assert (store.calls, outcomes) == (["sync"], [])


def test_a_sync_does_not_wait_for_a_reclaim() -> None:
    async def main() -> None:
        store, outcomes = Store(), list[Outcome]()
        disk = disk_of(store, asyncio.get_running_loop())
        store.working.clear()
        reclaimed = asyncio.get_running_loop().create_future()
        disk.reclaim(reclaimed.set_result)
        assert await asyncio.to_thread(store.begun.wait, 30)
        flushed = asyncio.get_running_loop().create_future()
        store.sync = lambda: 0  # type: ignore[method-assign]
        disk.sync(flushed.set_result, then_flush=True)
        assert await flushed is None
        assert store.calls == ["flush"]
        store.failure = OSError("no")
        store.working.set()
        assert await reclaimed is store.failure
        disk.close()
        assert outcomes == []

    asyncio.run(main())
