"""wrk, and what its scripts print at their end."""

import json
import statistics
import subprocess
import threading
from pathlib import Path

from benchmarks.rows import Figures

HERE = Path(__file__).parent


class LoadError(RuntimeError):
    """A load that did not go as it must: no figure can be taken from it."""


def wrk(
    urls: list[str], script: str, words: list[str], connections: int, seconds: float, *, threads: int = 1
) -> Figures:
    """One wrk for each of ``urls``, sharing the connections, at the same time; each waits for its answers."""
    results: list[Figures] = []

    def run(url: str) -> None:
        command = ["wrk", f"-t{threads}", f"-c{connections // len(urls)}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "20s", "-s", str(HERE / script), url, "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("result ")]
        if done.returncode or not lines:
            raise LoadError(f"{url}: wrk failed\n{done.stdout}{done.stderr}")
        results.append(json.loads(lines[0].removeprefix("result ")))

    waiting = [threading.Thread(target=run, args=(url,)) for url in urls]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    if len(results) < len(urls):
        raise LoadError(f"wrk failed at one of {urls}")
    good = sum(result["requests"] - result["failed"] for result in results)
    return {
        "good": good,
        "failed": sum(result["failed"] for result in results),
        "rate": sum((result["requests"] - result["failed"]) / (result["microseconds"] / 1e6) for result in results),
        "p50_ms": statistics.mean(result["p50"] for result in results) / 1e3,
        "p99_ms": max(result["p99"] for result in results) / 1e3,
    }
