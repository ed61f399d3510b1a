"""python -m tests.conformance [--url http://127.0.0.1:4437] [--runs N]: starts our server when no address is given."""

import argparse
import contextlib
import sys

from tests.conformance import runner
from tests.server import running_server


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--url", help="base address of a running server with a long-poll timeout of 500 ms")
    parser.add_argument("--runs", type=int, default=1, help="how often, one after another (default 1)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(running_server("--long-poll-timeout", "500ms")).url
        outcomes = []
        for number in range(1, options.runs + 1):
            outcome = runner.run(url)
            outcomes.append(outcome)
            print(f"run {number} of {options.runs}, {outcome.seconds:.1f} s, {'green' if outcome.green else 'RED'}")
            for problem in outcome.problems:
                print(f"- {problem}")
            print(outcome, flush=True)
        return 0 if outcomes and all(outcome.green for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
