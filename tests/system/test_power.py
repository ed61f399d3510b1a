"""Power cuts under load: whatever was acknowledged is there after a restart, exactly once, and the node does start.

POWER_ROUNDS says how many rounds (3; 50 for an acceptance, or ``python -m tests.system.power``), POWER_SEED repeats a
run's choices.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.system.power.lives import attack


def test_power_cuts_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds, seed = int(os.environ.get("POWER_ROUNDS", "3")), os.environ.get("POWER_SEED") or secrets.token_hex(4)
    with capsys.disabled():
        print(f"\nPOWER_ROUNDS={rounds} POWER_SEED={seed}", flush=True)
        figures = attack(rounds, seed, tmp_path)
        print(figures)
    shown = "\n".join(f"- {wrong}" for wrong in figures.wrong[:50])
    assert not figures.wrong, f"POWER_SEED={seed}: {len(figures.wrong)} contradictions\n{shown}"
    assert figures.rounds == rounds
    assert figures.cuts > 0
    assert figures.loss.unsynced > 0
