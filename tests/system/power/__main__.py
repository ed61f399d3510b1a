"""``python -m tests.system.power --rounds 50 --seed X``: a line for each round, figures, and a verdict."""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.system.power.lives import attack


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
