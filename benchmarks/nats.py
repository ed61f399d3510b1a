"""Three nodes of NATS with JetStream on this machine (Debian's nats-server; its defaults), and a client for its wire.

The client speaks just what publishing takes, over one connection, so that nothing but the server is measured: PUB with
a place for the answer, and its answers counted (docs.nats.io, "Client Protocol" and "JetStream API").
"""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from benchmarks.wrk import LoadError
from tests.server import LOOPBACK, READY_LIMIT, free_ports

SUBJECT, INBOX = "bench.records", "answers"
STREAM = {"name": "BENCH", "subjects": [SUBJECT], "num_replicas": 3, "storage": "file"}


class Nats:
    """Three processes; ``ports`` are for clients."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
        if program is None:
            raise SystemExit("this comparison needs NATS: apt-get install -y nats-server")
        self._log = (folder / "nats.log").open("wb")
        found = free_ports(3 * nodes)
        self.ports, routes, self._monitors = found[:nodes], found[nodes : 2 * nodes], found[2 * nodes :]
        others = ",".join(f"nats://{LOOPBACK}:{port}" for port in routes)
        self._children = []
        for number in range(nodes):
            words = ["--name", f"s{number}", "--addr", LOOPBACK, "--port", str(self.ports[number]), "--jetstream"]
            words += ["--store_dir", str(folder / f"s{number}"), "--http_port", str(self._monitors[number])]
            words += ["--cluster_name", "bench", "--cluster", f"nats://{LOOPBACK}:{routes[number]}", "--routes", others]
            self._children.append(
                subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_LIMIT
        while not all(self._is_ready(port) for port in self._monitors):
            if time.monotonic() > deadline:
                raise SystemExit("NATS has no leader")
            time.sleep(0.1)

    def _is_ready(self, port: int) -> bool:
        with (
            contextlib.suppress(OSError, ValueError),
            urllib.request.urlopen(f"http://{LOOPBACK}:{port}/jsz", timeout=10) as answer,
        ):
            return bool(json.load(answer).get("meta_cluster", {}).get("leader"))
        return False

    def close(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(20)
        self._log.close()


class Publisher:
    """One connection, with so many records under way as the caller lets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.stored = 0

    @classmethod
    async def connect(cls, port: int) -> Self:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        await reader.readline()  # INFO
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %s 1\r\n' % INBOX.encode())
        return cls(reader, writer)

    @classmethod
    async def leading(cls, ports: list[int]) -> Self:
        """Make the stream, and connect to the node that leads it."""
        anyone = await cls.connect(ports[0])
        made = await anyone.ask("STREAM.CREATE.BENCH", STREAM)
        anyone.close()
        return await cls.connect(ports[int(made["cluster"]["leader"].removeprefix("s"))])

    async def check(self) -> None:
        """Raises LoadError: the stream has not got what was answered."""
        state = (await self.ask("STREAM.INFO.BENCH", {}))["state"]
        if state["messages"] != self.stored:
            raise LoadError(f"NATS answered {self.stored} records, and holds {state['messages']}")
        self.close()

    async def ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request to JetStream."""
        text = json.dumps(body).encode()
        self._writer.write(b"PUB $JS.API.%s %s %d\r\n%s\r\n" % (what.encode(), INBOX.encode(), len(text), text))
        while not (line := await self._reader.readline()).startswith(b"MSG "):
            if line == b"PING\r\n":
                self._writer.write(b"PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise RuntimeError(f"NATS: {line!r}")
        answer: dict[str, Any] = json.loads((await self._reader.readexactly(int(line.split()[-1]) + 2))[:-2])
        if "error" in answer:
            raise RuntimeError(f"NATS: {answer['error']}")
        return answer

    async def publish(self, record: bytes, window: int, seconds: float) -> float:
        """Records a second, ``window`` of them under way; every one is answered at the end."""
        frame = b"PUB %s %s %d\r\n%s\r\n" % (SUBJECT.encode(), INBOX.encode(), len(record), record)
        begun = time.perf_counter()
        sent = answered = 0
        rest = b""
        while answered < sent or time.perf_counter() - begun < seconds:
            if time.perf_counter() - begun < seconds and sent - answered < window:
                self._writer.write(frame * (window - (sent - answered)))
                sent = answered + window
            data = await self._reader.read(1 << 18)
            if not data or b"-ERR" in data or b'"error"' in data:
                raise RuntimeError(f"NATS: {data[:500]!r}")
            rest += data
            if b"PING\r\n" in rest:
                rest = rest.replace(b"PING\r\n", b"")
                self._writer.write(b"PONG\r\n")
            answered += rest.count(b'"seq"')
            rest = rest[rest.rfind(b'"seq"') + 5 :][-512:] if b'"seq"' in rest else rest
        self.stored += answered
        return answered / (time.perf_counter() - begun)

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def running_nats(folder: Path) -> Iterator[Nats]:
    folder.mkdir()
    nats = Nats(folder)
    try:
        nats.wait_ready()
        yield nats
    finally:
        nats.close()
