"""A process that may open few files: it says so, keeps to it, and never runs out of them for the store."""

import contextlib
import http.client
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import LOOPBACK, NotReadyError, Server, running, running_server, until

FEW = 1024
"""What shells, and containers, often allow."""
TEXT = {"content-type": "text/plain"}


class LimitedServer(Server):
    """A node whose soft and hard limits are low."""

    def __init__(self, folder: Path, files: int, *arguments: str) -> None:
        super().__init__(folder, arguments)
        self.files = files

    def command(self) -> list[str]:
        return ["sh", "-c", f'ulimit -n {self.files} && exec "$@"', "sh", *super().command()]


@pytest.fixture
def clients() -> Iterator[list[http.client.HTTPConnection]]:
    """Connections that the test opens: this process needs as many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    opened: list[http.client.HTTPConnection] = []
    yield opened
    for client in opened:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(server: Server, clients: list[http.client.HTTPConnection]) -> http.client.HTTPConnection:
    client = http.client.HTTPConnection(LOOPBACK, server.ports["http"], timeout=30)
    client.connect()
    clients.append(client)
    return client


def ask(client: http.client.HTTPConnection, method: str, body: bytes = b"") -> int:
    client.request(method, "/v1/stream/s", body, TEXT)
    answer = client.getresponse()
    answer.read()
    return answer.status


def refused(server: Server) -> bool:
    """Whether a connection more gets 503, or is closed at once."""
    client = http.client.HTTPConnection(LOOPBACK, server.ports["http"], timeout=30)
    with contextlib.closing(client):
        try:
            return ask(client, "HEAD") == 503
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            return True


def open_files(pid: int) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{pid}/fd")]


def test_as_many_connections_as_fit_and_the_store_goes_on(
    tmp_path: Path, clients: list[http.client.HTTPConnection]
) -> None:
    with running(LimitedServer(tmp_path, FEW)) as server:
        assert server.process is not None
        assert "room for 142 connections, not 10000" in server.process.errors
        writer = connect(server, clients)
        assert ask(writer, "PUT") == 201
        reader = connect(server, clients)
        reader.request("GET", "/v1/stream/s?offset=-1&live=sse")
        events = reader.getresponse()
        for _ in range(142 - 2):
            assert ask(connect(server, clients), "HEAD") == 200
        for number in range(1200):  # more than all the files that it may open
            assert refused(server)
            if number % 100 == 0:
                assert ask(writer, "POST", b"%d\n" % number) == 204
        found = b""
        while b"data:1100\n" not in found:
            found += events.readline()
        assert len(open_files(server.process.pid)) < FEW
        for client in clients:
            client.close()
        until(lambda: not refused(server), "connections are taken again")
        assert "cannot accept" not in server.process.errors


def test_too_few_for_any_use(tmp_path: Path) -> None:
    server = LimitedServer(tmp_path, 800)
    process = server.launch()
    with pytest.raises(NotReadyError):
        process.wait_ready()
    assert process.wait() == 2
    assert "raise the limit to 12104 (ulimit -n in a shell, LimitNOFILE= in a systemd unit)" in process.errors
    assert not (tmp_path / "data").exists()


def test_without_descriptors_connections_wait_and_those_there_go_on(
    clients: list[http.client.HTTPConnection],
) -> None:
    """The plan does not let it come to that; a machine without any (ENFILE), or a limit set later, does."""
    with running_server("--in-memory") as server:
        assert server.process is not None
        process = server.process
        pid = process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        there = connect(server, clients)
        assert ask(there, "PUT") == 201
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(open_files(pid)) + 1 + 5, before[1]))
        late = [connect(server, clients) for _ in range(100)]
        for client in late:
            client.request("HEAD", "/v1/stream/s")
        errors: list[str] = []

        def waiting() -> bool:
            assert ask(there, "POST", b"x") == 204
            errors[:] = [line for line in process.errors.splitlines() if "accept" in line]
            return bool(errors)

        until(waiting, "it says that it cannot accept")
        for _ in range(1000):
            assert ask(there, "POST", b"x") == 204
        assert waiting()
        assert [line.partition("WARNING ")[2] for line in errors] == [
            "gateway.accept: http: cannot accept connections: Too many open files; they wait until that is over"
        ]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for client in late:
            assert client.getresponse().status == 200
        assert ask(there, "DELETE") == 204
