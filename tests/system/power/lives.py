"""An attack: rounds on one data directory, then on the next, and the figures of all."""

import collections
import dataclasses
import random
import shutil
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
    probes: int = 0
    suspicious: int = 0
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
                f"{self.rounds} rounds on {self.lives} data directories: {self.cuts} power cuts, {self.probes} other "
                f"outcomes opened ({self.suspicious} moments were suspicious), {self.restarts} starts, "
                f"{self.streams} streams checked",
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
        figures.probes += life.probes
        figures.suspicious += life.suspicious
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
