"""A node on RocksDB in this process, with the real disk thread: what is written here is there after a restart."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.service import LocalStreams
from tests.replica.node import alone
from tests.storage.crashes import reopen


class DiskNode:
    """Of ``tests.runtime.world.World``, what requests need; on a directory."""

    def __init__(self, path: Path) -> None:
        self.kv = reopen(path)
        self.fatal: list[BaseException] = []
        clock, limits, metrics = SystemClock(), Limits(), Metrics()
        replica = alone(self.kv, Now(clock.steady_ms(), clock.wall_ms()))
        self.driver = Driver(replica, self.kv, clock, limits, metrics, self.fatal.append)
        self.streams = LocalStreams(self.driver, limits)
        self.app = GatewayApp(self.streams, limits, clock, Random(1), metrics)


@contextlib.asynccontextmanager
async def serving_from(path: Path) -> AsyncIterator[Any]:
    """A node on ``path``, drained and closed at the end."""
    node = DiskNode(path)
    try:
        await node.driver.start()
        yield node
        await node.driver.drain()
    finally:
        await asyncio.to_thread(node.driver.close)
        node.kv.close()
    assert not node.fatal
