"""Open data directories as a node would, without serving: ``python -m tests.system.power.probe DIRECTORY...``.

Prints a line for each: the newest turn, or what was said against it. A power cut leaves one of very many states; this
tries several of one moment, for the price of one start.
"""

import json
import logging
import sys
from pathlib import Path

from durable_streams_cluster.limits import MIB
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.storage.rocks import RocksKv
from tests.replica.node import alone


def probe(directory: Path) -> dict[str, object]:
    kv = RocksKv.open(directory, memory_budget=64 * MIB)
    try:
        alone(kv, Now(0, 0))
    finally:
        kv.close()
    return {"turn": kv.last_write}


if __name__ == "__main__":
    logging.disable()
    for each in sys.argv[1:]:
        try:
            answer = probe(Path(each))
        except Exception as error:
            answer = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
