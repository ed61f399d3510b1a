"""Five hundred readers that read nothing, a thousand half-open requests and heads of 20 MB at once, and a real node.

What the others wait for meanwhile is measured by ``python -m benchmarks.attack``; here memory counts, and that every
request of a client that behaves is answered well.
"""

import argparse
from pathlib import Path

from benchmarks.attack import scenarios
from benchmarks.attack.__main__ import make, run
from tests.server import Server, running

READERS = 500
MOST_MB = 64
"""Megabytes of resident memory, or of the kernel's for TCP, that this may cost."""


def test_an_attack_costs_little_memory_and_nobody_else_an_answer(tmp_path: Path) -> None:
    options = argparse.Namespace(quiet=1.0, seconds=5.0, ceiling=1000.0)
    attack = scenarios.all_scenarios(READERS, generation="0" * 16)["acceptance"]
    with running(Server(tmp_path)) as server:
        make(server.ports["http"], scenarios.HOT, scenarios.CALM)
        row = run(server, "acceptance", attack, options)
    assert row.attackers["hot"]["opened"] >= READERS
    assert row.refused["431"] > 0
    assert row.growth_mb < MOST_MB
    assert row.kernel_mb < 2 * MOST_MB, "the kernel's buffers of 500 readers"
    assert row.attack["failed"] == {}
    assert row.attack["append"]["count"] > 0
    assert row.attack["delivery"]["count"] > 0
