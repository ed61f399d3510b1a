"""python -m benchmarks.many: a node with many streams: how long it takes to restart, what it holds in memory.

Streams are made and appended to over a few connections; then the node is ended and started again, and streams picked at
random are read for the first time. Prints a line of JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.server import Server
from tests.system.kill.wire import Connection

CONNECTIONS = 64
READS = 500


def resident_mib(pid: int) -> float:
    """Resident memory of a process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def path(number: int) -> str:
    return f"/v1/stream/many/{number % 1000:03d}/{number:07d}"


async def fill(port: int, streams: int, appends: int) -> None:
    """Every stream with its appends of 100 bytes."""
    numbers = iter(range(streams))
    headers = {"content-type": "text/plain"}

    async def client() -> None:
        connection = Connection("127.0.0.1", port)
        for number in numbers:
            answers = [await connection.request("PUT", path(number), headers)]
            answers += [await connection.request("POST", path(number), headers, b"x" * 100) for _ in range(appends)]
            if [answer.status for answer in answers] != [201] + [204] * appends:
                raise RuntimeError(f"stream {number} was answered {[answer.status for answer in answers]}")
        connection.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


async def first_reads(port: int, streams: int, appends: int) -> list[float]:
    """Milliseconds of the first read of streams picked at random, sorted."""
    connection = Connection("127.0.0.1", port)
    taken = []
    for number in random.Random(1).sample(range(streams), READS):
        begun = time.perf_counter()
        answer = await connection.request("GET", f"{path(number)}?offset=-1")
        taken.append((time.perf_counter() - begun) * 1000)
        if len(answer.body) != 100 * appends:
            raise RuntimeError(f"stream {number} has {len(answer.body)} bytes")
    connection.close()
    return sorted(taken)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many")
    parser.add_argument("--streams", type=int, default=200_000, help="how many (default 200000)")
    parser.add_argument("--appends", type=int, default=5, help="to each, of 100 bytes (default 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(Path(scratch))
        found: dict[str, float] = {"streams": options.streams, "appends": options.appends}
        try:
            server.start()
            begun = time.perf_counter()
            asyncio.run(fill(server.ports["http"], options.streams, options.appends))
            found["fill_s"] = time.perf_counter() - begun
            found["filled_resident_mib"] = resident_mib(server.process.pid)
            for ending in ("kill", "stop"):
                server.kill() if ending == "kill" else server.stop()
                begun = time.perf_counter()
                server.start()
                found[f"ready_after_{ending}_s"] = time.perf_counter() - begun
            found["ready_resident_mib"] = resident_mib(server.process.pid)
            taken = asyncio.run(first_reads(server.ports["http"], options.streams, options.appends))
            found |= {"first_read_p50_ms": taken[READS // 2], "first_read_max_ms": taken[-1]}
            found["read_resident_mib"] = resident_mib(server.process.pid)
        finally:
            server.kill()
        print(json.dumps({name: round(value, 2) for name, value in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
