"""The same node with smaller sizes: ``python -m tests.system.chaos.small FLUSH KEPT PER_TICK serve ...``, in bytes.

FLUSH and KEPT are as in ``tests.system.power.node``; PER_TICK is what a leader sends of snapshots in a tick of 50 ms,
so that one takes seconds though little was written. No setting exists for any of them, and none is wanted only for
tests.
"""

import sys

from durable_streams_client.cli import main
from durable_streams_cluster import opening
from durable_streams_cluster.limits import KIB
from durable_streams_cluster.raft import Settings, core
from durable_streams_cluster.replica import compaction, snapshots
from durable_streams_cluster.storage.rocks import RocksKv
from tests.system.power.node import SmallKv


class SmallSettings(Settings, frozen=True):
    """What is in memory is sent without a snapshot, too."""

    cache_bytes: int = 64 * KIB


if __name__ == "__main__":
    SmallKv.soon, compaction.KEPT_LOG_BYTES, snapshots.BYTES_PER_TICK = map(int, sys.argv[1:4])
    compaction.HELD_LOG_BYTES = 16 * compaction.KEPT_LOG_BYTES
    assert opening.RocksKv is RocksKv, "what opens stores is elsewhere now"
    opening.RocksKv, core.Settings = SmallKv, SmallSettings
    sys.exit(main(sys.argv[4:]))
