"""The power rounds catch bugs that are planted; ``python -m tests.planted`` tries them all and prints a table."""

import secrets
from pathlib import Path

import pytest

from tests.planted import catch

LIMIT = 150


@pytest.mark.parametrize("bug", ["reply_before_flush", "wal_switched_without_sync"])
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.token_hex(4)
    caught = catch(bug, tmp_path / bug, seed, LIMIT)
    with capsys.disabled():
        print(f"\n{bug}: seed {seed}, round {caught.rounds}: {caught.what[:300]}")
    assert caught.what, f"seed {seed}: not caught in {LIMIT} rounds"
