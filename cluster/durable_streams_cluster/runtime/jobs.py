"""Leader chores on a timer."""

import asyncio
import logging

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.service import COMMAND_BYTES, LocalStreams
from durable_streams_cluster.streams.commands import Rearm

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
PER_ROUND = 500
"""Streams looked at in one round of each index: a burst of deadlines never crowds out appends."""


class Jobs:
    """Answers operations that wait too long, and ends streams whose time is up: what nobody reads leaves the disk."""

    def __init__(self, driver: Driver, streams: LocalStreams, clock: Clock, metrics: Metrics) -> None:
        self._driver = driver
        self._streams = streams
        self._clock = clock
        self._metrics = metrics

    async def run(self) -> None:
        """For ever, until cancelled."""
        # Two loops: while the disk hangs, the second waits for what only the first one ends.
        await asyncio.gather(self._overdue(), self._expiry())

    async def _overdue(self) -> None:
        while True:
            due_ns = self._clock.steady_ns() + int(INTERVAL_S * 1e9)
            await asyncio.sleep(INTERVAL_S)
            self._metrics.event_loop_lag_seconds.observe(max(0, self._clock.steady_ns() - due_ns) / 1e9)
            self._driver.give_up_overdue()

    async def _expiry(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.expire()
            except ClusterError as error:
                log.info("expiry waits: %s", error)

    async def expire(self) -> None:
        """Look at the streams that are due in either index, and wait until all are settled."""
        now = self._driver.now()
        group = self._driver.replica.group
        waiting = []
        for wall, until_ms in ((False, group.cluster_ms(now)), (True, now.wall_ms)):
            for due_ms, path, ref in group.store.committed.due(wall=wall, until_ms=until_ms, limit=PER_ROUND):
                ended = self._streams.expire_if_due(path)
                if ended is None:
                    meta = group.store.committed.meta(ref)
                    if wall or meta is None or meta.touched_at + (meta.ttl_s or 0) * 1000 <= due_ms:
                        continue  # read since, or a leader that just began gives it time: looked at again
                    ended = self._driver.propose(Rearm(path, ref.id), COMMAND_BYTES)
                waiting.append(ended)
        if waiting:
            await asyncio.gather(*waiting)
