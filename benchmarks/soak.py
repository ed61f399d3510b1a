"""python -m benchmarks.soak: long writing with retention: disk, memory and latency must stay where they were.

The official npm client writes, half of it to streams that end by the 60 s TTL of their prefix, half to one stream that
is kept to 256 MiB. Prints a row every 10 s, then the medians of the beginning and of the end.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.many import resident_mib
from tests import npm
from tests.server import Server

HERE = Path(__file__).parent
PREFIXES = "ttl/ ttl=60s, size/ retain-bytes=256MiB"
WARM_S = 120
"""A TTL, and what it takes to make room: from then on nothing should grow."""


class SoakServer(Server):
    """A node with the prefixes of the soak."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"DURABLE_STREAMS_PREFIXES": PREFIXES}


def disk_mib(folder: Path) -> dict[str, float]:
    """MiB on disk: in all, and in RocksDB's diary and manifest."""
    found = {"disk": 0, "diary": 0, "manifest": 0}
    for each in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            size = each.stat().st_size if each.is_file() else 0
            found["disk"] += size
            found["diary"] += size * each.name.startswith("LOG")
            found["manifest"] += size * each.name.startswith("MANIFEST")
    return {name: size / 2**20 for name, size in found.items()}


def rows(server: Server, rate: float, total_mb: float) -> Iterator[dict[str, float]]:
    """A row each 10 s: seconds, MB sent, MiB on disk and in memory, ms of an append."""
    seconds: list[dict[str, Any]] = []
    with npm.workspace(HERE / "soak.mjs") as folder:
        command = [*npm.commands()[0], str(folder / "soak.mjs"), server.url, str(rate), str(total_mb)]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, env=npm.environment(), text=True)
        assert client.stdout is not None
        lines = client.stdout
        reader = threading.Thread(target=lambda: seconds.extend(map(json.loads, lines)))
        reader.start()
        begun = time.monotonic()
        try:
            while client.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    client.wait(10)
                new, seconds[:] = seconds[:], []
                if new:
                    yield {
                        "s": time.monotonic() - begun,
                        "sent_mb": new[-1]["sent"] / 1e6,
                        "failed": new[-1]["failed"],
                        **disk_mib(server.folder / "data"),
                        "resident": resident_mib(server.process.pid) if server.process else 0,
                        "p50": statistics.median(each["p50"] for each in new),
                        "p99": statistics.median(each["p99"] for each in new),
                    }
        finally:
            client.kill()
            client.wait()
            reader.join()


def verdict(every: list[dict[str, float]]) -> dict[str, float]:
    """Medians of the first minute once warm, and of the last: what grew."""
    warm = [row for row in every if row["s"] >= WARM_S]
    parts = warm[:6], warm[-6:]
    found: dict[str, float] = {"failed": every[-1]["failed"], "sent_mb": every[-1]["sent_mb"]}
    for name in ("disk", "diary", "manifest", "resident", "p50", "p99"):
        first, last = (statistics.median(row[name] for row in part) for part in parts)
        found |= {f"{name}_first": first, f"{name}_last": last}
    found["disk_most"] = max(row["disk"] for row in every)
    found["p99_beginning"] = statistics.median(row["p99"] for row in every[:6])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--megabytes", type=float, default=10_000, help="to write in all (default 10000)")
    parser.add_argument("--rate", type=float, default=15, help="megabytes a second (default 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        server = SoakServer(Path(scratch))
        every = []
        server.start()
        try:
            for row in rows(server, options.rate, options.megabytes):
                every.append(row)
                print(" ".join(f"{name}={value:.1f}" for name, value in row.items()), flush=True)
        finally:
            server.kill()
        print(json.dumps({name: round(value, 2) for name, value in verdict(every).items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
