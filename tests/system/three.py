"""Three nodes of one cluster, each a process of its own that a test starts and ends by itself."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from tests.server import LOOPBACK, Server

NAMES = ("n1", "n2", "n3")


@contextlib.contextmanager
def three(folder: Path, special: Mapping[str, Server] | None = None) -> Iterator[dict[str, Server]]:
    """By name, ready; none is left. ``special``: those that are not just in a folder of their own."""
    servers = {name: (special or {}).get(name) or Server(folder / name) for name in NAMES}
    members = ",".join(f"{name}={LOOPBACK}:{server.ports['peer']}" for name, server in servers.items())
    for name, server in servers.items():
        server.arguments = ["--node", name, "--initial-cluster", members]
    try:
        start(*servers.values())
        yield servers
    finally:
        for server in servers.values():
            if server.process is not None and server.process.running:
                server.kill()


def start(*servers: Server) -> None:
    for server in servers:
        server.launch()
    for server in servers:
        assert server.process is not None
        server.process.wait_ready()


def readiness(server: Server) -> str:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.ops_url}/readyz?verbose").text
    return ""
