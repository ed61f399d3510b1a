"""Processes that share one port: started together, started again when one dies, and ended with this one.

As in ``children``, the standard input of each is a pipe that ends with this process, however that ends.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

from durable_streams_cluster.errors import ConfigError, Unavailable
from durable_streams_cluster.settings import Address

log = logging.getLogger(__name__)

STOP_S = 20.0
"""How long one may drain; it gives itself ten seconds."""
AGAIN_S = 1.0
"""One that died is started again after so long."""


class Workers:
    """So many processes of one program, which differ in a number. Everything happens on one event loop."""

    def __init__(self, address: Address, count: int, program: Sequence[str]) -> None:
        """Hold the port for them.

        Args:
            address: Where they listen; of port 0, any.
            count: How many.
            program: What to run; ``--http`` with the real address and ``--worker`` with a number are added.

        Raises:
            ConfigError: the address is in use, or cannot be had.

        """
        self._held = _hold(address)
        self.address = Address(address.host, self._held.getsockname()[1])
        self._program = [*program, "--http", str(self.address), "--worker"]
        self._processes: dict[int, Process] = {}
        self._creating: set[asyncio.Future[Process]] = set()
        self._attending: dict[int, asyncio.Task[int]] = {}
        self._count = count

    def pids(self) -> list[int]:
        """Of those that run."""
        return [process.pid for _, process in sorted(self._processes.items()) if process.returncode is None]

    async def start(self, stopping: asyncio.Event) -> list[str]:
        """Start all of them, and return their ready lines once all have said one; fewer when ``stopping`` is set.

        Raises:
            ConfigError, Unavailable: one ended before it was ready, and has said why.

        """
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
        starts = [asyncio.ensure_future(self._start(number)) for number in range(self._count)]
        try:
            waits = {stopped, *starts}
            while not stopped.done() and any(not each.done() for each in starts):
                done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for each in done - {stopped}:
                    each.result()
            return [each.result() for each in starts if each.done()]
        finally:
            for each in (stopped, *starts):
                each.cancel()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Start again whoever dies, until ``stopping`` is set."""
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
        try:
            while not stopped.done():
                attending = dict(self._attending)
                await asyncio.wait({stopped, *attending.values()}, return_when=asyncio.FIRST_COMPLETED)
                for number, task in attending.items():
                    if task.done():
                        await self._again(number, task.result(), stopped)
        finally:
            stopped.cancel()

    async def _again(self, number: int, code: int, stopped: "asyncio.Future[Any]") -> None:
        log.error("worker %d ended (%s), and is started again", number, _ending(code))
        await asyncio.wait({stopped}, timeout=AGAIN_S)
        if not stopped.done():
            self._attending[number] = asyncio.ensure_future(self._run_again(number))

    async def _run_again(self, number: int) -> int:
        try:
            line = await self._start(number, attend=False)
        except (ConfigError, Unavailable, OSError) as error:  # There may be no memory for a process, for a while.
            log.error("worker %d was not started again: %s", number, error)  # noqa: TRY400
        else:
            log.info("worker %d serves again: %s", number, line)
        process = self._processes.get(number)
        return await self._attend(number, process) if process is not None else 1

    async def stop(self) -> None:
        """Ask every one to drain and wait for it, in bounded time; then end those that did not."""
        for task in self._attending.values():
            task.cancel()
        await asyncio.gather(*self._creating, *self._attending.values(), return_exceptions=True)
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        waits = [asyncio.ensure_future(process.wait()) for process in self._processes.values()]
        if waits:
            await asyncio.wait(waits, timeout=STOP_S)
        for number, process in self._processes.items():
            if process.returncode is None:
                log.error("worker %d did not end, and is ended by force", number)
                process.kill()
            await process.wait()
        self._held.close()

    async def _start(self, number: int, *, attend: bool = True) -> str:
        # Called off in between, there would be a process that nobody knows, nor waits for.
        creating = asyncio.ensure_future(self._create(number))
        self._creating.add(creating)
        creating.add_done_callback(self._creating.discard)
        process = await asyncio.shield(creating)
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode(errors="replace").strip()
        if not line.startswith("ready "):
            code = await process.wait()
            kind = ConfigError if code == 2 else Unavailable
            raise kind(f"worker {number} could not start ({_ending(code)}): its last line says why")
        if attend:
            self._attending[number] = asyncio.ensure_future(self._attend(number, process))
        return line

    async def _create(self, number: int) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._program, str(number), stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        self._processes[number] = process
        return process

    async def _attend(self, number: int, process: Process) -> int:
        code = await process.wait()
        if self._processes.get(number) is process:
            del self._processes[number]
        return code


def _hold(address: Address) -> socket.socket:
    """A socket that keeps the port for those who share it. It does not listen, and so takes no connection."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    place = (address.host, address.port)
    try:
        with socket.socket(family) as probe:  # Shared, it would be given although somebody else has it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            if address.port:
                probe.listen(1)
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(place)
    except OSError as error:
        reason = "the address is in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
        raise ConfigError(f"http: cannot listen on {address}: {reason}") from error
    return held


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
