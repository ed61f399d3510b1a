"""python -m benchmarks: our server beside the npm reference server, in rounds that take turns, in one run."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.contenders import Contender, contenders
from benchmarks.table import medians, print_table
from tests.server import running

CACHE = load.ROOT / ".cache" / "bench"
CONNECTIONS = (1, 32, 128)
STREAMS = (1, 128)
MEGABYTES = 20
MESSAGES = 100
Results = dict[str, dict[str, list[dict[str, float]]]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are taken (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each append load (default 3)")
    parser.add_argument("--readers", type=int, default=1_000, help="SSE readers of one stream (default 1000)")
    parser.add_argument(
        "--loads", nargs="+", choices=["appends", "catch-up", "fan-out", "syncs"], help="only these loads"
    )
    parser.add_argument("--servers", nargs="+", choices=["ours", "memory", "files"], default=[], help="only these")
    parser.add_argument("--out", type=Path, help="the JSON file (default: .cache/bench/TIME.json)")
    return parser.parse_args()


@contextlib.contextmanager
def started(servers: set[str]) -> Iterator[list[Contender]]:
    """Every server runs for the whole time, idle while it is another's turn; their data is on the repository's disk."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=CACHE)))
        found = contenders(folder, servers)
        for contender in found:
            stack.enter_context(running(contender.server))
        yield found


def measure(options: argparse.Namespace, found: list[Contender]) -> Results:
    loads = set(options.loads or ["appends", "catch-up", "fan-out", "syncs"])
    results: Results = {}

    def note(row: str, contender: Contender, figures: dict[str, float] | None) -> None:
        if figures is not None:
            results.setdefault(row, {}).setdefault(contender.name, []).append(figures)
            print(f"  {row:42} {contender.name:7} {figures.get('rate', 0):12,.0f}", file=sys.stderr, flush=True)

    for contender in found:
        for streams in STREAMS:
            load.make_streams(contender, f"bench/{streams}/", streams)
        load.appends(contender, "bench/1/", 1, 32, 1)
        if "catch-up" in loads:
            load.fill(contender, "bench/catch-up", MEGABYTES)
    for number in range(options.rounds):
        turn = found[number % len(found) :] + found[: number % len(found)]
        for streams in STREAMS if "appends" in loads else ():
            for connections in CONNECTIONS:
                row = f"appends/s, {_count(streams, 'stream')}, {_count(connections, 'connection')}"
                for contender in turn:
                    figures = load.appends(contender, f"bench/{streams}/", streams, connections, options.seconds)
                    note(row, contender, figures)
        for contender in turn if "catch-up" in loads else ():
            figures = load.catch_up(contender, "bench/catch-up", MEGABYTES)
            note(f"catch-up of {MEGABYTES} MB, MB/s", contender, figures)
        # The reference on files does not deliver to 1,000 readers within a minute (to 10 it does): it sits this out.
        for contender in (each for each in turn if "fan-out" in loads and each.name != "files"):
            figures = load.fan_out(contender, f"bench/fan-out-{number}", options.readers, MESSAGES)
            note(f"deliveries/s to {options.readers} SSE readers", contender, figures)
    for connections in CONNECTIONS if "syncs" in loads else ():
        for contender in found:
            report = contender.server.folder / "strace.txt"
            figures = load.traced_syncs(contender, "bench/1/", connections, report)
            note(f"traced: 1 stream, {_count(connections, 'connection')}", contender, figures)
    return results


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def main() -> int:
    options = arguments()
    load.need_wrk()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65_536)), hard))
    begun = time.monotonic()
    with started(set(options.servers)) as found:
        results = measure(options, found)
    when = datetime.datetime.now(datetime.UTC)
    report: dict[str, Any] = {
        "when": when.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begun),
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "options": {"rounds": options.rounds, "seconds": options.seconds, "readers": options.readers},
        "servers": {contender.name: contender.title for contender in found},
        "medians": medians(results),
        "rounds": results,
    }
    place = options.out or CACHE / f"{when:%Y%m%dT%H%M%SZ}.json"
    place.write_text(json.dumps(report, indent=1) + "\n")
    print_table(report)
    print(f"\n{report['seconds']} s; every round is in {os.path.relpath(place)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
