"""How long a reader waits for what is appended: by long-poll on an idle server, and of many SSE readers at a pace."""

import asyncio
import json
import statistics
import subprocess
import sys
import time

from benchmarks.contenders import Contender
from benchmarks.load import MARK, ROOT, SIZE
from benchmarks.wrk import LoadError
from tests.system.kill.wire import Connection

KIND = {"content-type": "text/plain"}
PAUSE_S = 0.02
"""Between two appends: the server is idle when each comes."""


async def _woken(write_port: int, read_port: int, path: str, seconds: float) -> list[float]:
    """From before each append until a long-poll that waited has it, in seconds."""
    writer, reader = Connection("127.0.0.1", write_port), Connection("127.0.0.1", read_port)
    target = f"/v1/stream/{path}"
    await writer.request("PUT", target, KIND)
    offset = (await writer.request("POST", target, KIND, b"x" * SIZE)).offset
    taken = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        waiting = asyncio.ensure_future(reader.request("GET", f"{target}?offset={offset}&live=long-poll"))
        await asyncio.sleep(PAUSE_S)
        begun = time.perf_counter()
        appending = asyncio.ensure_future(writer.request("POST", target, KIND, b"x" * SIZE))
        answer = await waiting
        taken.append(time.perf_counter() - begun)
        if answer.status != 200 or (await appending).status != 204:
            raise LoadError(f"a long-poll was answered {answer.status}")
        offset = answer.offset
    writer.close()
    reader.close()
    return taken


def woken(write_port: int, read_port: int, path: str, seconds: float) -> dict[str, float]:
    """Append to delivery, one reader that waits: milliseconds."""
    taken = sorted(asyncio.run(_woken(write_port, read_port, path, seconds)))
    median = statistics.median(taken) * 1e3
    return {"rate": median, "p50_ms": median, "p99_ms": taken[int(len(taken) * 0.99)] * 1e3}


def paced(contender: Contender, path: str, readers: int, per_second: float, seconds: float) -> dict[str, float]:
    """Many SSE readers, appends at a pace: how late each delivery was, milliseconds.

    Each message has the time at which it was sent: both processes read the same clock.
    """
    contender.create(path, "text/plain")
    messages = max(1, round(per_second * seconds))
    words = [str(contender.server.ports["http"]), f"/v1/stream/{path}?offset=-1&live=sse", str(readers), str(messages)]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.readers", *words, "--late"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    connection = contender.connect()
    try:
        assert child.stdout is not None
        if not child.stdout.readline().startswith("ready"):
            raise LoadError("the readers are not ready")
        due = time.monotonic()
        for _ in range(messages):
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / per_second
            body = MARK + f"{time.monotonic():.6f};".encode().ljust(SIZE - 1, b"x")
            connection.request("POST", f"/v1/stream/{path}", body, KIND)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 204:
                raise LoadError(f"{contender.name}: an append was answered {answer.status}")
        result = json.loads(child.stdout.readline().removeprefix("result "))
        child.wait(30)
    finally:
        connection.close()
        child.kill()
        child.communicate()
    if result["delivered"] != readers * messages:
        raise LoadError(f"{contender.name}: {result['delivered']} of {readers * messages} messages were delivered")
    return {"rate": result["p99_ms"], "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"]}
