"""``python -m tests.system.chaos --kind kill,pause --minutes 5``: faults under load, a history, and a verdict.

Exit code 1 when something was promised and not kept; then history and data stay in the folder.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.system.chaos.kinds import ALL, KINDS
from tests.system.chaos.run import HEADER, Verdict, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__)
    parser.add_argument("--kind", default="kill,pause,term", help=f"some of: {', '.join(KINDS)}; or all")
    parser.add_argument("--minutes", type=float, default=5.0, help="of all kinds together")
    parser.add_argument("--times", type=int, default=0, help="faults of each kind, in place of --minutes")
    parser.add_argument("--nodes", type=int, default=3, choices=[3, 5])
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats a run's choices, not its timing")
    parser.add_argument("--folder", type=Path, help="where histories and data are; they stay there")
    options = parser.parse_args()
    chosen = list(ALL) if options.kind == "all" else options.kind.split(",")
    if unknown := [each for each in chosen if each not in KINDS]:
        parser.error(f"no kind is named {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"--kind {','.join(chosen)} --nodes {options.nodes} --seed {options.seed} --folder {folder}", flush=True)
    verdicts: list[Verdict] = []
    reasons = {name: KINDS[name].world.missing() for name in chosen}
    for name in (each for each in chosen if not reasons[each]):
        print(f"\n{name}", flush=True)
        seconds = options.minutes * 60 / len(chosen)
        verdicts.append(
            asyncio.run(
                run(
                    name,
                    KINDS[name],
                    options.nodes,
                    folder / name,
                    options.seed,
                    seconds=seconds,
                    times=options.times,
                    say=lambda line: print(line, flush=True),
                )
            )
        )
    print(f"\n{HEADER}")
    for verdict in verdicts:
        print(verdict)
    for name, reason in reasons.items():
        if reason:
            print(f"| {name} | did not run: {reason} |")
    wrong = [f"{each.kind}: {what}" for each in verdicts for what in (*each.wrong, *each.other, *each.late)]
    for each in wrong[:100]:
        print(f"- {each}")
    if not wrong and options.folder is None:
        shutil.rmtree(folder)
    print("KEPT" if not wrong else f"BROKEN: see {folder}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
