"""npm @durable-streams/client: one script per subject, run by Node."""

from pathlib import Path

import pytest

from tests import npm

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "command",
    [["basics.mjs"], ["tail.mjs", "long-poll"], ["tail.mjs", "sse"], ["producer.mjs"], ["resend.mjs"]],
    ids=" ".join,
)
def test_script(base_url: str, command: list[str]) -> None:
    script, *arguments = command
    said = npm.run_script(HERE / script, [base_url, *arguments])
    print(said)
    assert said.splitlines()[-1] == "ok"
