"""Where the nodes of a run live: as they are, each with a network of its own, a watched disk, or a clock of its own."""

import asyncio
import datetime
import mmap
import random
import shutil
import struct
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from tests.server import ROOT
from tests.system.chaos import network
from tests.system.chaos.client import Connection
from tests.system.chaos.cluster import Node
from tests.system.power.cut import LAWFUL, NOTHING, Disk, Loss
from tests.system.power.shim import Rule, Shim, build

CLOCK: Final = Path(__file__).with_name("clock.c")
OFFSET: Final = struct.Struct("=q")
SHOWN_LIMIT = 20.0
FLUSH_BYTES, KEPT_LOG_BYTES = 4 << 20, 4 << 20
"""Smaller than they are by default, so that memtables are written out and logs are cut while faults come."""
SHORT_LOG_BYTES, PER_TICK_BYTES = 64 << 10, 256 << 10
"""Much smaller still: a node that was away for some seconds needs a snapshot, of which 5 MiB travel in a second."""


class World:
    """Nodes on the loopback interface, with the machine's disk and clock."""

    def __init__(self, folder: Path, count: int) -> None:
        self.nodes: Sequence[Node] = [Node(folder / name, name) for name in _names(count)]
        self.spares: Sequence[Node] = ()
        """Places of nodes that do not belong yet."""

    @staticmethod
    def missing() -> str:
        """Why it cannot be had here; empty when it can."""
        return ""

    def make(self) -> None:
        """Before the first start."""

    def remove(self) -> None:
        """After the last end."""


class Changing(World):
    """Nodes with short logs and slow snapshots, so that each that comes gets one; and a place for one more."""

    def __init__(self, folder: Path, count: int) -> None:
        names = _names(count + 1)
        every = [Node(folder / name, name) for name in names]
        self.nodes, self.spares = every[:count], every[count:]
        self._made = len(names) - 1
        for node in every:
            node.module = ("tests.system.chaos.small", str(FLUSH_BYTES // 4), str(SHORT_LOG_BYTES), str(PER_TICK_BYTES))
            node.extra = {"PYTHONPATH": f"{node.environment()['PYTHONPATH']}:{ROOT}"}

    def new_name(self) -> str:
        """One that no node has had."""
        self._made += 1
        return f"n{self._made}"


class Growing(Changing):
    """One node, and places for so many that all are ``count``."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count - 1)
        every = [*self.nodes, *self.spares]
        self.nodes, self.spares = every[:1], every[1:]
        self.most = count
        self.rises = True


class Networks(World):
    """Each node in a network namespace of its own."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self.net = network.Network(count)
        names = enumerate(_names(count))
        self.nodes = [Node(folder / name, name, self.net.hosts[at], self.net.prefix(at)) for at, name in names]

    @staticmethod
    def missing() -> str:
        return network.missing()

    def make(self) -> None:
        self.net.make()

    def remove(self) -> None:
        self.net.remove()


class Disks(World):
    """The shim of ``tests/system/power`` between each node and its disk; with a journal, the power can be cut."""

    journal = False

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self.shims: list[Shim] = []
        self.disks: list[Disk] = []

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("cc") else "no C compiler (Debian: gcc, libc6-dev)"

    def make(self) -> None:
        for node in self.nodes:
            shim = Shim(node.folder / "disk", node.folder / "aside", journal=self.journal)
            self.shims.append(shim)
            node.data = shim.root / "data"
            node.extra = shim.environment() | {"PYTHONPATH": f"{node.environment()['PYTHONPATH']}:{ROOT}"}
            node.module = ("tests.system.power.node", str(FLUSH_BYTES), str(KEPT_LOG_BYTES))
            if self.journal:
                self.disks.append(Disk(shim))

    def shim_of(self, node: Node) -> Shim:
        return self.shims[self.nodes.index(node)]

    def slow(self, node: Node, rule: Rule) -> int:
        return self.shim_of(node).rule(rule)


class Power(Disks):
    """Disks that can lose what was not synced."""

    journal = True

    def cut(self, chance: random.Random) -> Loss:
        """Make each disk what a power cut leaves of it; no node may be running.

        Now and then nothing is left of what was not synced: what was acknowledged too soon is on no disk then.
        """
        loss, weights = Loss(), chance.choice([LAWFUL, NOTHING])
        for disk in self.disks:
            loss.add(disk.cut(chance, weights))
        return loss


class Clocks(World):
    """Each node's wall clock is off by what a file says (``clock.c``); the steady clocks are the machine's."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self._offsets: dict[str, mmap.mmap] = {}

    @staticmethod
    def missing() -> str:
        return Disks.missing()

    def make(self) -> None:
        library = build(CLOCK)
        for node in self.nodes:
            path = node.folder / "offset"
            path.write_bytes(OFFSET.pack(0))
            with path.open("r+b") as file:
                self._offsets[node.name] = mmap.mmap(file.fileno(), 0)
            node.extra = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(path)}

    def set_clock(self, node: Node, offset_s: int) -> None:
        """Seconds a node's wall clock is ahead from now on."""
        self._offsets[node.name][:] = OFFSET.pack(offset_s)

    async def shown(self, node: Node, offset_s: int) -> None:
        """Return once the node was seen to have the new time: its date is made once a second."""
        connection = Connection(node.host, node.ports["ops"])
        async with asyncio.timeout(SHOWN_LIMIT):
            while True:
                answer = await connection.request("GET", "/livez", limit=SHOWN_LIMIT)
                shown = parsedate_to_datetime(answer.headers[b"date"].decode())
                if abs((shown - datetime.datetime.now(datetime.UTC)).total_seconds() - offset_s) < 5:
                    break
                await asyncio.sleep(0.05)
        connection.close()


def _names(count: int) -> list[str]:
    return [f"n{each + 1}" for each in range(count)]
