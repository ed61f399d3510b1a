"""``python -m tests.sim --seed 7`` replays one with all that happened; ``--seeds 200 --from 1000`` runs many."""

import argparse
import subprocess
import sys
import time

from tests.sim import runs
from tests.sim.world import Result, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and show what happened")
    parser.add_argument("--seeds", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--from", dest="first", default="0", help="the first; 'commit': drawn from the commit's hash")
    parser.add_argument("--processes", type=int, help="how many at a time; as many as there are cores")
    parser.add_argument("--first-failure", action="store_true", help="stop there")
    asked = parser.parse_args()
    if asked.seed is not None:
        return replay(asked.seed)
    first = from_commit() if asked.first == "commit" else int(asked.first)
    print(f"seeds {first} to {first + asked.seeds - 1}", flush=True)
    summary, begun, last = runs.Summary(), time.monotonic(), time.monotonic()
    for result in runs.many(range(first, first + asked.seeds), asked.processes):
        summary.add(result)
        if result.wrong:
            print(failure(result), flush=True)
            if asked.first_failure:
                break
        if time.monotonic() - last > 60:
            last = time.monotonic()
            print(f"{summary.seeds} seeds, {last - begun:.0f} s, {len(summary.wrong)} with violations", flush=True)
    print(summary.table())
    print(f"{time.monotonic() - begun:.0f} s")
    missing = summary.missing() if summary.seeds >= 100 else []
    return 1 if summary.wrong or missing else 0


def from_commit() -> int:
    """A number that each commit has for itself, so that all of them together try many seeds."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    return int(head[:8], 16) % 10**8


def failure(result: Result) -> str:
    lines = "\n  ".join(result.wrong[:5])
    return f"seed {result.seed}: {len(result.wrong)} violations; python -m tests.sim --seed {result.seed}\n  {lines}"


def replay(seed: int) -> int:
    runs.prepare()
    result = run(seed, traces=True)
    print("\n".join(result.trace))
    for mark, count in sorted(result.marks.items()):
        print(f"{count:6}  {mark}")
    print(
        f"seed {seed}: {result.nodes} nodes, {result.acked} acknowledged writes, {result.faults} faults, "
        f"{result.simulated_s:.1f} simulated seconds, digest {result.digest:08x}"
    )
    print(failure(result) if result.wrong else "no violation")
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
