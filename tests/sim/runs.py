"""Many seeds on all cores, and what they came to."""

import gc
import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.sim.world import Result, run

COLLECT_EVERY = 8
EXPECTED = (
    *("kill", "power cut", "power cut of all", "term", "pause", "partition", "one way partition", "pair cut", "reset"),
    *(
        "unlucky leaders",
        "figure eight",
        "contested elections",
        "hand overs",
        "voter between",
        "clog",
        "slow disk",
        "stalled disk",
        "write stall",
        "write hiccups",
        "disk error",
        "wall jump",
        "crash with loss",
        "flush",
    ),
    *("message lost", "message doubled", "message late", "leader change", "truncation", "transfer", "compaction"),
    *("snapshot sent", "snapshot installed", "stepped down: majority", "stepped down: disk"),
    *("comes", "goes", "replace", "replaced", "move", "wiped disk", "damaged disk", "damage found", "repaired"),
    "snapshot cut short",
    *("refused", "unknown outcome", "expired", "given twice", "live read went on elsewhere"),
)
"""Each stands in a twentieth of the seeds at least: else the simulation does not try what it says."""
LEAST_SHARE, OF_FEW = 0.05, 0.01
"""Of a thousand seeds or more, and of fewer, where chance has more to say."""


def prepare() -> None:
    """Nothing a seed leaves is looked through for garbage while another runs."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    gc.collect()
    gc.freeze()


def one(seed: int) -> Result:
    """One seed, in a process that was prepared."""
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    return run(seed)


def many(seeds: Iterable[int], processes: int | None = None) -> Iterator[Result]:
    """All of them, as they end."""
    with multiprocessing.get_context("forkserver").Pool(processes or os.cpu_count(), prepare) as pool:
        yield from pool.imap_unordered(one, seeds, chunksize=4)


class Summary:
    """Of many seeds."""

    def __init__(self) -> None:
        self.seeds = self.acked = self.faults = 0
        self.simulated_s = 0.0
        self.marks: Counter[str] = Counter()
        """In how many seeds each was seen."""
        self.wrong: list[Result] = []

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.acked += result.acked
        self.faults += result.faults
        self.simulated_s += result.simulated_s
        self.marks.update(mark for mark, count in result.marks.items() if count)
        if result.wrong:
            self.wrong.append(result)

    def missing(self) -> list[str]:
        """What was expected to be seen, and hardly was."""
        share = LEAST_SHARE if self.seeds >= 1000 else OF_FEW
        return [mark for mark in EXPECTED if self.marks[mark] < self.seeds * share]

    def table(self) -> str:
        """For people."""
        rows = [f"{'seen in seeds':>13}  what"]
        rows += [f"{count / self.seeds:>13.1%}  {mark}" for mark, count in sorted(self.marks.items())]
        rows += [f"{'too seldom':>13}  {mark}" for mark in self.missing()]
        rows.append(
            f"{self.seeds} seeds, {self.acked} acknowledged writes, {self.faults} faults, "
            f"{self.simulated_s / 3600:.1f} simulated hours, {len(self.wrong)} with violations"
        )
        return "\n".join(rows)
