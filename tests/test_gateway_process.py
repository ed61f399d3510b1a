"""``durable-streams gateway`` as processes: what it refuses, how several share a port, and that none stays."""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from durable_streams_client import cli as command
from tests.cluster import gone, kill
from tests.gateway_process import GatewayServer
from tests.server import LOOPBACK, STOP_LIMIT, Server, free_ports, running, running_server, until

TEXT = {"Content-Type": "text/plain"}
ANY = f"{LOOPBACK}:0"


# --- Before anything is started.


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["gateway", "--help"]) == 0
    said = capsys.readouterr().out
    for text in (
        "durable-streams gateway --target 10.0.0.1:4438",
        "--workers N",
        "(default 1)",
        "(default 127.0.0.1:4537)",
        "--sse-lifetime TIME",
        "examples:",
        "exit codes: 0 clean, 1 a fault, 2 bad usage",
    ):
        assert text in said
    for text in ("--data-dir DIR", "--worker NUMBER", "--worker WORKER", "--token"):
        assert text not in said
    assert command.main(["--help"]) == 0
    assert "durable-streams gateway" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--targt", "a:1"], "flag --targt: unknown setting 'targt'; did you mean 'target'?"),
        (["--worker-s", "2"], "did you mean 'workers'?"),
        (["--data-dir", "x"], "flag --data-dir: unknown setting 'data-dir'\n"),
        (["--token", "x"], "flag --token: give it as DURABLE_STREAMS_TOKEN in the environment, or in the file\n"),
        (["--log.format=json"], "flag --log.format: give it as DURABLE_STREAMS_LOG_FORMAT in the environment"),
        (["a:1"], "unexpected argument 'a:1'"),
        (["--target"], "argument --target: expected one argument"),
        (["--target", "http://a:1"], "'http://a:1' is a URL: a gateway speaks gRPC to nodes"),
        (["--worker", "two"], "argument --worker: invalid int value: 'two'"),
        (["--workers", "0"], "workers (flag --workers): '0' is not a number from 1 to 64"),
        (["--http", "127.0.0.1:9", "--ops", "127.0.0.1:9"], "ops (flag --ops): 127.0.0.1:9 is already taken by http"),
        (["--workers", "9", "--ops", "127.0.0.1:4530"], "9 workers take ports up to 4538, and http is among them"),
        (["--http", "0.0.0.0:9"], "--allow-unauthenticated"),
        (["--config", "nowhere.toml"], "flag --config: cannot read nowhere.toml"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["gateway", *argv]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


# --- In front of a node.


@pytest.fixture(scope="module")
def node() -> Iterator[Server]:
    with running_server("--in-memory") as server:
        assert httpx.put(server.stream("s"), headers=TEXT, content="one").status_code == 201
        yield server


def gateway(node: Server, folder: Path, *arguments: str) -> GatewayServer:
    return GatewayServer(folder, [f"{LOOPBACK}:{node.ports['grpc']}"], arguments)


class Said:
    """What a ready line says."""

    def __init__(self, server: GatewayServer) -> None:
        assert server.process is not None
        found = re.fullmatch(r"ready http=(\S+) ops=(\S+?)(?: pids=(\S+))?", server.process.ready_line)
        assert found, server.process.ready_line
        self.http = f"http://{found[1]}"
        self.ops = [f"http://{each}" for each in found[2].split(",")]
        self.pids = list(map(int, found[3].split(","))) if found[3] else []

    @property
    def stream(self) -> str:
        return f"{self.http}/v1/stream/s?offset=-1"


def test_one(node: Server, tmp_path: Path) -> None:
    with running(gateway(node, tmp_path)) as server:
        assert isinstance(server, GatewayServer)
        said = Said(server)
        assert (said.http, said.ops, said.pids) == (server.url, [server.ops_url], [])
        assert httpx.get(said.stream).text == "one"
        assert httpx.get(f"{said.ops[0]}/readyz").text == "ok\n"


def test_what_it_is_told_by_file_and_environment(node: Server, tmp_path: Path) -> None:
    target = f"{LOOPBACK}:{node.ports['grpc']}"
    (tmp_path / "gateway.toml").write_text(
        f'target = ["{target}"]\nsse-lifetime = "200ms"\nworkers = "2"\n[log]\nformat = "json"\n'
    )

    class Told(GatewayServer):
        def command(self) -> list[str]:
            before, after = super().command(), ["--config", str(tmp_path / "gateway.toml")]
            at = before.index("--target")
            return [*before[:at], *before[at + 2 :], *after]

        def environment(self) -> dict[str, str]:
            told = {"WORKERS": "1", "PUBLIC_URL": "https://a.example/b", "TYPO": "1"}
            return super().environment() | {f"DURABLE_STREAMS_{name}": value for name, value in told.items()}

    with running(Told(tmp_path, [])) as server:
        assert httpx.put(server.stream("told"), headers=TEXT).headers["location"].startswith("https://a.example/b/v1")
        answer = httpx.get(server.stream("s"), params={"offset": "-1", "live": "sse"})
        assert answer.text.endswith("}\n\n"), "it ended by its lifetime"
        assert server.process is not None
        assert '"ignored unknown environment variables: DURABLE_STREAMS_TYPO' in server.process.errors


def test_without_a_cluster_it_waits_and_says_so(tmp_path: Path) -> None:
    (nowhere,) = free_ports(1)
    server = GatewayServer(tmp_path, [f"{LOOPBACK}:{nowhere}"])
    process = server.launch()
    try:
        said: list[httpx.Response] = []

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                said.append(httpx.get(f"{server.ops_url}/readyz"))
            return bool(said) and "Next step" in said[-1].text

        until(answers, "it says nothing")
        assert {each.status_code for each in said} == {503}
        assert f"{LOOPBACK}:{nowhere}" in said[-1].text
        assert process.terminate() == 0
        assert process.said == []
    finally:
        if process.running:
            process.kill()


@pytest.mark.parametrize("first", ["1", "2"])
@pytest.mark.parametrize("second", ["1", "2"])
def test_a_port_that_another_gateway_has_is_refused(first: str, second: str, node: Server, tmp_path: Path) -> None:
    with running(gateway(node, tmp_path / "first", "--workers", first)) as one:
        other = gateway(node, tmp_path / "second", "--workers", second, "--http", f"{LOOPBACK}:{one.ports['http']}")
        process = other.launch()
        assert process.wait() == 2
        assert f"http: cannot listen on {LOOPBACK}:{one.ports['http']}: the address is in use" in process.errors
        assert process.said == []
        assert httpx.get(one.stream("s") + "?offset=-1").text == "one"


def test_an_ops_port_of_one_worker_that_is_in_use_ends_all(node: Server, tmp_path: Path) -> None:
    server = gateway(node, tmp_path, "--workers", "2")
    with socket.create_server((LOOPBACK, server.ports["ops"] + 1)):
        process = server.launch()
        assert process.wait() == 2
    assert f"ops: cannot listen on {LOOPBACK}:{server.ports['ops'] + 1}: the address is in use" in process.errors
    assert "worker 1 could not start (exit code 2): its last line says why" in process.errors.splitlines()[-1]
    for name in ("http", "ops"):
        socket.create_server((LOOPBACK, server.ports[name])).close()


# --- Several.


def requests(ops: str) -> int:
    """How many requests one worker answered."""
    said = httpx.get(f"{ops}/metrics").text
    return int(sum(map(float, re.findall(r"^durable_streams_http_requests_total{.*} (\S+)$", said, re.MULTILINE))))


def test_two_share_the_port(node: Server, tmp_path: Path) -> None:
    with running(gateway(node, tmp_path, "--workers", "2", "--http", ANY, "--ops", ANY)) as server:
        assert isinstance(server, GatewayServer)
        said = Said(server)
        assert len({*said.ops, said.http}) == 3
        assert len(set(said.pids)) == 2

        def both() -> bool:
            assert httpx.get(said.stream).text == "one"  # A connection of its own.
            return all(requests(ops) for ops in said.ops)

        until(both, "one of them is given nothing")
    assert gone(said.pids)


def test_their_ops_ports_follow_each_other(node: Server, tmp_path: Path) -> None:
    with running(gateway(node, tmp_path, "--workers", "3")) as server:
        assert isinstance(server, GatewayServer)
        first = server.ports["ops"]
        assert Said(server).ops == [f"http://{LOOPBACK}:{first + number}" for number in range(3)]
        assert [httpx.get(f"{ops}/readyz").status_code for ops in Said(server).ops] == [200] * 3


def test_one_that_is_killed_is_started_again(node: Server, tmp_path: Path) -> None:
    with running(gateway(node, tmp_path, "--workers", "2")) as server:
        assert isinstance(server, GatewayServer)
        said = Said(server)
        kill(said.pids[0])
        assert gone([said.pids[0]])

        def is_back() -> bool:
            # What the dead one had not accepted is gone with it; what comes now goes to the other.
            assert httpx.get(said.stream).text == "one"
            assert httpx.get(f"{said.ops[1]}/readyz").status_code == 200
            with contextlib.suppress(httpx.TransportError):
                return requests(said.ops[0]) > 0
            return False

        until(is_back, "it does not come back")
        assert server.process is not None
        assert "worker 0 ended (signal 9), and is started again" in server.process.errors
        assert os.path.exists(f"/proc/{said.pids[1]}")


def test_no_worker_outlives_a_process_that_is_killed(node: Server, tmp_path: Path) -> None:
    server = gateway(node, tmp_path, "--workers", "2")
    server.start()
    pids = Said(server).pids
    server.kill()
    assert gone(pids)
    for name in ("http", "ops"):
        socket.create_server((LOOPBACK, server.ports[name])).close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_ends_live_reads_with_a_control_event(workers: str, node: Server, tmp_path: Path) -> None:
    server = gateway(node, tmp_path, "--workers", workers, "--sse-lifetime", "1h")
    with running(server):
        pids = Said(server).pids
        url = server.stream("s") + "?offset=-1&live=sse"
        with contextlib.ExitStack() as stack:
            reads = []
            for _ in range(4):
                answer = stack.enter_context(httpx.stream("GET", url, timeout=STOP_LIMIT))
                lines = answer.iter_text()
                said = next(lines)
                while '"upToDate":true' not in said:
                    said += next(lines)
                reads.append(lines)
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGTERM)
            for lines in reads:
                assert "event: control" in "".join(lines), "a whole answer"
            assert server.process.wait() == 0
    assert gone(pids)
    assert server.process.errors.count("draining") >= int(workers)


def test_two_signals_end_it_at_once(tmp_path: Path, node: Server) -> None:
    server = gateway(node, tmp_path, "--workers", "2")
    process = server.start()
    pids = Said(server).pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGTERM)
    until(lambda: "draining; a second signal ends at once" in process.errors, "it does not drain")
    os.kill(process.pid, signal.SIGTERM)
    try:
        assert process.wait() == 1
    finally:
        for pid in pids:
            kill(pid)
    assert gone(pids)
