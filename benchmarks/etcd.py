"""Three etcd nodes on this machine, and their JSON gateway (Debian's etcd-server; its defaults, so it syncs)."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.server import LOOPBACK, READY_LIMIT, free_ports


class Etcd:
    """Three processes; ``url`` is the leader's."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        program = shutil.which("etcd")
        if program is None:
            raise SystemExit("this comparison needs etcd: apt-get install -y etcd-server")
        self._log = (folder / "etcd.log").open("wb")
        ports = free_ports(2 * nodes)
        self.urls = [f"http://{LOOPBACK}:{port}" for port in ports[:nodes]]
        peers = [f"http://{LOOPBACK}:{port}" for port in ports[nodes:]]
        members = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers))
        self._children = []
        for number, (url, peer) in enumerate(zip(self.urls, peers, strict=True)):
            words = ["--name", f"e{number}", "--data-dir", str(folder / f"e{number}"), "--initial-cluster", members]
            words += ["--listen-client-urls", url, "--advertise-client-urls", url]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            self._children.append(
                subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_LIMIT
        while True:
            with contextlib.suppress(OSError, StopIteration):
                self.url = next(url for url in self.urls if self._leads(url))
                return
            if time.monotonic() > deadline:
                raise SystemExit("etcd has no leader")
            time.sleep(0.1)

    def _leads(self, url: str) -> bool:
        status = self.ask(url, "maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])

    def ask(self, url: str, what: str, body: dict[str, str]) -> Any:
        request = urllib.request.Request(f"{url}/v3/{what}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def revision(self) -> int:
        """How many puts there were."""
        return int(self.ask(self.url, "kv/range", {"key": encoded(b"none")})["header"]["revision"])

    def close(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(20)
        self._log.close()


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


@contextlib.contextmanager
def running_etcd(folder: Path) -> Iterator[Etcd]:
    folder.mkdir()
    etcd = Etcd(folder)
    try:
        etcd.wait_ready()
        yield etcd
    finally:
        etcd.close()
