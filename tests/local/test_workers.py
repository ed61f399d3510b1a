"""Processes that share a port: what each is told, what happens when one dies, and that none stays."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from durable_streams_cluster.errors import ConfigError, Unavailable
from durable_streams_cluster.local import workers as module
from durable_streams_cluster.local.workers import Workers
from durable_streams_cluster.settings import Address
from tests.cluster import kill
from tests.runtime.world import settle
from tests.server import LOOPBACK, free_ports

PATIENCE_S = 20.0
PLACE = Address(LOOPBACK, 0)

SCRIPT = """
import pathlib, signal, sys
folder, http, number = pathlib.Path(sys.argv[1]), sys.argv[3], sys.argv[5]
assert sys.argv[2:5:2] == ["--http", "--worker"]
lives = folder / number
lives.write_text(lives.read_text() + "." if lives.exists() else ".")
kind = (folder / f"kind-{number}").read_text()
if kind == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind.isdigit():
    sys.exit(int(kind))
if kind != "slow":
    print(f"ready http={http} ops=127.0.0.1:{5000 + int(number)}", flush=True)
sys.stdin.read()
"""


class World:
    """A folder that says how each worker is, and notes each of its lives."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        self.folder = folder
        self.program = folder / "python"
        self.program.symlink_to(sys.executable)
        for number, kind in enumerate(kinds):
            self.set(number, kind)
        self.workers = Workers(PLACE, len(kinds), [str(self.program), "-S", "-E", "-c", SCRIPT, str(folder)])
        self.stopping = asyncio.Event()

    def set(self, number: int, kind: str) -> None:
        """``good``, ``deaf`` (to SIGTERM), ``slow`` (never ready), or an exit code."""
        (self.folder / f"kind-{number}").write_text(kind)

    def lives(self, number: int) -> int:
        return len((self.folder / str(number)).read_text())

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)


