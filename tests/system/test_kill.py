"""kill -9 under load: whatever was acknowledged is there after a restart, exactly once.

KILL_ROUNDS says how many rounds (10; 100 for an acceptance), KILL_SEED repeats a run's choices.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.server import Server
from tests.system.kill.rounds import Rounds


def test_kill_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds, seed = int(os.environ.get("KILL_ROUNDS", "10")), os.environ.get("KILL_SEED") or secrets.token_hex(4)
    with capsys.disabled():
        print(f"\nKILL_ROUNDS={rounds} KILL_SEED={seed}", flush=True)
    server = Server(tmp_path)
    try:
        report = Rounds(server, seed).run(rounds)
    finally:
        if server.process is not None and server.process.running:
            server.kill()
    with capsys.disabled():
        print(report)
    shown = "\n".join(f"- {wrong}" for wrong in report.wrong[:50])
    assert not report.wrong, f"KILL_SEED={seed}: {len(report.wrong)} contradictions\n{shown}"
    assert report.rounds == rounds
    assert min(report.acknowledged[kind] for kind in ("create", "append", "producer batch")) > 0
    assert report.duplicates > 0
