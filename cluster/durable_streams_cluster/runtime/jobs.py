"""Chores on a timer: those of any node from its start, and those of a leader once it leads."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.clock import Clock
from durable_streams_cluster.errors import ClusterError, StorageError
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.making_way import MakingWay
from durable_streams_cluster.runtime.retention import COMMAND_BYTES
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.storage.stream_reader import Due
from durable_streams_cluster.streams.commands import Rearm

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
ALONE_TICKS = 300
"""Without a leader for so long, a node ends its live reads: it is this node that is cut off, and others may serve."""
STAMP_S = 10.0
"""How much cluster time a killed node may lose: sliding windows end so much later, never earlier."""
PER_ROUND = 500
"""Streams looked at in one round of each index: a burst of deadlines never crowds out appends."""


class Jobs:
    """Answers operations that wait too long, and ends streams whose time is up: what nobody reads leaves the disk."""

    def __init__(self, driver: Driver, streams: LocalStreams, clock: Clock, metrics: Metrics) -> None:
        self._driver = driver
        self._streams = streams
        self._clock = clock
        self._metrics = metrics
        self.end_live: Callable[[], None] = lambda: None
        """Ends the live reads that are open."""
        self._making_way = MakingWay(driver.replica.group, driver.hand_over, clock)
        self._after: dict[bool, Due | None] = {False: None, True: None}

    async def run(self) -> None:
        """For ever, until cancelled; from the start of the driver, also while nothing is served yet."""
        # Loops of their own: while the disk hangs, the second waits for what only the first one ends.
        await asyncio.gather(
            self._overdue(),
            self._every_second(self.expire),
            self._every_second(self._streams.retention.round),
            self._stamps(),
        )

    async def _stamps(self) -> None:
        while True:
            await asyncio.sleep(STAMP_S)
            self._driver.stamp()

    async def _overdue(self) -> None:
        while True:
            due_ns = self._clock.steady_ns() + int(INTERVAL_S * 1e9)
            await asyncio.sleep(INTERVAL_S)
            self._metrics.event_loop_lag_seconds.observe(max(0, self._clock.steady_ns() - due_ns) / 1e9)
            self._driver.give_up_overdue()
            if self._driver.replica.group.leaderless_ticks >= ALONE_TICKS or self._driver.removal.known:
                self.end_live()
            self._driver.settle()
            self._driver.reclaim()
            self._driver.look()
            self._making_way.look()

    async def _every_second(self, chore: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if not self._driver.replica.group.can_read:
                continue  # The leader does it.
            try:
                await chore()
            except StorageError as error:
                self._driver.fail(error)
            except ClusterError as error:
                log.info("%s waits: %s", chore.__name__, error)

    async def expire(self) -> None:
        """Look at the streams that are due in either index, and wait until all are settled."""
        now = self._driver.now()
        group = self._driver.replica.group
        waiting = []
        for wall, until_ms in ((False, group.time.at(now)), (True, now.wall_ms)):
            # A round begins where the last one stopped: entries that wait (read since they were written, or given time
            # by a leader that just began) never keep it from those behind them.
            entries = group.store.committed.due(wall=wall, until_ms=until_ms, limit=PER_ROUND, after=self._after[wall])
            self._after[wall] = entries[-1] if len(entries) == PER_ROUND else None
            waiting += [settling for entry in entries if (settling := self._settle(entry)) is not None]
        if waiting:
            await asyncio.gather(*waiting)

    def _settle(self, entry: Due) -> Answer | None:
        """End the stream, or move its entry to the deadline it has now; None when neither is possible yet."""
        ended = self._streams.lifetimes.expire_if_due(entry.path)
        if ended is not None:
            return ended
        meta = self._driver.replica.group.store.committed.meta(entry.ref)
        if meta is None or meta.ttl_s is None or meta.touched_at + meta.ttl_s * 1000 <= entry.due_ms:
            return None
        return self._driver.propose(Rearm(entry.path, entry.ref.id), COMMAND_BYTES)