def children() -> set[int]:
    """Processes of this one that run."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for each in found for pid in each.read_text().split()}


@contextlib.asynccontextmanager
async def world(folder: Path, *kinds: str) -> AsyncIterator[World]:
    """Afterwards they are stopped, and none is left."""
    one = World(folder, *kinds)
    try:
        yield one
        await one.workers.stop()
        assert one.workers.pids() == []
        assert children() == set()
    finally:
        for pid in children():
            kill(pid)
        # A loop with a process that nobody waited for never closes (uvloop).
        await asyncio.gather(*(process.wait() for process in tuple(one.workers._processes.values())))


@contextlib.asynccontextmanager
async def watched(one: World) -> AsyncIterator[None]:
    """All run, and whoever dies is started again."""
    await one.workers.start(one.stopping)
    watching = asyncio.ensure_future(one.workers.watch(one.stopping))
    try:
        yield
    finally:
        one.stopping.set()
        await watching


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)


# --- The port.


def test_the_port_is_theirs_alone() -> None:
    async def main() -> None:
        first = Workers(PLACE, 1, [])
        assert first.address.port != 0
        with pytest.raises(ConfigError, match=f"http: cannot listen on {first.address}: the address is in use"):
            Workers(first.address, 1, [])
        with pytest.raises(OSError, match="in use"):
            socket.create_server((LOOPBACK, first.address.port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, first.address.port))
        with socket.create_server((LOOPBACK, first.address.port), reuse_port=True) as listener:
            with pytest.raises(ConfigError):
                Workers(first.address, 1, [])
            for _ in range(20):
                socket.create_connection((LOOPBACK, first.address.port)).close()
                listener.accept()[0].close()
        await first.stop()
        again = Workers(first.address, 1, [])
        await again.stop()

    run(main)


def test_a_port_that_somebody_else_has_is_refused() -> None:
    async def main() -> None:
        (port,) = free_ports(1)
        for reuse in (False, True):
            with (
                socket.create_server((LOOPBACK, port), reuse_port=reuse),
                pytest.raises(ConfigError, match="is in use"),
            ):
                Workers(Address(LOOPBACK, port), 1, [])
        with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:5"):
            Workers(Address("192.0.2.1", 5), 1, [])
        with pytest.raises(ConfigError, match=r"cannot listen on nowhere\.invalid:5"):
            Workers(Address("nowhere.invalid", 5), 1, [])

    run(main)


# --- The start.


def test_each_is_told_where_to_listen_and_which_one_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", "good", "good") as one:
            lines = await one.workers.start(one.stopping)
            http = one.workers.address
            assert lines == [f"ready http={http} ops=127.0.0.1:{5000 + number}" for number in range(3)]
            assert len(set(one.workers.pids())) == 3

    run(main)


@pytest.mark.parametrize(("code", "error"), [("2", ConfigError), ("1", Unavailable)])
def test_one_that_does_not_start_ends_all(
    code: str, error: type[Exception], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", code, "slow") as one:
            starting = asyncio.ensure_future(one.workers.start(one.stopping))
            with pytest.raises(error, match=rf"worker 1 could not start \(exit code {code}\)"):
                await starting

    run(main)


def test_a_stop_ends_a_start_that_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", "slow") as one:
            starting = asyncio.ensure_future(one.workers.start(one.stopping))
            await one.until(lambda: len(one.workers.pids()) == 2)
            one.stopping.set()
            assert len(await starting) <= 1

    run(main)


@pytest.mark.parametrize("turns", range(8))
def test_a_stop_ends_a_start_wherever_it_is(turns: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", "good") as one:
            starting = asyncio.ensure_future(one.workers.start(one.stopping))
            for _ in range(turns):
                await asyncio.sleep(0)
            one.stopping.set()
            await starting

    run(main)


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", "good") as one:
            one.program.unlink()
            with pytest.raises(FileNotFoundError):
                await one.workers.start(one.stopping)

    run(main)


# --- One dies.


def test_one_that_dies_is_started_again_and_the_others_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with world(tmp_path, "good", "good") as one, watched(one):
            first, second = one.workers.pids()
            for count in range(1, 4):
                os.kill(one.workers.pids()[0], signal.SIGKILL)
                await one.until(lambda: caplog.text.count("worker 0 serves again: ready http=") == count)  # noqa: B023
            assert one.workers.pids()[1] == second
            assert one.workers.pids()[0] != first
            assert (one.lives(0), one.lives(1)) == (4, 1)

    run(main)
    assert caplog.text.count("worker 0 ended (signal 9), and is started again") == 3


def test_both_die_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", "good") as one, watched(one):
            before = set(one.workers.pids())
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            await one.until(lambda: len(set(one.workers.pids()) - before) == 2)

    run(main)


def test_one_that_cannot_start_again_is_tried_until_it_can(tmp_path: Path) -> None:
    """Also without a process: the machine may have none to give, for a while."""

    async def main() -> None:
        async with world(tmp_path, "good", "good") as one, watched(one):
            first, second = one.workers.pids()
            one.set(0, "1")
            os.kill(first, signal.SIGKILL)
            await one.until(lambda: one.lives(0) > 3)
            one.program.unlink()
            await one.until(lambda: one.workers.pids() == [second])
            await asyncio.sleep(0.1)
            one.set(0, "good")
            one.program.symlink_to(sys.executable)
            await one.until(lambda: len(one.workers.pids()) == 2)
            assert one.workers.pids()[1] == second

    run(main)


# --- The end.


def test_one_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.2)

    async def main() -> None:
        async with world(tmp_path, "deaf", "good", "deaf") as one, watched(one):
            pass

    run(main)


@pytest.mark.parametrize("when", ["it waits to start again", "it starts again"])
def test_an_end_while_one_starts_again_leaves_nobody(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with world(tmp_path, "good", "good") as one, watched(one):
            first = one.workers.pids()[0]
            one.set(0, "slow")
            if when == "it waits to start again":
                monkeypatch.setattr(module, "AGAIN_S", PATIENCE_S)
            os.kill(first, signal.SIGKILL)
            if when == "it starts again":
                await one.until(lambda: one.lives(0) == 2)
            else:
                await one.until(lambda: len(one.workers.pids()) == 1)

    run(main)
