"""Files that are damaged while a node is down: a bit that flips, or an end that is cut off."""

import random
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.system.chaos import members
from tests.system.chaos.cluster import Node
from tests.system.chaos.processes import BETWEEN
from tests.system.chaos.scene import Scene
from tests.system.chaos.transfers import begin_transfer
from tests.system.chaos.worlds import Changing

INSTALLING: Final = "what a snapshot has brought"
FILES: Final[Mapping[str, Sequence[str]]] = {
    "WAL": ["db/*.log"],
    "SST": ["db/*.sst"],
    "MANIFEST": ["db/MANIFEST-*"],
    "CURRENT": ["db/CURRENT"],
    "OPTIONS": ["db/OPTIONS-*", "db/IDENTITY", "db/rocksdict-config.json"],
    "format": ["format"],
    "durable-turn": ["durable-turn"],
    "identity": ["identity"],
    INSTALLING: ["db/*.log", "db/*.sst"],
}


class Damaging(Changing):
    """Deals the kinds of files, each with both damages, before any comes again."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self._cases: list[tuple[str, bool]] = []

    def next_case(self, chance: random.Random) -> tuple[str, bool]:
        """A kind of file, and whether it is cut."""
        if not self._cases:
            self._cases = [(kind, cut) for kind in FILES for cut in (False, True)]
            chance.shuffle(self._cases)
        return self._cases.pop()


async def flip(scene: Scene) -> None:
    """One node of three, or two of five: killed, a file of each damaged, started again.

    They come back by themselves, or end and say what to do, which is done; what they serve is right.
    """
    chosen = scene.chance.sample(scene.cluster.nodes, (len(scene.cluster.nodes) - 1) // 2)
    assert isinstance(scene.world, Damaging)
    cases = [scene.world.next_case(scene.chance) for _ in chosen]
    injection = scene.pulse.inject("flip", [node.name for node in chosen])
    for node, (kind, _) in zip(chosen, cases, strict=True):
        if kind == INSTALLING:
            await begin_transfer(scene, node)
    for node in chosen:
        node.signal(signal.SIGKILL)
    for node in chosen:
        await scene.ended(node, -signal.SIGKILL)
    told = [harm(node.data, kind, scene.chance, cut=cut) for node, (kind, cut) in zip(chosen, cases, strict=True)]
    await scene.writable(injection)
    await scene.pulse.more(scene.chance.randrange(*BETWEEN))
    assert scene.keeper is not None
    since = len(scene.keeper.ends)
    for node in chosen:
        node.launch()
    await _back(scene, chosen)
    outcomes = [scene.keeper.told(node, since) for node in chosen]
    injection.note = "; ".join(f"{what}: {outcome}" for what, outcome in zip(told, outcomes, strict=True))
    for node in chosen:
        for each in node.data.glob("damaged-*"):
            shutil.rmtree(each)
    await scene.writable(injection)
    await scene.calm(injection)


async def _back(scene: Scene, nodes: Sequence[Node]) -> None:
    """Wait until all vote again, and have answered for everything that they hold."""
    assert scene.load is not None
    assert scene.keeper is not None
    while True:
        ends = len(scene.keeper.ends)
        await members.settled(scene.cluster)
        for node in nodes:
            await scene.load.read_all(node)
        if len(scene.keeper.ends) == ends:
            return


def harm(place: Path, kind: str, chance: random.Random, *, cut: bool) -> str:
    """Damage one file of a kind; what was done, for people."""
    files = [each for pattern in FILES[kind] for each in sorted(place.glob(pattern)) if each.stat().st_size]
    assert files, f"no file in {place} is {kind}"
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if cut:
        path.write_bytes(content[:at])
        return f"{kind}: {path.name} cut at {at} of {len(content)}"
    bit = chance.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"{kind}: bit {bit} of byte {at} of {len(content)} of {path.name} flipped"
