"""A member that was removed and runs on: it sends its clients elsewhere, and its end waits for nobody."""

import contextlib
import socket
import threading
from pathlib import Path

import httpx

from tests.local.test_admin import admin
from tests.server import LOOPBACK, Server, until
from tests.system.three import readiness, start, three

TEXT = {"content-type": "text/plain"}


def says_so(server: Server) -> bool:
    step = f"Next step: stop this node; to let it join again, empty {server.folder}/data and start it with --join"
    return f"its data is kept. {step}" in readiness(server)


def listens(server: Server) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, server.ports["http"])):
        return True
    return False


def requests_are_sent_elsewhere(server: Server) -> None:
    until(lambda: listens(server), "it takes no request")
    for answer in (
        httpx.get(server.stream("s"), timeout=20),
        httpx.put(server.stream("t"), headers=TEXT, timeout=20),
        httpx.post(server.stream("s"), headers=TEXT, content="x", timeout=20),
        httpx.get(server.stream("s"), params={"offset": "now", "live": "long-poll"}, timeout=20),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "this node was removed from its cluster" in answer.json()["error"]["message"]


def follow(server: Server, said: list[str], connected: threading.Event) -> None:
    """An SSE until its end."""
    with httpx.stream("GET", server.stream("s"), params={"offset": "now", "live": "sse"}, timeout=60) as answer:
        for line in answer.iter_lines():
            said.append(line)
            connected.set()


def test_it_knows_says_so_and_ends_at_once(tmp_path: Path) -> None:
    with three(tmp_path) as servers:
        until(lambda: any("leader: leader" in readiness(each) for each in servers.values()), "nobody leads")
        leaves = next(each for each in servers.values() if "leader: follower" in readiness(each))
        name = next(name for name, each in servers.items() if each is leaves)
        others = [each for each in servers.values() if each is not leaves]
        httpx.put(leaves.stream("s"), headers=TEXT, content="1;").raise_for_status()
        said: list[str] = []
        connected = threading.Event()
        reader = threading.Thread(target=follow, args=(leaves, said, connected))
        reader.start()
        assert connected.wait(20)

        admin([f"{LOOPBACK}:{each.ports['grpc']}" for each in others], "remove", name)
        until(lambda: says_so(leaves), "it does not know that it was removed")
        assert httpx.get(f"{leaves.ops_url}/readyz").status_code == 503
        assert httpx.get(f"{leaves.ops_url}/livez").status_code == 200, "nobody restarts it for that"
        requests_are_sent_elsewhere(leaves)
        reader.join(20)
        assert not reader.is_alive(), "the live read has ended"
        assert [line for line in said if line.startswith("event: ")][-1] == "event: control"
        assert httpx.post(others[0].stream("s"), headers=TEXT, content="2;").status_code == 204
        assert leaves.process is not None
        assert leaves.process.errors.count("this node was removed from the cluster, as ") == 1
        assert leaves.stop() == 0

        # With its old directory it is told the same again; what it holds is kept.
        process = leaves.launch()
        until(lambda: says_so(leaves), "it does not know that it was removed")
        requests_are_sent_elsewhere(leaves)
        assert process.terminate() == 0
        assert not any(line.startswith("ready ") for line in process.said), "it was ready for nobody"
        assert (leaves.folder / "data" / "identity").exists()

        # Emptied, it is a member again.
        (leaves.folder / "data").rename(leaves.folder / "kept")
        leaves.arguments = ["--node", name, "--join", f"{LOOPBACK}:{others[0].ports['peer']}"]
        start(leaves)
        assert httpx.get(leaves.stream("s")).text == "1;2;"
        for each in servers.values():
            assert each.stop() == 0
