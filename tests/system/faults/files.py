"""Damage to files of a node that was killed: what was synced is there or the node refuses, and says which file."""

import asyncio
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.system.faults.life import NEVER, ContradictionError, FaultServer, Life, mentions
from tests.system.kill.wire import BrokenError
from tests.system.power.journal import Model, Snapshot, settle
from tests.system.power.shim import Kind, Rule

PAGE: Final = 4096

INTACT = "opened; everything acknowledged is there"
CUT = "opened; only unsynced bytes gone; later appends read back"
REFUSED = "refused, exit 1; names the file and the next step"
TOLD = "opened; exit 1 where the damage is met; names the file and the next step"

Damage = Callable[[bytearray, int, random.Random], None]
"""Changes the content of a file behind the byte that is given."""


# ------------------------------------------------------------------------------------------ bytes that were not synced


def torn(content: bytearray, start: int, chance: random.Random) -> None:
    """The file ends somewhere in them."""
    del content[chance.randint(start, len(content) - 1) :]


def zeros(content: bytearray, start: int, chance: random.Random) -> None:
    """Pages that were never written back; those behind them may have been."""
    for first, last in _some(_pages(content, start), chance):
        content[first:last] = bytes(last - first)


def garbage(content: bytearray, start: int, chance: random.Random) -> None:
    """Pages that hold what another file left there."""
    for first, last in _some(_pages(content, start), chance):
        content[first:last] = chance.randbytes(last - first)


def reordered(content: bytearray, start: int, chance: random.Random) -> None:
    """Pages in each other's places; with only one, its two halves."""
    pages = _pages(content, start)
    if len(pages) == 1:
        first, last = pages[0]
        half = (first + last) // 2
        content[first:last] = content[half:last] + content[first:half]
        return
    whole = [page for page in pages if page[1] - page[0] == PAGE] or pages
    parts = [bytes(content[first:last]) for first, last in whole]
    order = parts[:]
    while order == parts and len(set(parts)) > 1:
        chance.shuffle(order)
    at = whole[0][0]
    content[at : whole[-1][1]] = b"".join(order)


