"""The servers compared, and how often each syncs its disk."""

import dataclasses
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path

from tests.server import LOOPBACK, ReferenceServer, Server

SYNC_METRIC = "durable_streams_wal_syncs_total"
SYNC_CALLS = "fsync,fdatasync,msync,sync_file_range"


@dataclasses.dataclass(frozen=True, slots=True)
class Contender:
    name: str
    title: str
    server: Server
    durable: bool

    def connect(self) -> HTTPConnection:
        return HTTPConnection(LOOPBACK, self.server.ports["http"], timeout=60)

    def create(self, path: str, kind: str) -> None:
        self._expect("PUT", path, {"content-type": kind}, b"", {200, 201})

    def append(self, path: str, body: bytes) -> None:
        self._expect("POST", path, {"content-type": "text/plain"}, body, {200, 204})

    def tail(self, path: str) -> int:
        """The position in the tail's offset: how many bytes were stored, framing included where there is any."""
        return int(self._expect("HEAD", path, {}, b"", {200})["stream-next-offset"].partition("_")[2])

    def _expect(self, method: str, path: str, headers: dict[str, str], body: bytes, good: set[int]) -> dict[str, str]:
        connection = self.connect()
        try:
            connection.request(method, f"/v1/stream/{path}", body or None, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in good:
                raise RuntimeError(f"{self.name}: {method} {path} was answered {answer.status}")
            return {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def syncs(self) -> int | None:
        """Our own count of syncs, from /metrics; None where there is no such count."""
        if isinstance(self.server, ReferenceServer):
            return None
        try:
            with urllib.request.urlopen(f"{self.server.ops_url}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (OSError, urllib.error.URLError):
            return None
        found = re.findall(rf"^{SYNC_METRIC}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return int(sum(map(float, found))) if found else None


def contenders(folder: Path, only: set[str]) -> list[Contender]:
    every = [
        Contender("ours", "this server, durable", Server(folder / "ours"), durable=True),
        Contender("memory", "reference, in memory", ReferenceServer(folder / "memory", durable=False), durable=False),
        Contender("files", "reference, file-backed", ReferenceServer(folder / "files", durable=True), durable=True),
    ]
    return [each for each in every if not only or each.name in only]


class Tracer:
    """Counts a process's sync calls by strace, from outside: no server needs to be believed. Not for timed runs."""

    def __init__(self, pid: int, report: Path) -> None:
        self._report = report
        command = ["strace", "-f", "-c", "-e", f"trace={SYNC_CALLS}", "-o", str(report), "-p", str(pid)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    @staticmethod
    def available() -> bool:
        return shutil.which("strace") is not None

    def attached(self, limit: float = 10.0) -> bool:
        """Wait until strace says so; it may not be allowed to."""
        assert self._child.stderr is not None
        said, deadline = b"", time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stderr, selectors.EVENT_READ)
            while b"attached" not in said and selector.select(max(0.0, deadline - time.monotonic())):
                part = os.read(self._child.stderr.fileno(), 65_536)
                if not part:
                    break
                said += part
        return b" attached" in said

    def count(self) -> int | None:
        """Detach and answer how many calls there were."""
        self._child.send_signal(signal.SIGINT)
        try:
            self._child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
            return None
        rows = [line.split() for line in self._report.read_text().splitlines()] if self._report.exists() else []
        return sum(int(row[3]) for row in rows if len(row) >= 5 and row[-1] in SYNC_CALLS.split(","))
