"""Every data directory that ever landed opens, and shows what was stored."""

import asyncio
import shutil
from pathlib import Path

import pytest

from durable_streams_cluster.storage.codecs import FORMAT
from durable_streams_cluster.streams.outcomes import Appended
from tests.compat.content import append, described, streams_in

HERE = Path(__file__).parent
VERSIONS = sorted(HERE.glob("v*"))


def test_the_present_version_is_among_them() -> None:
    assert HERE / f"v{FORMAT}" in VERSIONS, "python -m tests.compat writes it"


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_opens_and_shows_what_was_stored(version: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(version / "data", data)
    expected = (version / "content.jsonl").read_text()
    assert described(data) == expected
    assert described(data) == expected, "also after this build has written to it"


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_takes_appends(version: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(version / "data", data)

    async def go() -> None:
        async with streams_in(data) as streams:
            assert isinstance(await streams.append(append("produced", b"more")), Appended)

    asyncio.run(go())
    assert '"more"' in described(data)