def _pages(content: bytearray, start: int) -> list[tuple[int, int]]:
    """The pages from ``start`` on; of the first only what is behind it."""
    edges = [start, *range((start // PAGE + 1) * PAGE, len(content), PAGE), len(content)]
    return list(itertools.pairwise(edges))


def _some(pages: list[tuple[int, int]], chance: random.Random) -> list[tuple[int, int]]:
    return sorted(chance.sample(pages, chance.randint(1, len(pages))))


def unsynced(folder: Path, seed: str, damage: Damage) -> str:
    """Kill in the middle of a sync, damage what it had not made durable, and start again."""
    server = FaultServer(folder, journal=True, flush_bytes=2 << 20)
    life = Life(server, server.data, seed)
    before = Snapshot.take(server.shim.root)
    try:
        life.begin()
        server.shim.rule(Rule({Kind.SYNC}, "data/db/*.log", delay_ms=life.chance.uniform(20, 60)))
        life.load(life.chance.randint(20, 400), server.kill)
        server.shim.clear()
        wal, synced = _newest_wal(server, before)
        content = bytearray(wal.read_bytes())
        unsynced_bytes = len(content) - synced
        if unsynced_bytes:
            damage(content, synced, life.chance)
            wal.write_bytes(content)
        _forget_journal(server)
        life.begin()
        life.go_on()
    finally:
        life.end()
    return CUT if unsynced_bytes else INTACT


def _newest_wal(server: FaultServer, before: Snapshot) -> tuple[Path, int]:
    """The newest write-ahead log file, and how many bytes of it were synced, as the journal has it."""
    shim = server.shim
    assert shim.journal is not None
    settle(shim.journal, shim.root)
    model = Model(before, shim.journal, shim.root, shim.graveyard)
    wal = max((server.data / "db").glob("*.log"), key=lambda each: int(each.stem))
    file = model.files[wal.stat().st_ino]
    return wal, max((change.after for change in file.changes if change.synced), default=0)


def _forget_journal(server: FaultServer) -> None:
    """From here on nobody asks what was synced."""
    server.shim.journal = None


# ------------------------------------------------------------------------------------------------- bytes that were


def older_wal(folder: Path, seed: str) -> str:
    """Two write-ahead log files are live, because the table files of the first are slow; the first is cut."""
    server = FaultServer(folder, flush_bytes=256 << 10)
    life = Life(server, server.data, seed)
    try:
        life.begin()
        slow = server.shim.rule(Rule({Kind.SYNC}, "data/db/*.sst", delay_ms=20_000, skip=life.chance.randint(0, 9)))

        async def moment() -> None:
            """Kill when a flush hangs, and the log begun behind it has something."""
            while True:
                await asyncio.sleep(0.01)
                if server.shim.counts(slow)[1] and len(_live(server)) > 1:
                    server.kill()
                    return

        life.load(NEVER, None, moment)
        server.shim.clear()
        wal = life.chance.choice(_live(server)[:-1])
        with wal.open("r+b") as file:
            file.truncate(life.chance.randint(0, wal.stat().st_size - 1))
        return _refused_or_intact(life, wal.name)
    finally:
        life.end()


def _live(server: FaultServer) -> list[Path]:
    found = sorted((server.data / "db").glob("*.log"), key=lambda wal: int(wal.stem))
    return [wal for wal in found if wal.stat().st_size]


def flipped(folder: Path, seed: str, pattern: str) -> str:
    """One bit of one file, chosen by chance, is another one at the next start; all of it was synced."""
    server = FaultServer(folder, flush_bytes=64 << 10)
    life = Life(server, server.data, seed)
    try:
        life.begin()
        life.load(life.chance.randint(200, 800))
        if life.chance.random() < 0.5:  # so that there is a table file made by a recovery, and an idle log
            server.kill()
            life.begin()
            life.load(life.chance.randint(20, 200))
        server.kill()
        files = [each for each in sorted(server.data.glob(pattern)) if each.stat().st_size]
        if not files:
            raise ContradictionError(f"the load made no {pattern}")
        path = life.chance.choice(files)
        content = bytearray(path.read_bytes())
        at = life.chance.randrange(len(content))
        content[at] ^= 1 << life.chance.randrange(8)
        path.write_bytes(content)
        return _refused_or_intact(life, path.name)
    finally:
        life.end()


def _refused_or_intact(life: Life, name: str) -> str:
    """The only two lawful answers, at open or when the damage is met."""
    before = _contents(life.data)
    words = life.launch()
    if words:
        mentions(words, name)
        if "Nothing was changed" not in words:  # it was opened, and the damage met by what every start reads
            return TOLD
        if _contents(life.data) != before:
            raise ContradictionError(f"it refused, and changed the directory: {words}")
        again = life.launch()
        if again != words:
            raise ContradictionError(f"it said {words!r}, and then {again!r}")
        return REFUSED
    if life.check_until_it_ends() and life._running():
        if life.report.wrong:
            raise ContradictionError("; ".join(life.report.wrong[:5]))
        try:
            life.go_on()
        except (ContradictionError, BrokenError) as error:
            if life.report.wrong or (life._running() and not isinstance(error, BrokenError)):
                raise
            mentions(life.last_words(), name)  # met by a rewrite of files under the last load, and again at the start
            return TOLD
        return INTACT
    mentions(life.last_words(), name)
    if life.report.wrong:
        raise ContradictionError("; ".join(life.report.wrong[:5]))
    return TOLD


def _contents(data: Path) -> dict[str, bytes]:
    """Every file that is data; not RocksDB's diary, nor what is held or written by opening."""
    skipped = ("LOG", "LOCK", "rocksdict-config", "lock")
    found = {}
    for folder, _, names in os.walk(data):
        for each in names:
            if not each.startswith(skipped):
                found[each] = (Path(folder) / each).read_bytes()
    return found
