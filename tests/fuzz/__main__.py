"""A campaign: ``python -m tests.fuzz [--minutes M | --inputs N] [TARGET ...]``."""

import argparse
import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.fuzz import distil
from tests.fuzz.engine import Target, mutations, regression_test
from tests.fuzz.targets import TARGETS

CACHE = Path(".cache/fuzz")
HANG_S = 20
"""An input that takes longer is a finding."""
MEMORY_MB = 2048


@dataclass
class Report:
    """What became of one target."""

    target: Target
    inputs: int = 0
    seconds: float = 0.0
    edges: int = 0
    found: list[str] = field(default_factory=list)

    def row(self) -> str:
        pace = self.inputs / self.seconds if self.seconds else 0
        edges = str(self.edges) if self.edges else "-"
        return (
            f"{self.target.name:<14}{self.inputs:>12,}{self.seconds:>9.0f}{pace:>11,.0f}{edges:>8}{len(self.found):>7}"
        )


HEADER = f"{'target':<14}{'inputs':>12}{'seconds':>9}{'a second':>11}{'edges':>8}{'found':>7}"


def main() -> int:
    options = arguments()
    chosen = [TARGETS[name] for name in options.targets] or list(TARGETS.values())
    seed = options.seed if options.seed is not None else time.time_ns() % 2**31 + 1
    guided = importlib.util.find_spec("atheris") is not None and not options.mutations
    print(f"seed {seed}; {'atheris' if guided else 'seeded mutations, no coverage'}", flush=True)
    print(HEADER, flush=True)
    weights = sum(target.weight for target in chosen)
    reports = []
    for target in chosen:
        share = target.weight / weights
        bounds = Bounds(
            int(options.inputs * share) if options.inputs else None,
            options.minutes * 60 * share if options.minutes else None,
        )
        report = (run_guided if guided else run_mutations)(target, bounds, seed)
        reports.append(report)
        print(report.row(), flush=True)
        for each in report.found:
            print(f"\n{each}\n", flush=True)
        if options.keep:
            print(f"    corpus: {distil.keep(target, folder(target, 'corpus'))} inputs beside the seeds", flush=True)
    total = sum(report.inputs for report in reports)
    print(f"{'in all':<14}{total:>12,}{sum(report.seconds for report in reports):>9.0f}")
    return 1 if any(report.found for report in reports) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--minutes", type=float, help="for how long, all targets together (10 unless --inputs is given)")
    bound.add_argument("--inputs", type=int, help="how many inputs, all targets together")
    parser.add_argument("--seed", type=int, help="a number from 1 on; printed, and another each time unless given")
    parser.add_argument("--mutations", action="store_true", help="do without atheris")
    parser.add_argument("--keep", action="store_true", help="put what reached further into tests/fuzz/corpus")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target is named {', '.join(sorted(unknown))}")
    if not options.minutes and not options.inputs:
        options.minutes = 10.0
    return options


@dataclass(frozen=True)
class Bounds:
    """When a target has had its share."""

    inputs: int | None
    seconds: float | None


def folder(target: Target, kind: str) -> Path:
    path = CACHE / target.name / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


# --- With atheris.


def run_guided(target: Target, bounds: Bounds, seed: int) -> Report:
    corpus, found = folder(target, "corpus"), folder(target, "found")
    for number, data in enumerate(target.corpus()):
        (corpus / f"seed-{number}").write_bytes(data)
    for old in found.iterdir():
        old.unlink()
    log = CACHE / target.name / "log"
    flags = [
        f"-seed={seed}",
        f"-max_len={target.max_len}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={found}/",
        *([f"-dict={dictionary(target)}"] if target.tokens else []),
        "-print_final_stats=1",
        f"-runs={bounds.inputs}" if bounds.inputs is not None else f"-max_total_time={int(bounds.seconds or 1)}",
        str(corpus),
    ]
    command = [sys.executable, "-W", "error", "-m", "tests.fuzz.guided", target.name, *flags]
    began = time.monotonic()
    # libFuzzer ends without a goodbye: what its targets leave behind is taken away here.
    with log.open("wb") as output, tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary}
        code = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode
    report = Report(target, seconds=time.monotonic() - began)
    said = log.read_text(errors="replace")
    report.inputs = last_number(rb"stat::number_of_executed_units: *(\d+)", said)
    report.edges = last_number(rb"cov: (\d+)", said)
    report.found = [explained(target, path) for path in sorted(found.iterdir()) if not path.name.startswith("slow")]
    if code and not report.found:
        report.found.append(f"the fuzzer ended with code {code}, see {log}:\n{said[-2000:]}")
    return report


def last_number(pattern: bytes, said: str) -> int:
    numbers = re.findall(pattern.decode(), said)
    return int(numbers[-1]) if numbers else 0


def dictionary(target: Target) -> Path:
    """The target's tokens in libFuzzer's own form."""
    path = CACHE / target.name / "tokens"
    lines = ["".join(f"\\x{byte:02x}" for byte in token) for token in dict.fromkeys(target.tokens) if len(token) <= 64]
    path.write_text("".join(f'"{line}"\n' for line in lines), "ascii")
    return path


def explained(target: Target, path: Path) -> str:
    """An input that the fuzzer put aside, tried again here, as a test."""
    data = path.read_bytes()
    try:
        with hang_is_an_error():
            target.check(data)
    except Exception as error:  # whatever it is, it is what there is to say
        return regression_test(target, data, f"{type(error).__name__}: {error}")
    return regression_test(target, data, f"{path.name}: does not fail when run alone")


# --- Without.


def run_mutations(target: Target, bounds: Bounds, seed: int) -> Report:
    report = Report(target)
    began = time.monotonic()
    for data in islice(mutations(target, seed), bounds.inputs):
        report.inputs += 1
        try:
            with hang_is_an_error():
                target.check(data)
        except Exception as error:  # the finding
            report.found.append(regression_test(target, data, f"{type(error).__name__}: {error}"))
            break
        report.seconds = time.monotonic() - began
        if bounds.seconds is not None and report.seconds >= bounds.seconds:
            break
    return report


@contextlib.contextmanager
def hang_is_an_error() -> Iterator[None]:
    """Raise in the middle of what takes too long."""

    def expired(*_: object) -> None:
        raise TimeoutError(f"more than {HANG_S} s")

    kept = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)


if __name__ == "__main__":
    os.environ.pop("PYTHONWARNINGS", None)
    sys.exit(main())
