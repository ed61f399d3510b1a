"""Start and stop servers as separate processes, for every test that looks at ours from outside."""

import contextlib
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tests import npm

ROOT = Path(__file__).parent.parent
READY_LIMIT = 30.0
STOP_LIMIT = 30.0
LOOPBACK = "127.0.0.1"
LISTENERS = ("http", "grpc", "peer", "ops")


class NotReadyError(AssertionError):
    """The server ended, or said nothing, before its ready line."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, outside the range that outgoing connections take, so that a restart gets them back."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    below, above = range(10_000, max(low, 10_000)), range(min(high + 1, 65_000), 65_000)
    candidates = [*(below if len(below) > 1_000 else ()), *(above if len(above) > 1_000 else ())] or range(
        20_000, 60_000
    )
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.SystemRandom().sample(candidates, len(candidates)):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free loopback port")


def until(holds: Callable[[], bool], what: str) -> None:
    """Look until it is so: of another process nothing tells when that is. The bound decides nothing."""
    deadline = time.monotonic() + STOP_LIMIT
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of ours, and with the source roots importable."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_STREAMS_")}
    roots = [str(ROOT / part) for part in ("cluster", "client", "proto")]
    return env | {"PYTHONPATH": os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])])}


class Process:
    """One child process that prints a line starting `ready ` when it is ready."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, *, typed_to: bool = False
    ) -> None:
        """``typed_to``: its standard input is a pipe, for ``type``; else it is empty."""
        self.command = list(command)
        self.log = log
        self.ready_line = ""
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if typed_to else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=cwd,
            )
        assert self._child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._lines.put(line.decode(errors="replace").rstrip("\n"))
        self._lines.put(None)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    @property
    def errors(self) -> str:
        """What it wrote to standard error since the log was begun."""
        return self.log.read_text(errors="replace")

    def wait_ready(self, limit: float = READY_LIMIT) -> None:
        self.ready_line = self.wait_line(r"ready ", limit)

    def wait_line(self, pattern: str, limit: float = READY_LIMIT) -> str:
        """The next line of standard output that begins with ``pattern``; what comes before it is in ``said``."""
        deadline = time.monotonic() + limit
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise NotReadyError(self._report(f"did not say {pattern!r} within {limit:g} s")) from None
            if line is None:
                raise NotReadyError(
                    self._report(f"ended with {self._child.wait(STOP_LIMIT)} before it said {pattern!r}")
                )
            self.said.append(line)
            if re.match(pattern, line):
                return line

    def said_after(self, beginning: str) -> list[str]:
        """The lines of standard output behind the first that begins so."""
        first = next(number for number, line in enumerate(self.said) if line.startswith(beginning))
        return self.said[first + 1 :]

    def type(self, text: str) -> None:
        """Write to its standard input."""
        assert self._child.stdin is not None
        self._child.stdin.write(text.encode())
        self._child.stdin.flush()

    def wait(self, limit: float = STOP_LIMIT) -> int:
        """The exit code, once it has ended by itself."""
        code = self._child.wait(limit)
        self._reader.join(limit)
        while not self._lines.empty():
            line = self._lines.get()
            self.said += [] if line is None else [line]
        if self._child.stdin is not None:
            self._child.stdin.close()
        return code

    def terminate(self, limit: float = STOP_LIMIT) -> int:
        """Ask it to stop (SIGTERM), as an orchestrator does; answers the exit code."""
        if self.running:
            self._child.send_signal(signal.SIGTERM)
        try:
            return self.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self._report(f"did not stop within {limit:g} s of SIGTERM")) from None

    def kill(self) -> None:
        """End it at once (SIGKILL) and collect it."""
        self._child.kill()
        self.wait()

    def kill_after(self, seconds: float) -> None:
        """End it at that moment of its start, for tests of recovery; it may also have ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        self.kill()

    def _report(self, what: str) -> str:
        return f"{' '.join(self.command)}\n{what}; its standard error ends:\n{self.errors[-4_000:]}"


class Server:
    """One data directory and its addresses; `start` runs a process on them, as often as wanted."""

    def __init__(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        self.folder = folder
        self.arguments = list(arguments)
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.process: Process | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['http']}"

    @property
    def ops_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['ops']}"

    def stream(self, path: str) -> str:
        return f"{self.url}/v1/stream/{path}"

    def command(self) -> list[str]:
        addresses = [word for name in LISTENERS for word in (f"--{name}", f"{LOOPBACK}:{self.ports[name]}")]
        place = ["--data-dir", str(self.folder / "data")]
        return [sys.executable, "-m", "durable_streams_client.cli", "serve", *place, *addresses, *self.arguments]

    def environment(self) -> dict[str, str]:
        return clean_environment()

    def launch(self, *, typed_to: bool = False) -> Process:
        """Begin to start, without waiting until it is ready."""
        assert self.process is None or not self.process.running, "already running"
        log = self.folder / "stderr.log"
        self.process = Process(self.command(), self.environment(), self.folder, log, typed_to=typed_to)
        return self.process

    def start(self, limit: float = READY_LIMIT) -> Process:
        self.process = self.launch()
        try:
            self.process.wait_ready(limit)
        except BaseException:
            self.process.kill()
            raise
        return self.process

    def stop(self) -> int:
        assert self.process is not None
        return self.process.terminate()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()


class ReferenceServer(Server):
    """The npm reference server, in memory or on disk: what ours is compared to, and harnesses are tried on."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        super().__init__(folder)
        self.durable = durable

    def command(self) -> list[str]:
        source, script = npm.HERE / "reference.mjs", npm.packages() / "reference.mjs"
        if not script.exists() or script.read_bytes() != source.read_bytes():
            shutil.copy(source, script)
        place = [str(self.folder / "data")] if self.durable else []
        return [*npm.commands()[0], str(script), str(self.ports["http"]), *place]

    def environment(self) -> dict[str, str]:
        return npm.environment()


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server for the length of a block. However the block ends, no process stays behind."""
    server.start()
    try:
        yield server
        if server.process is not None and server.process.running:
            code = server.stop()
            assert code == 0, f"the server ended with {code}:\n{server.process.errors[-4_000:]}"
    finally:
        if server.process is not None and server.process.running:
            server.kill()


@contextlib.contextmanager
def running_server(*arguments: str, folder: Path | None = None) -> Iterator[Server]:
    """Our server with these arguments, on free loopback ports, in this folder or in one of its own."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="durable-streams-")))
        yield stack.enter_context(running(Server(place, arguments)))
