"""Rounds of load, SIGKILL at a chosen or random moment, power cut, restart and check, on one data directory."""

import os
import random
from pathlib import Path
from typing import Final

from tests.server import ROOT, NotReadyError, Server
from tests.system.kill.rounds import Report, Rounds
from tests.system.kill.wire import BrokenError
from tests.system.power.cut import Disk, Loss
from tests.system.power.shim import ANY, KILL, Kind, Rule, Shim

FLUSH_BYTES: Final = (16 << 10, 64 << 10, 256 << 10, 2 << 20)
KEPT_LOG_BYTES: Final = (64 << 10, 1 << 20, 16 << 20)
FILES: Final = ("*/MANIFEST-*", "*.sst", "*/CURRENT", "*.dbtmp", "*/durable-turn", "*/db", "*.log")
"""What the kill may wait for."""


class PowerServer(Server):
    """A node whose disk is watched. Its data directory is one level below the watched folder, so that making it is
    watched too."""

    def __init__(self, folder: Path, sources: Path = ROOT) -> None:
        """``sources`` holds the packages to run: this repository, or a copy of it with a bug planted."""
        super().__init__(folder)
        self.sources = sources
        self.shim = Shim(folder / "disk", folder / "aside", journal=True)
        self.sizes = FLUSH_BYTES[-1], KEPT_LOG_BYTES[-1]

    def command(self) -> list[str]:
        words = super().command()
        words[words.index("durable_streams_client.cli")] = "tests.system.power.node"
        words[words.index("serve") : words.index("serve")] = map(str, self.sizes)
        words[words.index("--data-dir") + 1] = str(self.shim.root / "data")
        return words

    def environment(self) -> dict[str, str]:
        roots = [str(self.sources / part) for part in ("cluster", "client", "proto")]
        return super().environment() | self.shim.environment() | {"PYTHONPATH": os.pathsep.join([*roots, str(ROOT)])}


class PowerRounds(Rounds):
    """As with ``Rounds``, but nearly every kill is followed by a power cut."""

    def __init__(self, server: PowerServer, seed: str) -> None:
        super().__init__(server, seed)
        self.loss = Loss()
        self.cuts = 0
        self.kills: dict[str, int] = {}
        self._power = server
        self._disk = Disk(server.shim)
        self._chance = random.Random(f"power/{seed}")
        self._armed = ""
        self._last = Loss()

    def run_all(self, rounds: int, say: object = print) -> Report:
        """``run``; a server that fails altogether is a contradiction like others."""
        assert callable(say)
        try:
            self.run(rounds, say)
        except BrokenError as error:
            self.report.wrong.append(f"the server ended or fell silent while it was checked: {error}")
        finally:
            if self._running():
                self.server.kill()
        return self.report

    def _begin(self) -> None:
        self._start()

    def _remark(self) -> str:
        return f"; killed {self._armed or 'at some time'}; {self._last}"

    def _ended(self) -> bool:
        """Only the rule that was set may have ended it."""
        assert self.server.process is not None
        return bool(self._armed) and self.server.process.wait() == -9

    async def _load(self, number: int) -> None:
        self._last = Loss()
        self._arm()
        await super()._load(number)
        self._power.shim.clear()
        how = self._armed.partition(":")[0] or "at some time"
        self.kills[how] = self.kills.get(how, 0) + 1

    def _arm(self) -> None:
        """Choose what kills the server, beside the time, and how slow its disk is."""
        chance, shim = self._chance, self._power.shim
        if chance.random() < 0.4:
            shim.rule(Rule({Kind.SYNC}, "*.log", delay_ms=chance.uniform(0.5, 8.0)))
        match chance.choice(["", "any call", "new WAL", "new WAL", "file"]):
            case "any call":
                skip = int(10 ** chance.uniform(1.0, 3.5))
                shim.rule(Rule(ANY, "*", error=KILL, skip=skip))
                self._armed = f"at any call: {skip}"
            case "new WAL":
                number, skip = chance.randint(0, 8), chance.randint(0, 30)
                first = shim.rule(Rule({Kind.CREATE}, "*.log", skip=number, times=1))
                shim.rule(Rule(ANY, "*", error=KILL, skip=skip, after=first))
                self._armed = f"near a new WAL: {skip} calls after number {number + 1}"
            case "file":
                pattern, skip = chance.choice(FILES), chance.randint(0, 20)
                shim.rule(Rule(ANY, pattern, error=KILL, skip=skip))
                self._armed = f"at a file: {pattern} {skip}"
            case _:
                self._armed = ""

    def _restart(self) -> None:
        if self._running():
            self.server.kill()
        self._lose_power()
        self._start()

    def _start(self) -> None:
        """Start; now and then the start is itself cut short, at some call or time of it."""
        while self._chance.random() < 0.3:
            self._choose_sizes()
            if self._chance.random() < 0.7:
                self._power.shim.rule(Rule(ANY, "*", error=KILL, skip=self._chance.randint(0, 120)))
            process = self.server.launch()
            process.kill_after(self._chance.uniform(0.2, 1.0))
            self._power.shim.clear()
            self.report.restarts += 1
            if (code := process.wait()) != -9:
                self._refused(f"ended with {code} while it started", process.errors)
                return
            self._lose_power()
        self._choose_sizes()
        self.report.restarts += 1
        try:
            self.server.start()
        except NotReadyError as error:
            self._refused("does not start", str(error))

    def _refused(self, what: str, errors: str) -> None:
        self.report.wrong.append(f"after a lawful power cut the node {what}: {errors[-3000:]}")

    def _choose_sizes(self) -> None:
        self._power.sizes = self._chance.choice(FLUSH_BYTES), self._chance.choice(KEPT_LOG_BYTES)

    def _lose_power(self) -> None:
        """Now and then only the process is lost."""
        if self._chance.random() < 0.1:
            self._disk.settle()
            return
        loss = self._disk.cut(self._chance)
        self._last.add(loss)
        self.loss.add(loss)
        self.cuts += 1
