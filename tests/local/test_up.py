"""``durable-streams cluster up`` as a process: what it refuses, what it says when nodes die, and that none stays."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from durable_streams_client import cli as command
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from tests.cluster import LocalCluster, gone, kill, running_cluster, typed_to
from tests.server import LOOPBACK, STOP_LIMIT

TEXT = {"Content-Type": "text/plain"}


def run(cluster: LocalCluster, *more: str) -> tuple[int, str, str]:
    """To the end: exit code, standard output, standard error."""
    done = subprocess.run(
        [*cluster.command(), *more],
        env=cluster.environment(),
        cwd=cluster.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# --- Before anything is started.


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["cluster", "up", "--help"]) == 0
    said = capsys.readouterr().out
    for text in (
        "--nodes N",
        "(default 3)",
        "(default ./data)",
        "(default 4437)",
        "ctrl-C",
        "examples:",
        "exit codes:",
    ):
        assert text in said
    assert command.main(["--help"]) == 0
    assert "durable-streams cluster up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["cluster"], "required: action"),
        (["cluster", "down"], "invalid choice: 'down'"),
        (["cluster", "up", "--node", "3"], "unrecognized arguments: --node 3"),
        (["cluster", "up", "--nodes", "three"], "invalid int value: 'three'"),
        (["cluster", "up", "--nodes", "2"], "error: --nodes 2: an even number costs a node"),
        (["cluster", "up", "--base-port", "70000"], "error: --base-port 70000: three nodes would take ports"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(argv) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


def test_ports_in_use_are_all_named_and_nothing_is_started(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    taken = [cluster.base_port + 1, cluster.base_port + 22]
    with contextlib.ExitStack() as held:
        for port in taken:
            held.enter_context(socket.create_server((LOOPBACK, port)))
        code, out, err = run(cluster)
    assert (code, out) == (2, "")
    names = f"{LOOPBACK}:{taken[0]} (n1 grpc), {LOOPBACK}:{taken[1]} (n3 peer)"
    assert err == (
        f"durable-streams: error: {names} are in use by another process (perhaps a cluster that still runs). "
        "Next step: end it, or choose other ports with --base-port\n"
    )
    assert not (tmp_path / "data").exists()


def identity(folder: Path, members: list[str]) -> None:
    folder.mkdir(parents=True)
    record = tuple(Member(NodeId(name), number) for number, name in enumerate(members, 1))
    IdentityFile(folder).write(StoredIdentity(record[0].node, 1, "c-1", record, begun=True))


def test_a_member_is_not_left_out(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, nodes=3)
    identity(tmp_path / "data" / "n5", ["n5", "n2", "n3"])
    assert run(cluster) == (
        2,
        "",
        f"durable-streams: error: {tmp_path}/data/n5 is of a member of the cluster in {tmp_path}/data, and --nodes 3 "
        "would start without it. Next step: give --nodes as many as there are; or, if n5 was removed from the cluster "
        f"(durable-streams admin remove), move {tmp_path}/data/n5 elsewhere or delete it; or name another --data-dir\n",
    )


def test_a_damaged_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "n1").mkdir(parents=True)
    (tmp_path / "data" / "n1" / "identity").write_text("{")
    code, out, err = run(LocalCluster(tmp_path))
    assert (code, out) == (2, "")
    assert "data/n1/identity is damaged" in err


# --- Running.


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(folder=tmp_path_factory.mktemp("three")) as cluster:
        yield cluster


def test_what_one_node_takes_every_node_shows(three: LocalCluster) -> None:
    streams = [f"{url}/v1/stream/hello" for url in three.urls]
    assert httpx.put(streams[0], headers=TEXT).status_code == 201
    for number, stream in enumerate(streams):
        assert httpx.post(stream, headers=TEXT, content=f"{number} ").status_code == 204
    assert [httpx.get(stream).text for stream in streams] == ["0 1 2 "] * 3


def test_logs_have_the_name_of_their_node_in_front(three: LocalCluster) -> None:
    assert three.process is not None
    lines = three.process.errors.splitlines()
    assert {line[:5] for line in lines} == {f"{name} | " for name in three.names}
    assert any("BecameLeader" in line for line in lines if line.startswith(three.leader()))


def test_a_second_cluster_on_the_same_directory_is_refused_and_its_nodes_are_ended(
    three: LocalCluster, tmp_path: Path
) -> None:
    second = LocalCluster(tmp_path)
    code, out, err = run(second, "--data-dir", str(three.folder / "data"))
    assert code == 2
    assert "is in use by another process" in err
    assert "refused to run (exit code 2): its last line says why" in out
    assert "ready " not in out


def test_the_leader_is_killed_and_started_again(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    with typed_to(cluster) as process:
        leader = cluster.leader()
        assert f"kill -9 {cluster.pids[leader]}" in "\n".join(process.said)
        url = next(url for name, url in zip(cluster.names, cluster.urls, strict=True) if name != leader)
        stream = f"{url}/v1/stream/hello"
        assert httpx.put(stream, headers=TEXT, content="before ").status_code == 201
        kill(cluster.pids[leader])
        said = process.wait_line(rf"{leader} was killed \(SIGKILL\); ")
        others = " and ".join(name for name in cluster.names if name != leader)
        assert said.endswith(f"{others} go on: 2 of 3 are a majority")
        process.wait_line(f"press Enter here to start {leader} again")
        assert httpx.post(stream, headers=TEXT, content="after", timeout=30).status_code == 204
        process.wait_line(r"n\d leads now")
        process.type("\n")
        back = process.wait_line(f"{leader} is back: http")
        process.type("\n")
        process.wait_line("all nodes run")
        assert httpx.get(f"{back.split()[3].rstrip(',')}/v1/stream/hello", timeout=30).text == "before after"
        assert process.terminate() == 0
        assert sorted(process.said_after("stopping")) == ["n1 stopped", "n2 stopped", "n3 stopped"]
        lines = process.errors.splitlines()
        assert [line for line in lines if not re.match(r"n[123] \| \d{4}-\d\d-\d\dT\S+Z ", line)] == []


def test_no_node_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    cluster.start()
    pids = list(cluster.pids.values())
    cluster.kill()
    assert gone(pids)


def test_ctrl_c_ends_it_while_it_starts(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    process = cluster.launch()
    process.wait_line("starting three nodes")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 0


def test_a_node_that_hangs_is_ended_by_the_second_ctrl_c(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    process = cluster.start()
    os.kill(cluster.pids["n2"], signal.SIGSTOP)
    os.kill(process.pid, signal.SIGINT)
    process.wait_line("stopping n1, n2 and n3; ctrl-C again ends them at once")
    process.wait_line("n[13] stopped")
    process.wait_line("n[13] stopped")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 1
    assert "n2 did not stop yet: killed" in process.said
    assert gone(list(cluster.pids.values()))


def test_without_anybody_to_start_them_it_ends_with_the_last_node(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, nodes=1)
    process = cluster.start()
    kill(cluster.pids["n1"])
    assert process.wait() == 1
    assert process.said[-2].startswith("to start it again: durable-streams serve --node n1 ")
    assert process.said[-1] == "no node runs any more"


def test_nobody_reads_what_it_says(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, nodes=1)
    with subprocess.Popen(
        cluster.command(),
        env=cluster.environment(),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        deadline = time.monotonic() + STOP_LIMIT
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{cluster.url}/v1/stream/x").status_code == 404:
                    break
            assert time.monotonic() < deadline
        process.terminate()
        assert process.wait(STOP_LIMIT) == 0


@pytest.mark.parametrize("damaged", ["db/CURRENT", "format"])
def test_a_member_whose_store_is_damaged_gets_another_from_the_others(tmp_path: Path, damaged: str) -> None:
    stream = "/v1/stream/kept"
    with running_cluster(folder=tmp_path) as cluster:
        httpx.put(
            cluster.urls[0] + stream, headers={"content-type": "text/plain"}, content="all of it"
        ).raise_for_status()
    place = tmp_path / "data" / "n2"
    (place / damaged).unlink()
    before = IdentityFile(place).read()
    with running_cluster(folder=tmp_path) as cluster:
        assert httpx.get(cluster.urls[1] + stream).text == "all of it"
    after = IdentityFile(place).read()
    assert before is not None
    assert after is not None
    assert (after.cluster, after.node) == (before.cluster, before.node)
    assert after.incarnation != before.incarnation, "what it promised is forgotten"
    assert (place / "damaged-1" / "db").is_dir()
    assert not (place / "needs-repair").exists()
