"""The official suite: all of it, against our server."""

from pathlib import Path

import pytest

from tests.conformance import runner
from tests.server import running_server


def test_official_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_server("--long-poll-timeout", "500ms", folder=tmp_path) as server:
        outcome = runner.run(server.url)
    with capsys.disabled():
        print(f"\n{outcome}")
    assert outcome.green, "\n\n".join(outcome.problems)
