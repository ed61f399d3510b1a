"""Rounds of load, SIGKILL at a chosen or random moment, power cut, restart and check, on one data directory."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.server import ROOT, NotReadyError, Server
from tests.system.kill.rounds import WORKERS, Report, Rounds
from tests.system.kill.wire import BrokenError
from tests.system.power.cut import Disk, Loss, leave
from tests.system.power.journal import Model
from tests.system.power.moments import choose, suspicious
from tests.system.power.shim import ANY, KILL, Kind, Rule, Shim

FLUSH_BYTES: Final = (16 << 10, 64 << 10, 256 << 10, 2 << 20, 64 << 20)
KEPT_LOG_BYTES: Final = (64 << 10, 1 << 20, 16 << 20)
FILES: Final = ("*/MANIFEST-*", "*.sst", "*/CURRENT", "*.dbtmp", "*/durable-turn", "*/db", "*.log")
"""Files that the kill may wait for a call on."""
EVENTS: Final = (
    (Kind.CREATE, "*.log"),
    (Kind.CREATE, "*.log"),
    (Kind.UNLINK, "*.log"),
    (Kind.WRITE, "*/durable-turn"),
    (Kind.WRITE, "*/MANIFEST-*"),
    (Kind.CREATE, "*.sst"),
)
"""What the kill may follow: a new WAL, one that is given up, and what else a memtable flush does."""
PROBES: Final = 4
"""Outcomes of each cut that are opened and thrown away, besides the one that the node goes on with; as many of moments
before, and of each of three suspicious ones."""


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
        self.probes = 0
        self.suspicious = 0
        self.kills: dict[str, int] = {}
        self._power = server
        self._disk = Disk(server.shim)
        self._chance = random.Random(f"power/{seed}")
        self._armed, self._how = "", ""
        self._rule: int | None = None
        self._last = Loss()

    def run_all(self, rounds: int, say: Callable[[str], None] = print) -> Report:
        """``run``; a server that fails altogether is a contradiction like others."""
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
        return f"; killed {self._how}; {self._last}"

    def _ended(self) -> bool:
        """Only the rule that was set may have ended it."""
        assert self.server.process is not None
        return bool(self._armed) and self.server.process.wait() == -9

    async def _load(self, number: int) -> None:
        self._last = Loss()
        self._arm()
        await super()._load(number)
        # What was armed may never have happened; then it was the number of answers that ended the load.
        hit = self._rule is not None and self._power.shim.counts(self._rule)[1] > 0
        self._power.shim.clear()
        self._how = self._armed if hit else "at some time"
        kind = self._how.partition(":")[0]
        self.kills[kind] = self.kills.get(kind, 0) + 1

    def _arm(self) -> None:
        """Choose what kills the server, beside the time, and how slow its disk is."""
        chance, shim = self._chance, self._power.shim
        if chance.random() < 0.4:
            shim.rule(Rule({Kind.SYNC}, "*.log", delay_ms=chance.uniform(0.5, 8.0)))
        self.workers = chance.choice([1, 2, 4, WORKERS, WORKERS])
        match chance.choice(["", "any call", "event", "sync", "sync", "file"]):
            case "any call":
                skip = int(10 ** chance.uniform(1.0, 3.5))
                self._rule = shim.rule(Rule(ANY, "*", error=KILL, skip=skip))
                self._armed = f"at any call: {skip}"
            case "event":
                skip = chance.randint(0, 30)
                self._rule = shim.rule(Rule(ANY, "*", error=KILL, skip=skip, after=self._event()))
                self._armed += f" + {skip} calls"
            case "sync":
                # While it runs others write: two WALs may then hold bytes that are not synced.
                skip, slow = chance.choice([0, 0, 1, 2]), chance.choice([0.0, chance.uniform(0.0, 12.0)])
                rule = Rule({Kind.SYNC}, "*.log", error=KILL, skip=skip, delay_ms=slow, after=self._event())
                self._rule = shim.rule(rule)
                self._armed += f" + {skip} syncs of WALs + {slow:.1f} ms"
            case "file":
                pattern, skip = chance.choice(FILES), chance.randint(0, 20)
                self._rule = shim.rule(Rule(ANY, pattern, error=KILL, skip=skip))
                self._armed = f"at a file: {pattern} {skip}"
            case _:
                self._armed, self._rule = "", None

    def _event(self) -> int:
        """A rule that only waits for something to happen."""
        kind, pattern = self._chance.choice(EVENTS)
        number = self._chance.randint(0, 8)
        self._armed = f"after an event: {kind.name.lower()} of {pattern} number {number + 1}"
        return self._power.shim.rule(Rule({kind}, pattern, skip=number, times=1))

    def _restart(self) -> None:
        if self._running():
            self.server.kill()
        self._lose_power()
        if not self.report.wrong:
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
            if self.report.wrong:
                return
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
        model = self._disk.model()
        self._probe(model)
        loss = self._disk.cut(self._chance, model=model)
        self._last.add(loss)
        self.loss.add(loss)
        self.cuts += 1

    def _probe(self, model: Model) -> None:
        """Other outcomes of this moment, and moments before it: the store must open each."""
        chance = self._chance
        tried: list[tuple[str, int | None]] = [("now", None)] * PROBES
        if model.records:
            strange = suspicious(model)
            self.suspicious += len(strange)
            tried += [choose(model, chance) for _ in range(PROBES)]
            for moment in chance.sample(strange, min(3, len(strange))):
                tried += [("suspicious", moment)] * PROBES
        places, names = [], []
        for number, (kind, moment) in enumerate(tried):
            places.append(self._power.folder / f"left-{number}")
            names.append(f"left-{number} ({kind}, {moment})")
            leave(model if moment is None else model.at(moment), places[-1], chance, link=False)
        command = [sys.executable, "-m", "tests.system.power.probe", *(str(place / "data") for place in places)]
        environment = self._power.environment() | {"LD_PRELOAD": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if len(answers) != len(places):
            self._refused("cannot be opened", done.stderr)
        self.probes += len(answers)
        for name, answer in zip(names, answers, strict=False):
            if "refused" in answer:
                self._refused("does not open", f"{name}: {answer['refused']}")
        if not self.report.wrong:
            for place in places:
                shutil.rmtree(place)
