"""The same node with smaller sizes: ``python -m tests.system.power.node FLUSH_BYTES KEPT_LOG_BYTES serve ...``.

A node starts a new write-ahead log when 64 MiB are in memtables, and drops entries of Raft's log when twice 16 MiB are
there. A round of load writes a few hundred KiB, so that neither would ever happen near a power cut. No setting exists
for either, and none is wanted only for tests; here the two are replaced, and nothing else.
"""

import sys
from pathlib import Path
from typing import Any, Self

from durable_streams_client.cli import main
from durable_streams_cluster import opening
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.replica import compaction
from durable_streams_cluster.storage.rocks import RocksKv


class SmallKv(RocksKv):
    """A store that starts a new write-ahead log soon."""

    soon = 64 * MIB

    @classmethod
    def open(cls, path: Path, **more: Any) -> Self:
        # Without a plan for the disk there is no ballast: hundreds of MiB that say nothing would be in every cut.
        return super().open(path, **more | {"flush_bytes": cls.soon, "plan": None})


if __name__ == "__main__":
    SmallKv.soon, compaction.KEPT_LOG_BYTES = int(sys.argv[1]), int(sys.argv[2])
    assert opening.RocksKv is RocksKv, "what opens stores is elsewhere now"
    opening.RocksKv = SmallKv
    sys.exit(main(sys.argv[3:]))
