"""npm @durable-streams/client: one script per subject, run by Node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import npm
from tests.server import Server, running_server

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--long-poll-timeout", "500ms") as running:
        yield running


@pytest.mark.parametrize(
    "command",
    [["basics.mjs"], ["tail.mjs", "long-poll"], ["tail.mjs", "sse"], ["producer.mjs"], ["resend.mjs"]],
    ids=" ".join,
)
def test_script(server: Server, command: list[str]) -> None:
    script, *arguments = command
    said = npm.run_script(HERE / script, [server.url, *arguments])
    print(said)
    assert said.splitlines()[-1] == "ok"
