"""The loads: appends by wrk, catch-up by one connection, and many readers of one stream."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from benchmarks.contenders import Contender, Tracer
from benchmarks.rows import Figures
from benchmarks.wrk import LoadError, wrk
from tests.server import LOOPBACK

ROOT = Path(__file__).parent.parent
SIZE = 100
MEGABYTE = 1_000_000
MARK = b"@"
FILLERS = 128
"""Connections that fill a stream: with as many, appends share entries, as those of many writers do."""


def make_streams(contender: Contender, prefix: str, streams: int) -> None:
    for number in range(streams):
        contender.create(f"{prefix}{number}", "text/plain")


def appends(contender: Contender, prefix: str, streams: int, connections: int, seconds: float) -> Figures:
    """Each connection waits for its answer before it sends the next append."""
    begun, syncs = _stored(contender, prefix, streams), contender.syncs()
    found = wrk([contender.server.url], "append.lua", [f"/v1/stream/{prefix}", str(streams)], connections, seconds)
    # The reference on files answers some appends with 500 when more than 100 streams are in use: these do not count.
    if found["failed"] and contender.name == "ours":
        raise LoadError(f"{contender.name}: {found['failed']:.0f} appends failed")
    grown = _stored(contender, prefix, streams) - begun
    if grown < found["good"] * SIZE:
        raise LoadError(f"{contender.name}: {found['good']:.0f} were acknowledged, but only {grown} bytes stored")
    now = contender.syncs()
    if syncs is not None and now is not None:
        found |= {"syncs": now - syncs, "appends_per_sync": found["good"] / max(1, now - syncs)}
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


def fill(contender: Contender, path: str, size: int, megabytes: int) -> None:
    """So many megabytes, in appends of ``size`` bytes, many at a time."""
    contender.create(path, "application/octet-stream")
    count = megabytes * MEGABYTE // size
    asyncio.run(_fill(contender.server.ports["http"], f"/v1/stream/{path}", size, count))


async def _fill(port: int, target: str, size: int, count: int) -> None:
    head = f"POST {target} HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n"
    request = head.encode() + b"\r\n" + b"x" * size
    pipelined = 16 if size < 10_000 else 1
    left = iter(range(0, count, pipelined))

    async def client() -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        for done in left:
            now = min(pipelined, count - done)
            writer.write(request * now)
            await writer.drain()
            for _ in range(now):
                if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204"):
                    raise LoadError("an append was refused while a stream was filled")
        writer.close()

    await asyncio.gather(*(client() for _ in range(FILLERS if pipelined > 1 else 2)))


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


def open_slow_reader(port: int, path: str) -> socket.socket:
    """An SSE reader that reads nothing."""
    reader = socket.create_connection((LOOPBACK, port), timeout=10)
    reader.sendall(f"GET /v1/stream/{path}?offset=-1&live=sse HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    return reader


def _line(pipe: IO[str], start: str) -> str:
    """The readers' next line. They end by themselves in bounded time, so this needs no bound of its own."""
    line = pipe.readline()
    if not line.startswith(start):
        raise LoadError(f"the readers said {line!r}, not {start}")
    return line.removeprefix(start).strip()
