"""Each kind of chaos for a moment; ``make chaos`` and ``python -m tests.system.chaos`` go on for as long as wanted.

CHAOS_SEED repeats a run's choices, not its timing. Networks of their own take root.
"""

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from tests.history.checker import check
from tests.history.records import Op, line
from tests.system.chaos.kinds import ALL, KINDS
from tests.system.chaos.run import COLUMNS, Verdict, run

SEED = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
TWICE = ("kill", "pause", "term", "partition", "flip", "grow", "rolling")


@pytest.mark.parametrize("name", ALL)
def test_a_cluster_keeps_what_it_promised(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[name]
    assert not kind.world.missing(), "make test-system installs it, as root"
    said: list[str] = []
    times = 2 if name in TWICE else 1
    verdict = asyncio.run(run(name, kind, 3, tmp_path, SEED, times=times, hurry=True, say=said.append))
    with capsys.disabled():
        print("", f"CHAOS_SEED={SEED} {name}", *said, verdict, *verdict.late, sep="\n", flush=True)
    wrong = [*verdict.wrong, *verdict.other]
    assert not wrong, "\n".join([f"CHAOS_SEED={SEED}", *wrong[:50]])
    assert len(verdict.injections) == times
    assert sum(op.outcome == "acked" for op in verdict.ops if op.writes) > 300


def history(*content: str, told: tuple[str, ...] = ("a", "b", "c")) -> list[Op]:
    """Appends that were acknowledged one after the other, as ``told``, and a read that finds ``content``."""
    ops = [Op(kind="create", path="s", sent=0.1, answered=0.2, outcome="acked", next=at(0))]
    for number, each in enumerate(told, 1):
        op = Op(kind="append", path="s", client=each, sent=number, answered=number + 0.5, outcome="acked")
        op.body, op.next = line(each), at(number * len(line("a")))
        ops.append(op)
    body = "".join(map(line, content))
    read = Op(kind="read", path="s", sent=10.0, answered=11.0, outcome="acked", start=at(0), next=at(len(body)))
    read.body, read.up_to_date = body, True
    return [*ops, read]


def at(position: int) -> str:
    return f"{1:016d}_{position:016d}"


@pytest.mark.parametrize(
    ("content", "broken"),
    [("abc", ""), ("ab", "lost"), ("abca", "duplicated"), ("acb", "reordered"), ("axc", "lost")],
)
def test_the_table_says_which_promise_was_broken(content: str, broken: str) -> None:
    ops = history(*content)
    row = dict(zip(COLUMNS, Verdict("kind", 3, ops, [], check(ops), []).row(), strict=True))
    found = {name for name in ("lost", "duplicated", "reordered") if row[name] != "0"}
    assert broken in found if broken else not found
