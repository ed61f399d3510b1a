"""``running_node``: a node for users' tests, from its start to the end of its process."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from durable_streams_client import Client
from durable_streams_client.sync import Client as SyncClient
from durable_streams_client.testing import NodeNotReadyError, NodeProcess, running_node
from tests.cluster import gone

ALONE = "n1=127.0.0.1:1,n2=127.0.0.1:2,n3=127.0.0.1:3"
"""Two of the three are not there: a node that is never ready."""


def get(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        body: bytes = answer.read()
    return body


def test_a_node_is_there_for_the_length_of_a_block() -> None:
    with running_node() as node, SyncClient(node.target) as over_grpc, SyncClient(node.url) as over_http:
        over_grpc.stream("s").create(content_type="text/plain", body="one")
        assert over_http.stream("s").read().text() == "one"
        assert get(f"{node.url}/v1/stream/s") == b"one"
        assert get(f"{node.ops_url}/readyz") == b"ok\n"
        assert not gone([node.pid], limit=0)
    assert gone([node.pid])


def test_also_for_an_event_loop() -> None:
    async def main() -> int:
        async with running_node() as node, Client(node.target) as client:
            await client.stream("s").create(content_type="text/plain", body="one")
            assert (await client.stream("s").read()).text() == "one"
        return node.pid

    assert gone([asyncio.run(main())])


def test_what_is_in_a_data_directory_is_there_the_next_time(tmp_path: Path) -> None:
    with running_node(tmp_path / "data") as node, SyncClient(node.target) as client:
        client.stream("s").create(content_type="text/plain", body="one")
    with running_node(tmp_path / "data") as node, SyncClient(node.target) as client:
        assert client.stream("s").read().text() == "one"


def test_settings_of_the_programs_under_test_are_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_INITIAL_CLUSTER", ALONE)
    with running_node() as node:
        assert get(f"{node.ops_url}/readyz") == b"ok\n"


def test_what_it_said_is_told_when_it_does_not_start() -> None:
    with pytest.raises(NodeNotReadyError, match=r"^the node ended with code 2; .*\n.*unknown setting 'htpt'"):
        running_node(arguments=["--htpt", "1"]).__enter__()


def test_what_to_install_is_told_where_the_extra_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rocksdict.py").write_text("raise ModuleNotFoundError('no', name='rocksdict')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(NodeNotReadyError, match=r"'rocksdict', which is not installed; try:\n  pip install '"):
        running_node().__enter__()


def never_ready(folder: Path, **limits: float) -> NodeProcess:
    return running_node(folder / "data", arguments=["--initial-cluster", ALONE], **limits)


def test_one_that_is_not_ready_in_time_is_killed_and_told_of(tmp_path: Path) -> None:
    waits = never_ready(tmp_path, ready_timeout_s=0.5)
    with pytest.raises(NodeNotReadyError, match=r"^the node was not ready within 0\.5 s; its last lines:"):
        waits.__enter__()
    assert waits._child.returncode == -signal.SIGKILL


def test_nothing_is_left_when_the_wait_for_it_is_cancelled(tmp_path: Path) -> None:
    waits = never_ready(tmp_path)

    async def main() -> None:
        entering = asyncio.ensure_future(waits.__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(main())
    assert waits._child.returncode == -signal.SIGKILL


def test_one_that_does_not_end_is_killed() -> None:
    hangs = running_node(stop_timeout_s=0.1)
    with hangs as node:
        os.kill(node.pid, signal.SIGSTOP)
    assert hangs._child.returncode == -signal.SIGKILL


def test_one_that_died_meanwhile_is_no_trouble() -> None:
    with running_node() as node:
        os.kill(node.pid, signal.SIGKILL)
    assert gone([node.pid])


def test_it_does_not_outlive_tests_that_are_killed() -> None:
    script = "from durable_streams_client.testing import running_node\nwith running_node() as n: print(n.pid); input()"
    command = [sys.executable, "-u", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert not gone([pid], limit=0)
        tests.kill()
    assert gone([pid])


def test_it_needs_neither_pytest_nor_the_node() -> None:
    script = (
        "import sys; sys.modules['pytest'] = None; import durable_streams_client.testing; "
        "print([name for name in sys.modules if 'cluster' in name or name.startswith('grpc')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
