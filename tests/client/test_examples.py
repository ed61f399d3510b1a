"""The programs of ``examples/`` do what they say."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import LOOPBACK, ROOT, Process, Server, clean_environment, running_server, until

SAYS = {
    "chat": "ada: hello\nbob: hi!\nada: bye\n",
    "exactly_once": "100000 records, each once and in order\n",
    "worker": "first run: [0, 1]\nsecond run: [2, 3, 4]\n",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--in-memory") as one:
        yield one


@pytest.mark.parametrize("name", SAYS)
def test_an_example(server: Server, name: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), f"{LOOPBACK}:{server.ports['grpc']}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, SAYS[name], "")


def test_an_application_with_a_node_in_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples"), "--port", "0", "embedded:app"]
    process = Process(command, clean_environment(), tmp_path, tmp_path / "stderr.log")
    try:
        until(lambda: "running on" in process.errors or not process.running, "it does not start")
        found = re.search(r"running on (http://[0-9.:]+)", process.errors)
        assert found, process.errors
        with httpx.Client(trust_env=False) as http:
            stream = f"{found[1]}/streams/v1/stream/hello"
            assert http.put(stream, content=b"hello world").status_code == 201
            assert http.get(stream).content == b"hello world"
        process.terminate()
        assert "Application shutdown complete" in process.errors
        assert (tmp_path / "data" / "identity").exists()
    finally:
        if process.running:
            process.kill()


def test_all_examples_are_tried() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*SAYS, "embedded"}
