"""The loads: appends by wrk, catch-up by one connection, and many readers of one stream."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from benchmarks.contenders import Contender, Tracer

HERE = Path(__file__).parent
ROOT = HERE.parent
SIZE = 100
MEGABYTE = 1_000_000
MARK = b"@"


class LoadError(RuntimeError):
    """A load that did not go as it must: no figure can be taken from it."""


def need_wrk() -> None:
    if not shutil.which("wrk"):
        raise SystemExit("benchmarks need wrk: apt-get install -y wrk")


def make_streams(contender: Contender, prefix: str, streams: int) -> None:
    for number in range(streams):
        contender.create(f"{prefix}{number}", "text/plain")


def appends(contender: Contender, prefix: str, streams: int, connections: int, seconds: float) -> dict[str, float]:
    """wrk, one thread, so many connections, each waiting for its answer before it sends the next append."""
    begun, syncs = _stored(contender, prefix, streams), contender.syncs()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(HERE / "append.lua")]
    command += [contender.server.url, "--", f"/v1/stream/{prefix}", str(streams)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("result ")]
    if done.returncode or not lines:
        raise LoadError(f"{contender.name}: wrk failed\n{done.stdout}{done.stderr}")
    result = json.loads(lines[0].removeprefix("result "))
    if result["failed"] and contender.name == "ours":
        raise LoadError(f"{contender.name}: {result['failed']} of {result['requests']} appends failed\n{done.stdout}")
    # The reference on files answers some appends with 500 when more than 100 streams are in use: these do not count.
    good = result["requests"] - result["failed"]
    grown = _stored(contender, prefix, streams) - begun
    if grown < good * SIZE:
        raise LoadError(f"{contender.name}: {good} appends were acknowledged, but only {grown} bytes stored")
    found = {
        "rate": good / (result["microseconds"] / 1e6),
        "failed": result["failed"],
        "p50_ms": result["p50"] / 1e3,
        "p99_ms": result["p99"] / 1e3,
    }
    now = contender.syncs()
    if syncs is not None and now is not None:
        found |= {"syncs": now - syncs, "appends_per_sync": good / max(1, now - syncs)}
    return found


def _stored(contender: Contender, prefix: str, streams: int) -> int:
    return sum(contender.tail(f"{prefix}{number}") for number in range(streams))


def traced_syncs(contender: Contender, prefix: str, connections: int, report: Path) -> dict[str, float] | None:
    """How many appends shared one sync call of the operating system, counted by strace in a run of its own."""
    assert contender.server.process is not None
    if not Tracer.available():
        return None
    tracer = Tracer(contender.server.process.pid, report)
    attached = tracer.attached()
    try:
        begun = _stored(contender, prefix, 1)
        result = appends(contender, prefix, 1, connections, 1) if attached else None
        grown = _stored(contender, prefix, 1) - begun
    finally:
        calls = tracer.count()
    if result is None or calls is None:
        return None
    return {"appends": grown / SIZE, "calls": calls}


def fill(contender: Contender, path: str, megabytes: int) -> None:
    contender.create(path, "application/octet-stream")
    connection = contender.connect()
    try:
        for _ in range(megabytes):
            connection.request(
                "POST", f"/v1/stream/{path}", b"x" * MEGABYTE, {"content-type": "application/octet-stream"}
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status != 204:
                raise LoadError(f"{contender.name}: an append of 1 MB was answered {answer.status}")
    finally:
        connection.close()


def catch_up(contender: Contender, path: str, megabytes: int, passes: int = 3) -> dict[str, float]:
    """One reader reads the whole stream from its start, page by page, several times."""
    connection = contender.connect()
    buffer = memoryview(bytearray(MEGABYTE))
    total = 0
    begun = time.perf_counter()
    try:
        for _ in range(passes):
            offset, caught_up = "-1", False
            while not caught_up:
                connection.request("GET", f"/v1/stream/{path}?offset={offset}")
                answer = connection.getresponse()
                if answer.status != 200:
                    raise LoadError(f"{contender.name}: a read was answered {answer.status}")
                while count := answer.readinto(buffer):
                    total += count
                offset, caught_up = answer.headers["stream-next-offset"], "stream-up-to-date" in answer.headers
    finally:
        connection.close()
    seconds = time.perf_counter() - begun
    if total != passes * megabytes * MEGABYTE:
        raise LoadError(f"{contender.name}: {total} bytes were read, {passes * megabytes} MB were stored")
    return {"rate": total / seconds / 1e6}


def fan_out(contender: Contender, path: str, readers: int, messages: int) -> dict[str, float]:
    """One writer, many SSE readers in a process of their own: from the first append until every reader has them all."""
    contender.create(path, "text/plain")
    words = [str(contender.server.ports["http"]), f"/v1/stream/{path}?offset=-1&live=sse", str(readers), str(messages)]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.readers", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    connection = contender.connect()
    try:
        assert child.stdout is not None
        _line(child.stdout, "ready")
        begun = time.monotonic()
        for _ in range(messages):
            connection.request("POST", f"/v1/stream/{path}", MARK + b"x" * (SIZE - 1), {"content-type": "text/plain"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 204:
                raise LoadError(f"{contender.name}: an append was answered {answer.status}")
        written = time.monotonic() - begun
        result = json.loads(_line(child.stdout, "result"))
        child.wait(30)
    finally:
        connection.close()
        child.kill()
        child.communicate()
    if result["delivered"] != readers * messages:
        raise LoadError(f"{contender.name}: {result['delivered']} of {readers * messages} messages were delivered")
    return {
        "rate": result["delivered"] / (result["ended"] - begun),
        "appends_seconds": written,
        "readers_cpu": result["cpu"],
    }


def _line(pipe: IO[str], start: str) -> str:
    """The readers' next line. They end by themselves in bounded time, so this needs no bound of its own."""
    line = pipe.readline()
    if not line.startswith(start):
        raise LoadError(f"the readers said {line!r}, not {start}")
    return line.removeprefix(start).strip()
