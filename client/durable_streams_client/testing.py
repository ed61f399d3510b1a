"""A node for tests: a real one, in a process of its own, on ports that were free, and gone when the test is over.

::

    with running_node() as node:
        client = Client(node.target)

It needs the ``[cluster]`` extra. Under pytest there are fixtures for it: see ``pytest_plugin``.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

LISTENERS = ("http", "grpc", "peer", "ops")
LOG_BYTES = 8192
LOG_LINES = 20
"""Of what a node said that did not become ready, the last so many are told."""


class NodeNotReadyError(RuntimeError):
    """The node ended, or was given up, before it was ready; the message has the last lines of its standard error."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """Where a node is."""

    target: str
    """``HOST:PORT`` of its listener for gRPC: what ``Client`` takes."""
    url: str
    """Of its listener for HTTP, ``http://HOST:PORT``: ``Client`` takes it, too; streams are under ``/v1/stream/``."""
    ops_url: str
    """``http://HOST:PORT`` of ``/livez``, ``/readyz`` and ``/metrics``."""
    pid: int
    """Of its process."""


class NodeProcess:
    """What :func:`running_node` returns: a context manager, for ``with`` and for ``async with``, to be entered once."""

    def __init__(self, arguments: Sequence[str], ready_timeout_s: float, stop_timeout_s: float) -> None:
        self._arguments = arguments
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._late = False

    def __enter__(self) -> RunningNode:
        self._begin()
        try:
            return self._until_ready()
        except BaseException:
            self._end(0)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._stop_timeout_s)

    async def __aenter__(self) -> RunningNode:
        self._begin()
        waiting = asyncio.ensure_future(asyncio.to_thread(self._until_ready))
        # If this wait is cancelled, the thread's goes on until the node is killed below; nobody asks what came of it.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(waiting)
        except BaseException:
            self._end(0)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._end, self._stop_timeout_s)

    def _begin(self) -> None:
        # No module of the current directory: the tests' own folders are no place to find ours.
        command = [sys.executable, "-P", "-m", "durable_streams_cluster.cli_child", "serve", *self._arguments]
        # What is set for the programs under test is not meant for this node.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_STREAMS_")}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # for the life of the process
        self._child = subprocess.Popen(  # noqa: S603
            command,
            # A pipe, whose end tells the node that this process ended, however it did.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            # Ctrl-C is for the tests, which end the node when they have ended.
            start_new_session=True,
        )

    def _until_ready(self) -> RunningNode:
        assert self._child.stdout is not None
        timer = threading.Timer(self._ready_timeout_s, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            line = next((line for line in self._child.stdout if line.startswith(b"ready ")), b"")
        finally:
            timer.cancel()
            timer.join()
        if not line or self._late:
            code = self._child.wait()
            what = f"was not ready within {self._ready_timeout_s:g} s" if self._late else f"ended with code {code}"
            raise NodeNotReadyError(f"the node {what}; its last lines:\n{self._last_lines()}")
        at = dict(re.findall(r" (http|grpc|ops)=(\S+)", line.decode()))
        return RunningNode(at["grpc"], f"http://{at['http']}", f"http://{at['ops']}", self._child.pid)

    def _give_up(self) -> None:
        self._late = True
        self._child.kill()  # Then its output ends, which is waited for.

    def _end(self, patience_s: float) -> None:
        child = self._child
        try:
            if patience_s:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(patience_s)
        finally:
            child.kill()
            child.wait()
            for file in (child.stdin, child.stdout, self._log):
                if file is not None:
                    file.close()

    def _last_lines(self) -> str:
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - LOG_BYTES))
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-LOG_LINES:])


def running_node(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    arguments: Sequence[str] = (),
    ready_timeout_s: float = 60.0,
    stop_timeout_s: float = 30.0,
) -> NodeProcess:
    """A node for the length of a ``with`` or ``async with`` block, which gets a :class:`RunningNode`.

    It listens on free ports of 127.0.0.1, gets no setting from ``DURABLE_STREAMS_*`` variables, and ends with this
    process, however that ends. Leaving the block asks it to drain (SIGTERM), and kills it if that takes too long.

    Args:
        data_dir: Where it stores streams, and finds those of a run before; None: in memory.
        arguments: More of ``durable-streams serve``, for example ``["--long-poll-timeout", "1s"]``.
        ready_timeout_s: Seconds it has to become ready.
        stop_timeout_s: Seconds it has to end.

    Raises:
        NodeNotReadyError: when the block is entered: it did not start. Without the ``[cluster]`` extra the message says
            what to install.

    """
    place = ["--in-memory"] if data_dir is None else ["--data-dir", os.fspath(data_dir)]
    addresses = [word for name in LISTENERS for word in (f"--{name}", "127.0.0.1:0")]
    return NodeProcess([*place, *addresses, *arguments], ready_timeout_s, stop_timeout_s)
