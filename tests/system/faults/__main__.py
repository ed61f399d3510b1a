"""``python -m tests.system.faults --times 20 [--only KIND] [--seed X]``: injects each kind so often, at random moments
under load, and prints what the node answered, as the table of docs/faults.md. Exit code 1 after a contradiction.
"""

import argparse
import collections
import dataclasses
import secrets
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from tests.system.faults.kinds import KINDS, Inject
from tests.system.faults.life import ContradictionError


@dataclasses.dataclass(slots=True)
class Verdict:
    """What became of one kind."""

    kind: str
    times: int = 0
    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """A row of the table."""
        told = "<br>".join(f"{count} times: {answer}" for answer, count in self.answers.most_common())
        return f"| {self.kind} | {self.times} | {told} | {len(self.wrong)} |"


HEADER = "| fault | times | answer | contradictions |\n|---|---|---|---|"


def attack(kind: str, inject: Inject, times: int, seed: str, folder: Path) -> Verdict:
    """Inject one kind so often, each time into a node of its own; what contradicts stays in ``folder``."""
    verdict = Verdict(kind)
    for number in range(times):
        name = "".join(letter if letter.isalnum() else "-" for letter in kind)
        place = folder / f"{name}-{number}"
        place.mkdir(parents=True)
        verdict.times += 1
        try:
            answer = inject(place, f"{seed}-{name}-{number}")
        except ContradictionError as error:
            verdict.wrong.append(f"{place}: {error}")
        except Exception:  # a harness that fails has proven nothing
            verdict.wrong.append(f"{place}: {traceback.format_exc()}")
        else:
            verdict.answers[answer] += 1
            shutil.rmtree(place)
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", default="", help="kinds whose names contain this")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats a run's choices, not its timing")
    parser.add_argument("--folder", type=Path, help="where the data is; what contradicts stays there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"--times {options.times} --seed {options.seed} --folder {folder}", flush=True)
    chosen = {kind: inject for kind, inject in KINDS.items() if options.only in kind}
    if not chosen:
        parser.error(f"no kind is named so: {', '.join(KINDS)}")
    print(HEADER, flush=True)
    verdicts = []
    for kind, inject in chosen.items():
        verdicts.append(attack(kind, inject, options.times, options.seed, folder))
        print(verdicts[-1], flush=True)
    wrong = [each for verdict in verdicts for each in verdict.wrong]
    for each in wrong:
        print(f"- {each}")
    if not wrong and options.folder is None:
        shutil.rmtree(folder)
    print("KEPT" if not wrong else f"BROKEN: see {folder}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
