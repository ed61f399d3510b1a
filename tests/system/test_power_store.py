"""The store alone, killed at every single call of its first start, of a WAL switch and of its end, and then cut.

Nothing that was not synced survives these cuts: the harshest ones.
"""

import random
import shutil
import subprocess
import sys
from pathlib import Path

from durable_streams_cluster.storage.rocks import RocksKv
from tests.server import clean_environment
from tests.storage.crashes import MIB, Hand, turns
from tests.system.power.cut import LAWFUL, NAMES_ONLY, NOTHING, Disk, leave
from tests.system.power.shim import ANY, KILL, Rule, Shim

PROGRAM = """
import os, signal, sys
from pathlib import Path
from durable_streams_cluster.storage.rocks import RocksKv
from tests.storage.crashes import MIB, Hand, write

kv = RocksKv.open(Path(sys.argv[1]), memory_budget=16 * MIB, flush_bytes=4 * MIB, clock=Hand())
for step in (kv.sync, kv.flush, kv.sync, kv.flush, kv.sync):
    write(kv)
    step()
    print(kv.last_write, flush=True)
kv.close()
print("closed", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Store:
    """A data directory on a disk of its own, and the turns that were acknowledged there."""

    def __init__(self, folder: Path) -> None:
        self.shim = Shim(folder / "disk", folder / "aside", journal=True)
        self.data = self.shim.root / "data"
        self.disk = Disk(self.shim)
        self.synced = 0
        self.calls = 0
        """How many calls the last run made, its last one included."""

    def run(self, skip: int) -> bool:
        """Run the program, killed at a call of it; whether it came to its end."""
        self.shim.clear()
        rule = self.shim.rule(Rule(ANY, "*", error=KILL, skip=skip))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(self.data)],
            env=clean_environment() | self.shim.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -9, f"skip={skip}: ended with {done.returncode}: {done.stderr}"
        said = done.stdout.split()
        self.synced = max([self.synced, *(int(word) for word in said if word.isdigit())])
        self.calls = self.shim.counts(rule)[0]
        return said[-1:] == ["closed"]

    def check(self, place: Path) -> None:
        """Open what a power cut left: it is not refused, and holds every acknowledged turn."""
        kv = RocksKv.open(place / "data", memory_budget=16 * MIB, flush_bytes=4 * MIB, clock=Hand())
        try:
            assert turns(kv) == list(range(1, kv.last_write + 1))
            assert kv.last_write >= self.synced
        finally:
            kv.close()

    def check_cuts(self, seed: int, outcomes: int) -> None:
        """Try the harshest cuts of this moment, and some that chance chooses."""
        model = self.disk.model()
        for number, weights in enumerate([NOTHING, NAMES_ONLY, *[LAWFUL] * outcomes]):
            left = self.shim.root.with_name(f"left-{number}")
            leave(model, left, random.Random(f"{seed}/{number}"), weights, link=False)
            try:
                self.check(left)
            except Exception as error:
                raise AssertionError(f"call {seed}, outcome {number}, {self.synced} acknowledged: {error}") from error
            shutil.rmtree(left)


def test_killed_at_every_call(tmp_path: Path) -> None:
    skip, ended = 0, False
    while not ended:
        store = Store(tmp_path / str(skip))
        ended = store.run(skip)
        store.check_cuts(skip, outcomes=6)
        shutil.rmtree(tmp_path / str(skip))
        skip += 1
    assert skip > 100, "too few calls were seen"


def test_what_a_killed_start_left_unsynced_is_relied_on_by_the_next(tmp_path: Path) -> None:
    skip, first = 0, Store(tmp_path / "first")
    assert first.run(1_000_000)
    calls = first.calls
    while True:
        store = Store(tmp_path / str(skip))
        assert not store.run(skip)
        if store.synced:
            break
        store.disk.settle()
        assert store.run(1_000_000)
        assert store.calls <= 2 * calls, "a start after a start that was killed makes about as many"
        store.check_cuts(skip, outcomes=2)
        shutil.rmtree(tmp_path / str(skip))
        skip += 1
