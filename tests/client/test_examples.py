"""The programs of ``examples/`` do what they say."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.server import LOOPBACK, ROOT, Server, running_server

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


def test_all_examples_are_tried() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS)
