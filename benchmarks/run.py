"""python -m benchmarks: the table of benchmarks/README.md, in rounds that take turns.

Every server of a part runs for as long as that part takes, idle while it is another's turn. Ours alone unless --peers.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import load, single, three
from benchmarks.contenders import contenders
from benchmarks.etcd import running_etcd
from benchmarks.nats import running_nats
from benchmarks.redis import running_redis
from benchmarks.report import Rounds, markdown, medians, plots
from benchmarks.rows import Figures, Row, Verdict, verdicts
from benchmarks.wrk import wrk
from tests.cluster import running_cluster
from tests.server import LOOPBACK, ReferenceServer, free_ports, running

CACHE = load.ROOT / ".cache" / "bench"
PEERS = ("memory", "files", "redis", "etcd", "nats")
NEEDS = {"redis": "redis-server", "etcd": "etcd", "nats": "nats-server"}
"""Programs."""
SYNCED = 200
Part = Callable[[contextlib.ExitStack, Path, argparse.Namespace], Sequence[Row]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--peers", nargs="+", choices=[*PEERS, "all"], default=[], help="beside ours (default none)")
    parser.add_argument("--rows", nargs="+", default=[], help="only rows whose number begins so, as: 1 4 10")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are taken (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each take (default 3)")
    parser.add_argument("--megabytes", type=int, default=200, help="of row 9 (default 200; the table has 1000)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a second: whether it runs, and about how fast"
    )
    parser.add_argument("--out", type=Path, help="where the JSON file and the plots go (default .cache/bench/TIME)")
    options = parser.parse_args()
    if "all" in options.peers:
        options.peers = list(PEERS)
    if options.quick:
        options.rounds, options.seconds, options.megabytes = 1, 1.0, 20
    return options


def need(peers: Sequence[str]) -> None:
    """Say at once what is missing."""
    programs = ["wrk", *(NEEDS[peer] for peer in peers if peer in NEEDS)]
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if missing:
        raise SystemExit(f"not here: {', '.join(missing)}; `make bench PEERS=all` installs them")


def one_node(stack: contextlib.ExitStack, folder: Path, options: argparse.Namespace) -> Sequence[Row]:
    """Rows 1 to 3 and 7 to 11."""
    found = contenders(folder, {"ours", *options.peers})
    for contender in found:
        stack.enter_context(running(contender.server))
    redis = stack.enter_context(running_redis(folder / "redis")) if "redis" in options.peers else None
    return list(single.rows({each.name: each for each in found}, redis, options.megabytes))


def three_nodes(stack: contextlib.ExitStack, folder: Path, options: argparse.Namespace) -> Sequence[Row]:
    """Rows 4, 5, 11 and 12."""
    cluster = stack.enter_context(running_cluster(folder=folder / "cluster"))
    etcd = stack.enter_context(running_etcd(folder / "etcd")) if "etcd" in options.peers else None
    files = contenders(folder, {"files"})[0] if "files" in options.peers else None
    if files is not None:
        assert isinstance(stack.enter_context(running(files.server)), ReferenceServer)
    return list(three.rows(cluster, etcd, files))


def producers(stack: contextlib.ExitStack, folder: Path, options: argparse.Namespace) -> Sequence[Row]:
    """Row 6."""
    cluster = stack.enter_context(running_cluster(folder=folder / "cluster"))
    nats = stack.enter_context(running_nats(folder / "nats")) if "nats" in options.peers else None
    producing = three.Producing(cluster, nats)
    stack.callback(producing.close)
    return list(producing.rows())


PARTS: dict[Part, tuple[str, ...]] = {
    one_node: ("1", "1b", "2", "3", "7", "8", "9", "10", "11, one"),
    three_nodes: ("4", "5", "11, 3", "12"),
    producers: ("6",),
}


def wanted(number: str, rows: Sequence[str]) -> bool:
    return not rows or any(number.partition(",")[0].rstrip("b") == row for row in rows)


def take(rows: Sequence[Row], options: argparse.Namespace, found: dict[str, dict[str, list[Figures]]]) -> None:
    """All rounds of the rows of a part."""
    for number in range(options.rounds):
        for row in rows if number == 0 else [each for each in rows if not each.once]:
            names = list(row.takes)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                figures = row.takes[name](options.seconds)
                found.setdefault(row.number, {}).setdefault(name, []).append(figures)
                print(f"  {row.number:12} {name:14} {figures['rate']:14,.2f} {row.unit}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def noop() -> Iterator[str]:
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "benchmarks.noop", str(port)]
    with subprocess.Popen(command, cwd=load.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield f"http://{LOOPBACK}:{port}"
        finally:
            child.terminate()


def ceiling(seconds: float) -> float:
    """Appends a second that the load asks of a server that does nothing."""
    with noop() as url:
        return wrk([url], "append.lua", ["/v1/stream/x", "1"], 128, seconds)["rate"]


def sync_ms(folder: Path) -> float:
    """How long the disk takes to sync one small write: median, milliseconds."""
    times = []
    with (folder / "syncs").open("wb", buffering=0) as file:
        for _ in range(SYNCED):
            file.write(b"x" * load.SIZE)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return sorted(times)[SYNCED // 2] * 1e3


def main() -> int:
    options = arguments()
    need(options.peers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65_536)), hard))
    when = datetime.datetime.now(datetime.UTC)
    place = options.out or CACHE / f"{when:%Y%m%dT%H%M%SZ}"
    place.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    rows: list[Row] = []
    found: dict[str, dict[str, list[Figures]]] = {}
    with tempfile.TemporaryDirectory(prefix="data-", dir=place) as scratch:
        machine = {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "sync_ms": sync_ms(Path(scratch)),
            "ceiling": ceiling(options.seconds),
        }
    for part, numbers in PARTS.items():
        if not any(wanted(number, options.rows) for number in numbers):
            continue
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=place)))
            mine = [row for row in part(stack, folder, options) if wanted(row.number, options.rows)]
            take(mine, options, found)
            rows += mine
    judged = {row.number: verdicts(row, medians(found[row.number])) for row in rows}
    save(place, when, machine, options, found, judged)
    table = markdown(rows, found, judged)
    print(f"{machine['cpus']} cores; one sync of the disk takes {machine['sync_ms']:.2f} ms.")
    print(f"A server that does nothing answers the load {machine['ceiling']:,.0f} times a second.")
    print(f"Medians of {options.rounds} rounds of {options.seconds:g} s.\n")
    print(table)
    made = plots(rows, found, place)
    print(
        f"\n{time.monotonic() - begun:.0f} s; all rounds{' and plots' if made else ''} are in {os.path.relpath(place)}"
    )
    return 0


def save(
    place: Path,
    when: datetime.datetime,
    machine: Mapping[str, object],
    options: argparse.Namespace,
    found: Rounds,
    judged: dict[str, list[Verdict]],
) -> None:
    report = {
        "when": when.isoformat(timespec="seconds"),
        "machine": machine,
        "options": {"rounds": options.rounds, "seconds": options.seconds, "megabytes": options.megabytes},
        "medians": {number: medians(rounds) for number, rounds in found.items()},
        "targets": {
            number: [{"target": each.target, "reached": each.reached, "met": each.met} for each in verdicts_]
            for number, verdicts_ in judged.items()
        },
        "rounds": found,
    }
    (place / "figures.json").write_text(json.dumps(report, indent=1) + "\n")
