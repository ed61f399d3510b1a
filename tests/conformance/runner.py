"""Runs the official suite in Vitest and counts, truly, what passed."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests import npm

HERE = Path(__file__).parent
EXPECTED = 332
# The suite's own switch leaves these out, and Vitest calls them skipped: so many, by this name, and no others.
SWITCHED_OFF = ("Reserved subscription APIs > ", 6)
LIMIT = 420.0
OFFICIAL = HERE / "suite.test.mjs"


class Runs:
    """Runs under way in threads, which an interrupt of this process does not reach."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[str]] = set()
        self._over = False

    def began(self, child: subprocess.Popen[str]) -> None:
        with self._lock:
            self._children.add(child)
        if self._over:
            self.end()

    def ended(self, child: subprocess.Popen[str]) -> None:
        with self._lock:
            self._children.discard(child)

    def end(self) -> None:
        """End those that are under way, and each that begins later."""
        self._over = True
        with self._lock:
            for child in self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to. Green only when exactly the expected tests ran and passed and nothing else broke."""

    expected: int
    passed: int
    failed: int
    skipped: int
    problems: tuple[str, ...]
    slowest: tuple[tuple[int, str], ...]
    seconds: float

    @property
    def green(self) -> bool:
        return self.passed == self.expected and not (self.failed or self.skipped or self.problems)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"conformance: {self.passed} passed, {self.failed} failed{skipped}"


def run(
    url: str, *, suite: Path = OFFICIAL, expected: int = EXPECTED, limit: float = LIMIT, runs: Runs | None = None
) -> Outcome:
    """Run a suite (the official one unless a test of this harness gives another) against a server."""
    began = time.monotonic()
    if silent := _absent(url):
        return Outcome(expected, 0, 1, 0, (silent,), (), time.monotonic() - began)
    with npm.workspace(suite, HERE / "vitest.config.mjs", HERE / "reporter.mjs") as folder:
        report = folder / "report.jsonl"
        told = {"CONFORMANCE_URL": url, "CONFORMANCE_SUITE": suite.name, "CONFORMANCE_REPORT": str(report)}
        vitest = npm.packages() / "node_modules" / "vitest" / "vitest.mjs"
        command = [*npm.commands()[0], str(vitest), "run", "--root", str(folder)]
        problems = _vitest(command, npm.environment() | told, folder, limit, runs or Runs())
        records = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    off = SWITCHED_OFF[1] if suite == OFFICIAL else 0
    return _outcome(records, problems, (expected, off), time.monotonic() - began)


def _absent(url: str) -> str:
    """Why nothing can be tested there, or nothing: any HTTP answer will do."""
    try:
        urllib.request.urlopen(f"{url}/v1/stream/is-anybody-there", timeout=10).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except OSError as error:
        return f"no server at {url}: {error}"
    return ""


def _vitest(command: list[str], env: dict[str, str], folder: Path, limit: float, runs: Runs) -> list[str]:
    """Run Vitest in a session of its own, so that its workers end with it. Answers what went wrong with the run."""
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    runs.began(child)
    try:
        said, _ = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        said, _ = child.communicate()
        return [f"the suite did not end within {limit:g} s\n{said[-2_000:]}"]
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    finally:
        runs.ended(child)
    return [f"vitest ended with {child.returncode}\n{said[-2_000:]}"] if child.returncode else []


def _outcome(records: list[dict], problems: list[str], due: tuple[int, int], seconds: float) -> Outcome:
    expected, off = due
    tests = [record for record in records if record["kind"] == "test"]
    broken = [f"{record['name']}\n{record['error']}" for record in records if record["kind"] == "error"]
    failed = [f"{test['name']}\n{test['error']}" for test in tests if test["state"] not in {"passed", "skipped"}]
    end = next((record for record in records if record["kind"] == "end"), None)
    # The end record counts every test that was collected, also those no result was reported for.
    states = end["states"] if end else {}
    ran = {state: sum(test["state"] == state for test in tests) for state in ("passed", "failed", "skipped")}
    notes = []
    if end is None:
        notes.append("the runner never reported the end of the run")
    elif states.get("passed", 0) != ran["passed"] or end["reason"] == "interrupted":
        notes.append(f"the runner's own totals disagree: {states}, reason {end['reason']}")
    if ran["passed"] != expected:
        notes.append(f"{ran['passed']} tests passed; exactly {expected} must")
    switched_off = sum(test["state"] == "skipped" and test["name"].startswith(SWITCHED_OFF[0]) for test in tests)
    skipped = max(ran["skipped"], states.get("skipped", 0) + states.get("pending", 0)) - off
    if skipped or switched_off != off:
        notes.append(
            f"{skipped} tests were skipped; besides them {switched_off}, and {off} should be, are switched off"
        )
    slowest = sorted(((test["ms"], test["name"]) for test in tests), reverse=True)[:5]
    details = (*failed, *broken, *notes, *(problems if not failed and not broken else ()))
    return Outcome(
        expected, ran["passed"], len(failed) + len(broken), max(skipped, 0), details, tuple(slowest), seconds
    )
