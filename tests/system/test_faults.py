"""Every kind of fault once, into a node under load; ``python -m tests.system.faults`` injects each as often as wanted.

FAULTS_SEED repeats a run's choices. Two kinds mount a small file system, which takes root.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.system.faults.kinds import KINDS

SEED = os.environ.get("FAULTS_SEED") or secrets.token_hex(4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_answered_as_promised(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = KINDS[kind](tmp_path, SEED)
    with capsys.disabled():
        print(f"\nFAULTS_SEED={SEED} {kind}: {answer}", flush=True)
    assert answer
