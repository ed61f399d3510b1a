"""``python -m tests.planted``: attack every planted bug; a table of what caught it, and after how many rounds.

``docs/planted-bugs.md`` has such a table.
"""

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.planted import CLUSTER, NODE, catch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("bugs", nargs="*", metavar="BUG", choices=[[], *CLUSTER, *NODE], default=[])
    parser.add_argument(
        "--rounds", type=int, default=200, help="or seeds, at most (default %(default)s); 0: scripts alone"
    )
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--processes", type=int, default=0, help="seeds at a time; as many as there are cores")
    options = parser.parse_args()
    print(f"--rounds {options.rounds} --seed {options.seed}", flush=True)
    rows, missed = [], 0
    with tempfile.TemporaryDirectory(prefix="planted-") as place:
        for bug in options.bugs or (*CLUSTER, *NODE):
            began = time.monotonic()
            caught = catch(
                bug, Path(place) / bug, options.seed, options.rounds, say=lambda _: None, cores=options.processes
            )
            missed += not caught.what
            rows.append((bug, caught, time.monotonic() - began))
            print(f"{bug}: {caught.rounds or 'scripts'}: {caught.what or 'MISSED'}\n", flush=True)
    print("| bug | rounds or seeds | seconds | caught by |\n|---|---|---|---|")
    for bug, caught, seconds in rows:
        shown = " ".join(caught.what.split())[:100] or "nothing"
        print(f"| {bug.replace('_', ' ')} | {caught.rounds or 'script'} | {seconds:.0f} | {shown} |")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
