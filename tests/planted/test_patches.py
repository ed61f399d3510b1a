"""Every planted bug can still be planted, and says what it is; tests/system/test_planted.py attacks them."""

import compileall
from pathlib import Path

import pytest

from tests.planted import CLUSTER, NODE, plant, story
from tests.server import ROOT


@pytest.mark.parametrize("name", [*NODE, *CLUSTER])
def test_it_applies_and_compiles(tmp_path: Path, name: str) -> None:
    sources = plant(name, tmp_path / "source")
    changed = [
        path
        for path in (sources / "cluster").rglob("*.py")
        if path.read_bytes() != (ROOT / path.relative_to(sources)).read_bytes()
    ]
    assert changed
    assert compileall.compile_dir(str(sources / "cluster"), quiet=1)
    assert len(story(name)) > 80
