"""python -m benchmarks.attack: memory, other clients' latencies and what was cut, before, during and after each attack.

Each attack meets a node that was just started on the same data: what malloc keeps of one attack is not hidden from the
next. Ratios are within one such run. Loopback only; the attack ends early when the node has grown by --ceiling.
"""

import argparse
import contextlib
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.attack import scenarios as s
from benchmarks.attack.watch import Memory, refusals
from benchmarks.attack.wire import Client, get, post
from tests.server import ROOT, Server, running

SETTLED = 1.5
"""Of the quiet p99: what counts as recovered."""


class Child:
    """A process of the attack, spoken to by lines."""

    def __init__(self, module: str, *words: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.attack.{module}", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait(20)}")
        return json.loads(line)

    def ask(self) -> Any:
        self.say("report")
        return self.hear()

    def end(self) -> Any:
        """Close its input; what it says to that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        text = self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait(30)
        return json.loads(text) if text else {}

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Writer(threading.Thread):
    """Appends to the hot stream, at the same pace before, during and after."""

    def __init__(self, port: int, size: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.client, self.body, self.rate = Client(port), b"w" * size, rate
        self.done = threading.Event()
        self.failed = 0

    def run(self) -> None:
        while not self.done.wait(1 / self.rate):
            try:
                self.failed += self.client.ask(post(s.HOT, self.body))[0] != 204
            except OSError:
                self.failed += 1

    def stop(self) -> None:
        self.done.set()
        self.join()
        self.client.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attack", description=__doc__)
    parser.add_argument("--readers", type=int, default=500, help="hostile readers; twice as many half-open requests")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each attack (default 15)")
    parser.add_argument("--quiet", type=float, default=6.0, help="seconds of the measurement before it (default 6)")
    parser.add_argument("--ceiling", type=float, default=2000.0, help="MB of growth that end an attack (default 2000)")
    parser.add_argument("--only", nargs="+", help="only these attacks")
    parser.add_argument("--out", type=Path, help="a JSON file for all that was seen")
    return parser.parse_args()


def make(port: int, *paths: str) -> None:
    """Make empty streams."""
    client = Client(port)
    for path in paths:
        kind = "application/octet-stream" if path == s.LARGE else "text/plain"
        assert client.ask(post(path, b"", "PUT", kind))[0] == 201
    client.close()


def fill(port: int) -> str:
    """Make the streams; answers the generation that their offsets begin with."""
    make(port, s.PAGES, s.SMALL, s.LARGE, s.HOT, s.CALM)
    client = Client(port)
    for path, appends, size in ((s.PAGES, s.PAGE_APPENDS, s.PAGE_BYTES), (s.SMALL, s.SMALL_APPENDS, s.SMALL_BYTES)):
        request = post(path, b"." * size)
        for _ in range(0, appends, 25):
            client.open().sendall(request * 25)
            for _ in range(25):
                assert client._answer()[0] == 204
    for _ in range(s.LARGE_APPENDS):
        body = b"." * s.LARGE_BYTES
        status, headers, _ = client.ask(post(s.LARGE, body, kind="application/octet-stream"))
        assert status == 204, status
    client.close()
    return headers["stream-next-offset"].partition("_")[0]


def warm(port: int) -> None:
    """Read everything once, so that no cache of the store grows later."""
    client = Client(port)
    for path in (s.PAGES, s.SMALL, s.LARGE):
        at, done = s.START, False
        while not done:
            status, headers, _ = client.ask(get(path, f"offset={at}"))
            assert status == 200, status
            at, done = headers["stream-next-offset"], "stream-up-to-date" in headers
    client.close()


@dataclasses.dataclass
class Row:
    name: str
    quiet: dict[str, Any]
    attack: dict[str, Any]
    after: dict[str, Any]
    start_mb: float
    growth_mb: float
    end_mb: float
    after_mb: float
    kernel_mb: float
    stopped: bool
    refused: dict[str, float]
    attackers: dict[str, dict[str, int]]
    recovery_s: float


def run(server: Server, name: str, groups: list[s.Group], options: argparse.Namespace) -> Row:
    port = server.ports["http"]
    assert server.process is not None
    children: list[Child] = []
    writer = Writer(port, *s.WRITES.get(name, (100, 1)))
    memory = Memory(server.process.pid, 1e9)
    try:
        writer.start()
        memory.start()
        bystander = Child("bystander", str(port), s.CALM, s.HOT)
        children.append(bystander)
        time.sleep(1.5)
        bystander.ask()
        time.sleep(options.quiet)
        quiet = bystander.ask()
        memory.restart()
        start = memory.now
        kernel = memory.kernel
        memory.ceiling_mb = start + options.ceiling
        before = refusals(server)
        attackers = Child("attackers", str(port))
        children.append(attackers)
        attackers.say(json.dumps({"groups": groups, "ramp_s": 2.0}))
        stopped = memory.burst.wait(options.seconds)
        end = memory.now
        seen = attackers.end()
        left = time.monotonic()
        attack = bystander.ask()
        refused = {key: count - before.get(key, 0) for key, count in refusals(server).items()}
        peak, kernel_peak = memory.peak, memory.kernel_peak
        after, recovery = recover(bystander, quiet, left)
        memory.sample()
        row = Row(
            name,
            quiet,
            attack,
            after,
            start,
            peak - start,
            end - start,
            memory.now - start,
            kernel_peak - kernel,
            stopped,
            refused,
            seen,
            recovery,
        )
        bystander.end()
        return row
    finally:
        writer.stop()
        memory.stop()
        for child in children:
            child.kill()


def recover(bystander: Child, quiet: dict[str, Any], left: float) -> tuple[dict[str, Any], float]:
    """Seconds until an append is as quick as before, looked at each half second; and what was seen then."""
    while True:
        time.sleep(0.5)
        after = bystander.ask()
        passed = time.monotonic() - left
        good = "append" in after and after["append"]["p99"] <= SETTLED * quiet["append"]["p99"]
        if good or passed > 15:
            return after, passed


def show(rows: list[Row]) -> None:
    heads = [
        "attack",
        "grew MB",
        "end",
        "after",
        "kernel",
        "append p50",
        "p99",
        "read p50",
        "p99",
        "delivery p50",
        "p99",
        "worst ms",
        "back s",
    ]
    print("\n" + " ".join(f"{head:>11}" for head in heads))
    for row in rows:
        cells = [
            row.name,
            f"{row.growth_mb:.0f}{'+' if row.stopped else ''}",
            f"{row.end_mb:.0f}",
            f"{row.after_mb:.0f}",
            f"{row.kernel_mb:.0f}",
        ]
        for kind in ("append", "read", "delivery"):
            for figure in ("p50", "p99"):
                there = kind in row.attack and kind in row.quiet
                cells.append(f"{row.attack[kind][figure] / row.quiet[kind][figure]:.2f}x" if there else "-")
        worst = [row.attack[kind]["max"] for kind in ("append", "read", "delivery") if kind in row.attack]
        cells.append(f"{max(worst, default=0):.0f}")
        cells.append(f"{row.recovery_s:.1f}")
        print(" ".join(f"{cell:>11}" for cell in cells))
    print()
    for row in rows:
        q = {
            kind: f"{row.quiet[kind]['p50']:.2f}/{row.quiet[kind]['p99']:.2f}"
            for kind in ("append", "read", "delivery")
        }
        refused = {key: int(count) for key, count in row.refused.items() if count}
        failed = row.attack["failed"]
        print(f"{row.name}: quiet p50/p99 ms {q}; refused {refused}; failed {failed}; attackers {row.attackers}")


@contextlib.contextmanager
def prepared() -> Iterator[tuple[Path, str]]:
    cache = ROOT / ".cache" / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="attack-", dir=cache) as folder:
        with running(Server(Path(folder))) as server:
            generation = fill(server.ports["http"])
        yield Path(folder), generation


def main() -> int:
    options = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows: list[Row] = []
    with prepared() as (folder, generation):
        for name, groups in s.all_scenarios(options.readers, generation).items():
            if options.only and name not in options.only:
                continue
            with running(Server(folder)) as server:
                warm(server.ports["http"])
                rows.append(run(server, name, groups, options))
            print(name, f"{rows[-1].growth_mb:.0f} MB", file=sys.stderr, flush=True)
    if options.out:
        options.out.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
