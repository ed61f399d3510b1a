"""Redis Streams that sync each append, on this machine (Debian's redis-server), and the load that comes with it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Figures
from benchmarks.wrk import LoadError
from tests.server import LOOPBACK, READY_LIMIT, free_ports

SIZE = 100
FIRST = 2_000
"""Appends of the take that tells how many make up so many seconds."""


class Redis:
    """One process."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None or shutil.which("redis-benchmark") is None:
            raise SystemExit("this comparison needs Redis: apt-get install -y redis-server")
        self._log = (folder / "redis.log").open("wb")
        self.port = free_ports(1)[0]
        words = ["--port", str(self.port), "--bind", LOOPBACK, "--dir", str(folder), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        self._child = subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_LIMIT
        while self._run(1, 1) is None:
            if time.monotonic() > deadline:
                raise SystemExit("Redis does not answer")
            time.sleep(0.1)

    def _run(self, connections: int, count: int) -> float | None:
        """Appends a second; each connection waits for its answer before it sends the next."""
        command = ["redis-benchmark", "-p", str(self.port), "-c", str(connections), "-n", str(count), "--csv"]
        command += ["XADD", "bench", "*", "f", "x" * SIZE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        rows = [line.split('","') for line in done.stdout.splitlines() if "XADD" in line]
        return float(rows[-1][1]) if rows and done.returncode == 0 else None

    def appends(self, connections: int, seconds: float) -> Figures:
        """XADD of 100 bytes to one stream."""
        rate = self._run(connections, FIRST)
        rate = self._run(connections, round(rate * seconds)) if rate else None
        if rate is None:
            raise LoadError("redis-benchmark failed")
        return {"rate": rate}

    def close(self) -> None:
        self._child.terminate()
        self._child.wait(20)
        self._log.close()


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    folder.mkdir()
    redis = Redis(folder)
    try:
        redis.wait_ready()
        yield redis
    finally:
        redis.close()
