"""Several nodes under one process, as ``durable-streams cluster up`` runs them, on free loopback ports."""

import contextlib
import os
import re
import select
import signal
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.server import LOOPBACK, STOP_LIMIT, Process, Server, clean_environment, free_ports, running, until

PORTS_APART, PORTS_EACH = 10, 4


class LocalCluster(Server):
    """``cluster up`` on one data directory and one base port."""

    def __init__(self, folder: Path, nodes: int = 3, **settings: str) -> None:
        """``settings`` of all nodes, as ``long_poll_timeout="500ms"``."""
        super().__init__(folder)
        self.nodes = nodes
        self.base_port = free_base_port(nodes)
        self.settings = settings

    @property
    def names(self) -> list[str]:
        return [f"n{number + 1}" for number in range(self.nodes)]

    @property
    def urls(self) -> list[str]:
        """Of each node."""
        return [f"http://{LOOPBACK}:{self.base_port + PORTS_APART * number}" for number in range(self.nodes)]

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def targets(self) -> list[str]:
        """Each node's listener for clients."""
        return [f"{LOOPBACK}:{self.base_port + PORTS_APART * number + 1}" for number in range(self.nodes)]

    def command(self) -> list[str]:
        place = ["--data-dir", str(self.folder / "data"), "--base-port", str(self.base_port)]
        command = [sys.executable, "-m", "durable_streams_client.cli", "cluster", "up"]
        return [*command, "--nodes", str(self.nodes), *place]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {f"DURABLE_STREAMS_{name.upper()}": text for name, text in self.settings.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Of the nodes, at the start."""
        assert self.process is not None
        found = re.search(r" pids=(\S+) ", self.process.ready_line)
        assert found, self.process.ready_line
        return dict(zip(self.names, map(int, found[1].split(",")), strict=True))

    def leader(self) -> str:
        """Who says that it leads. When all are ready none may, for a moment, on a machine that stood still."""
        leaders: list[str] = []
        until(lambda: bool(leaders.extend(self._leaders()) or leaders), "nobody leads")
        return leaders[0]

    def _leaders(self) -> list[str]:
        found = []
        for number, name in enumerate(self.names):
            port = self.base_port + PORTS_APART * number + 3
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{LOOPBACK}:{port}/readyz?verbose", timeout=10) as answer,
            ):
                if b"leader: leader in term" in answer.read():
                    found.append(name)
        return found


def free_base_port(nodes: int) -> int:
    """The first of so many nodes' ports, all of them free now."""
    for _ in range(200):
        base = free_ports(1)[0]
        wanted = [base + PORTS_APART * node + each for node in range(nodes) for each in range(PORTS_EACH)]
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            for port in wanted:
                held.enter_context(socket.socket()).bind((LOOPBACK, port))
            return base
    raise AssertionError("no free block of loopback ports")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def gone(pids: list[int], limit: float = STOP_LIMIT) -> bool:
    """Wait until none of these processes runs."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], limit)[0]:
                return False
        finally:
            os.close(handle)
    return True


@contextlib.contextmanager
def running_cluster(nodes: int = 3, folder: Path | None = None, **settings: str) -> Iterator[LocalCluster]:
    """A cluster for the length of a block; no process stays behind."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="durable-streams-")))
        cluster = stack.enter_context(running(LocalCluster(place, nodes, **settings)))
        assert isinstance(cluster, LocalCluster)
        yield cluster


@contextlib.contextmanager
def typed_to(cluster: LocalCluster) -> Iterator[Process]:
    """Start the cluster with a standard input that ``Process.type`` writes to; however the block ends, none is left."""
    process = cluster.launch(typed_to=True)
    try:
        process.wait_ready()
        yield process
    finally:
        pids = list(cluster.pids.values()) if process.ready_line else []
        if process.running:
            process.kill()
        assert gone(pids)
