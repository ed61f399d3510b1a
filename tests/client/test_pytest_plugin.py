"""The fixtures that users get, as pytest runs them."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """\
import pytest
from durable_streams_client.sync import Client

paths = []
nodes = []

@pytest.mark.parametrize("name", ["a/b", "\\u00e9 ?"])
def test_it(name, durable_streams_node, durable_streams_prefix):
    with Client(durable_streams_node.target) as client:
        client.stream(f"{durable_streams_prefix}/chat").create(content_type="text/plain", body=name)
    nodes.append(durable_streams_node)
    paths.append(durable_streams_prefix)

def test_the_others(durable_streams_node):
    assert nodes == [durable_streams_node] * 2
    with Client(durable_streams_node.url) as client:
        listed = [stream.path for stream in client.list(prefix="test_it-")]
    assert sorted(listed) == sorted(f"{path}/chat" for path in paths)
    assert len(listed) == 2
"""


def test_a_node_for_the_run_and_a_path_for_each_test(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    # Where the distribution is installed pytest finds the plugin by itself, and in a source tree it does not.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "durable_streams_client.pytest_plugin", "-W", "error"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
