"""One life of a node: a data directory of its own, load, one fault, and everything checked afterwards."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.server import ROOT, NotReadyError, Process, Server
from tests.system.kill import checker
from tests.system.kill.history import Found, Outcome
from tests.system.kill.rounds import WORKERS, Rounds, read
from tests.system.kill.wire import BrokenError, Connection
from tests.system.kill.workload import Worker
from tests.system.power.rounds import PowerServer
from tests.system.power.shim import Shim

END_LIMIT: Final = 40.0
"""Seconds in which a node that failed must have ended."""
LOAD_LIMIT: Final = 60.0
NEVER: Final = 1 << 60
ENOUGH: Final = 10
"""Fewer acknowledged operations say nothing."""


class ContradictionError(AssertionError):
    """What the node did or said is not what it promises."""


class FaultServer(PowerServer):
    """A node below a shim, with small memtables, so that a short load makes many files."""

    def __init__(self, folder: Path, *, journal: bool = False, flush_bytes: int = 64 << 10) -> None:
        Server.__init__(self, folder)
        self.sources = ROOT
        self.shim = Shim(folder / "disk", folder / "aside", journal=journal)
        self.sizes = flush_bytes, 1 << 20

    @property
    def data(self) -> Path:
        return self.shim.root / "data"


class SmallDiskServer(Server):
    """A node on a small file system, with the ballast and the reserve that it chooses for it."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"DURABLE_STREAMS_DISK_RESERVE": "8MiB"}


class Life(Rounds):
    """See the module. ``wrong`` is what was found against the node."""

    def __init__(self, server: Server, data: Path, seed: str) -> None:
        super().__init__(server, seed)
        self.data = data
        self.chance = random.Random(f"fault/{seed}")
        self._loads = 0
        self._said = 0

    # ------------------------------------------------------------------------------------------------------- process

    @property
    def process(self) -> Process:
        assert self.server.process is not None
        return self.server.process

    def begin(self) -> None:
        """Start; it must come up."""
        self._hear()
        try:
            self.server.start()
        except NotReadyError as error:
            raise ContradictionError(f"does not start: {error}") from error

    def launch(self) -> str:
        """Start and see: nothing when it is ready, or its last words when it refused, with exit code 1."""
        self._hear()
        process = self.server.launch()
        try:
            process.wait_ready()
        except NotReadyError:
            return self.last_words()
        return ""

    def last_words(self) -> str:
        """What it said at its end, which was by itself, with exit code 1 and one readable line for whoever repairs."""
        code = self.process.wait(END_LIMIT)
        text = self._hear()
        if code != 1:
            raise ContradictionError(f"ended with {code}: {text[-1500:]}")
        lines = [line for line in text.splitlines() if line.startswith("durable-streams: error: ")]
        if len(lines) != 1 or text.rstrip().splitlines()[-1] != lines[0]:
            raise ContradictionError(f"its last line is not its error: {text[-1500:]}")
        if "Next step: " not in lines[0]:
            raise ContradictionError(f"no next step: {lines[0]}")
        return lines[0]

    def _hear(self) -> str:
        """What was written to standard error since the last call."""
        log = self.server.folder / "stderr.log"
        text = log.read_text(errors="replace")[self._said :] if log.exists() else ""
        self._said += len(text)
        return text

    def end(self) -> None:
        """Leave nothing behind."""
        if self._running():
            self.server.kill()

    # ---------------------------------------------------------------------------------------------------------- load

    def load(
        self,
        answers: int,
        then: Callable[[], None] | None = None,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Work until so many answers came or the node ended by itself.

        Args:
            answers: how many; then the load ends, and what is in flight with it.
            then: called at that moment, such as ``server.kill``; None: what is in flight is answered.
            meanwhile: runs beside the load, which ends with it.

        """
        asyncio.run(self._work(answers, then, meanwhile))

    async def _work(
        self, answers: int, then: Callable[[], None] | None, meanwhile: Callable[[], Awaitable[None]] | None
    ) -> None:
        stopped, count = asyncio.Event(), 0

        def stop() -> None:
            if not stopped.is_set():
                stopped.set()
                if then is not None:
                    then()

        def answered() -> None:
            nonlocal count
            count += 1
            if count == answers:
                asyncio.get_running_loop().call_later(self.chance.uniform(0.0, 0.01), stop)

        seed = f"{self.seed}/{self._loads}"
        self._loads += 1
        workers = [Worker(each, seed, self._address, (self.history, self.pool)) for each in range(WORKERS)]
        async with asyncio.timeout(LOAD_LIMIT):
            working = asyncio.gather(*(worker.run(stopped, answered) for worker in workers))
            if meanwhile is not None:
                await meanwhile()
                stop()
            await working
        broken = [worker.broken for worker in workers if worker.broken]
        if broken and self._running():
            await asyncio.to_thread(self.process.wait, END_LIMIT)  # it closes connections first, and ends then
        self.report.wrong += [wrong for worker in workers for wrong in worker.wrong]

    # --------------------------------------------------------------------------------------------------------- check

    def check(self, *, send_again: bool = True) -> None:
        """Read every stream, and compare with what was acknowledged, refused, and unknown.

        ``send_again``: then send each producer's last batch again, as ``Rounds`` does.
        """
        if sum(self.history.count(Outcome.ACKED).values()) < ENOUGH:
            raise ContradictionError("hardly anything was acknowledged: nothing was tried")
        paths = {op.path for op in self.history.ops}
        asyncio.run(self._check(paths) if send_again else self._compare(paths))
        if self.report.wrong:
            raise ContradictionError("; ".join(self.report.wrong[:5]))

    async def _compare(self, paths: set[str]) -> None:
        """As ``_check``, but batches of unknown outcome are settled by what is found, not by sending them again."""
        found = await self._read(paths)
        self.report.wrong += checker.check(self.history, found)
        checker.resolve(self.history, found)
        for stream in self.pool.streams:
            if (state := found.get(stream.path)) is not None:
                stream.closed, stream.deleted = state.closed, state.records is None
        for key, (_, op) in self.pool.producers.items():
            if op is not None and op.outcome is Outcome.UNKNOWN and op.path in found and op.producer is not None:
                there = op.records[0] in (found[op.path].records or ())
                self.history.answer(op, Outcome.ACKED if there else Outcome.REFUSED, note="settled by what was found")
                self.pool.producers[key] = op.producer[2] + there, op if there else None
        self.pool.forget_deleted()

    def check_until_it_ends(self) -> bool:
        """Read every stream; whether all could be read. What could be read must be right, even if the node ends."""
        return asyncio.run(self._read_until_it_ends())

    async def _read_until_it_ends(self) -> bool:
        paths = sorted({op.path for op in self.history.ops if op.outcome is not Outcome.REFUSED and "#" not in op.path})
        found: dict[str, Found] = {}
        connection = Connection(*self._address)
        try:
            for path in paths:
                state = await read(connection, path)
                if abs(state.status) == 503:
                    return False
                found[path] = state
        except BrokenError:
            return False
        finally:
            connection.close()
            # Of a fork, the source may be among what could not be read any more: then it is not compared with it.
            self.report.wrong += checker.check(self.history, found)
        return True

    def go_on(self) -> None:
        """Everything is there; what is appended now is read after the next kill."""
        self.check()
        self.load(self.chance.randint(30, 120), self.server.kill)
        self.begin()
        self.check()


def mentions(text: str, *names: str) -> None:
    """The words name one of these files."""
    if not any(re.search(rf"\b{re.escape(name)}\b", text) for name in names):
        raise ContradictionError(f"names none of {names}: {text}")
