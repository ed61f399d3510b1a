"""``python -m tests.system.power --rounds 50 --seed X``: a line for each round, figures, and a verdict."""

import argparse
import collections
import dataclasses
import random
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.server import ROOT
from tests.system.power.cut import Loss
from tests.system.power.rounds import PowerRounds, PowerServer

LONGEST_LIFE = 8
"""Rounds on one data directory before the next begins: what only a new directory can lose is tried again and again."""


@dataclasses.dataclass(slots=True)
class Figures:
    """Sums over all lives."""

    rounds: int = 0
    lives: int = 0
    restarts: int = 0
    cuts: int = 0
    streams: int = 0
    duplicates: int = 0
    sent_again: int = 0
    loss: Loss = dataclasses.field(default_factory=Loss)
    kills: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    acknowledged: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    unknown: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.rounds} rounds on {self.lives} data directories: {self.cuts} power cuts, "
                f"{self.restarts} starts, {self.streams} streams checked",
                f"acknowledged: {sum(self.acknowledged.values())} {dict(self.acknowledged)}",
                f"cut off, outcome unknown: {dict(self.unknown)}",
                f"sent again: {self.duplicates} acknowledged batches answered as duplicates, {self.sent_again} unknown",
                f"killed: {dict(self.kills)}",
                str(self.loss),
                f"contradictions: {len(self.wrong)}",
            ]
        )


def attack(
    rounds: int, seed: str, folder: Path, *, sources: Path = ROOT, say: Callable[[str], None] = print
) -> Figures:
    """So many rounds, on one data directory after the other; ends at the first contradiction."""
    figures, chance = Figures(), random.Random(f"lives/{seed}")
    while figures.rounds < rounds and not figures.wrong:
        planned = min(chance.randint(1, LONGEST_LIFE), rounds - figures.rounds)
        place = folder / f"life-{figures.lives}"
        say(f"data directory {figures.lives}")
        life = PowerRounds(PowerServer(place, sources), f"{seed}/{figures.lives}")
        report = life.run_all(planned, say)
        figures.lives += 1
        figures.rounds += report.rounds
        figures.restarts += report.restarts
        figures.cuts += life.cuts
        figures.streams += report.streams
        figures.duplicates += report.duplicates
        figures.sent_again += report.sent_again
        figures.loss.add(life.loss)
        figures.kills.update(life.kills)
        figures.acknowledged.update(report.acknowledged)
        figures.unknown.update(report.unknown)
        figures.wrong += report.wrong
        if not figures.wrong:
            shutil.rmtree(place)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.power", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats a run's choices, not its timing")
    parser.add_argument("--folder", type=Path, help="where the data is; it stays there after a contradiction")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="power-"))
    print(f"--rounds {options.rounds} --seed {options.seed} --folder {folder}", flush=True)
    figures = attack(options.rounds, options.seed, folder, say=lambda line: print(line, flush=True))
    print(figures)
    for wrong in figures.wrong[:50]:
        print(f"- {wrong}")
    if not figures.wrong and options.folder is None:
        shutil.rmtree(folder)
    print("KEPT" if not figures.wrong else f"BROKEN: see {folder}")
    return int(bool(figures.wrong))


if __name__ == "__main__":
    sys.exit(main())
