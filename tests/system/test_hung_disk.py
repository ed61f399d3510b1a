"""A disk that stops answering in the middle of RocksDB's own work: the node ends all the same, and lost nothing."""

import http.client
import os
import sys
from pathlib import Path

from tests.server import LOOPBACK, ROOT, Server
from tests.system.power.shim import Kind, Rule, Shim

PREFIX = "/v1/stream/"
HANGS_MS = 600_000.0
FLUSH_BYTES, KEPT_LOG_BYTES = 1_000_000, 100_000


class ShimmedServer(Server):
    """A node that writes table files soon, with the shim between it and its disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shim = Shim(folder / "data", folder / "aside", journal=False)

    def command(self) -> list[str]:
        _, _, _, *rest = super().command()
        sizes = (str(FLUSH_BYTES), str(KEPT_LOG_BYTES))
        return [sys.executable, "-m", "tests.system.power.node", *sizes, *rest]

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        return environment | self.shim.environment() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{environment['PYTHONPATH']}"}


def ask(server: Server, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, server.ports["http"], timeout=30)
    try:
        connection.request(method, PREFIX + path, body, {"content-type": "application/octet-stream"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def content(server: Server, path: str) -> bytes:
    found, offset = b"", "-1"
    while True:
        connection = http.client.HTTPConnection(LOOPBACK, server.ports["http"], timeout=30)
        connection.request("GET", f"{PREFIX}{path}?offset={offset}")
        answer = connection.getresponse()
        assert answer.status == 200
        found += answer.read()
        connection.close()
        if answer.getheader("Stream-Up-To-Date"):
            return found
        offset = answer.getheader("Stream-Next-Offset") or ""


def test_a_table_file_that_hangs_does_not_hold_the_process(tmp_path: Path) -> None:
    server = ShimmedServer(tmp_path)
    process = server.start()
    assert ask(server, "PUT", "a")[0] == 201
    rule = server.shim.rule(Rule({Kind.WRITE, Kind.SYNC, Kind.CREATE}, "*.sst", delay_ms=HANGS_MS))
    stored = b""
    for number in range(20):  # two memtables wait to be written out, then the disk's thread does
        chunk = bytes([number]) + os.urandom(FLUSH_BYTES // 2)
        status, _ = ask(server, "POST", "a", chunk)
        if status != 204:
            break
        stored += chunk
    assert status in (429, 503, 409), "admission closes"
    assert server.shim.counts(rule)[1], "the disk hangs"
    assert process.terminate(60) == 1
    assert "the disk does not answer" in process.errors
    server.shim.clear()
    server.start()
    assert content(server, "a").startswith(stored)
    assert server.stop() == 0
