"""The stream machine's rules as scripts, each run in turns of several lengths, with the same output and disk."""

from pathlib import Path

import pytest

from tests.datadriven import run_script, scripts
from tests.streams.harness import Script

TURN_LENGTHS = (1, 3, None)


@pytest.mark.parametrize("path", scripts(__file__), ids=lambda path: path.stem)
def test_script(path: Path, rewrite: bool) -> None:
    disks = []
    for turn_length in TURN_LENGTHS:
        script = Script(turn_length)
        run_script(path, script.handle, rewrite=rewrite and turn_length == 1)
        script.end_turn(content_of_all=True)
        disks.append(script.stored())
    assert all(disk == disks[0] for disk in disks), "how commands fall into turns must not show on disk"
