"""The parts of chaos that deal with damage: every kind of file has its turn, and no end of a node is passed over."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.system.chaos.damage import FILES, Damaging, harm
from tests.system.chaos.keeper import Keeper


def test_every_kind_of_file_is_damaged_in_both_ways_before_any_is_again(tmp_path: Path) -> None:
    world, chance = Damaging(tmp_path, 3), random.Random(1)
    every = {(kind, cut) for kind in FILES for cut in (False, True)}
    for _ in range(2):
        assert {world.next_case(chance) for _ in every} == every


@pytest.mark.parametrize("cut", [False, True])
def test_what_is_damaged_is_one_file_of_the_kind(tmp_path: Path, *, cut: bool) -> None:
    (tmp_path / "db").mkdir()
    for name in ("db/000001.log", "db/000002.sst", "format"):
        (tmp_path / name).write_bytes(bytes(100))
    told = harm(tmp_path, "WAL", random.Random(1), cut=cut)
    assert told.startswith("WAL: ")
    assert "000001.log" in told
    content = (tmp_path / "db" / "000001.log").read_bytes()
    assert len(content) < 100 if cut else sum(each.bit_count() for each in content) == 1
    assert (tmp_path / "db" / "000002.sst").read_bytes() == (tmp_path / "format").read_bytes() == bytes(100)


class Ends:
    """A node that ends each time that it is started, with these words."""

    name = "n1"

    def __init__(self, data: Path, code: int, words: Sequence[str]) -> None:
        self.data = data
        self.process: Any = self
        self.code = code
        self.words = list(words)
        self.started = 1
        self.well = asyncio.Event()

    @property
    def wanted(self) -> bool:
        return self.started <= len(self.words)

    @property
    def running(self) -> bool:
        return not self.wanted

    @property
    def errors(self) -> str:
        return "".join(f"durable-streams: error: {each}\n" for each in self.words[: self.started])

    def wait(self) -> int:
        return self.code

    def launch(self) -> None:
        self.started += 1
        if self.running:
            self.well.set()


EMPTY = "identity is damaged. Next step: empty the directory"
REPAIRED = "000012.sst is damaged. Next step: put back a copy"


@pytest.mark.parametrize(
    ("code", "words", "starts", "emptied", "wrong"),
    [
        (1, [REPAIRED], 2, False, ""),
        (1, [EMPTY], 2, False, ""),
        (1, [EMPTY, EMPTY], 3, True, ""),
        (1, [REPAIRED, REPAIRED], 2, False, "what it says does not help"),
        (1, ["it is damaged"], 1, False, "does not say what to do"),
        (-11, [EMPTY], 1, False, "ended with -11"),
    ],
)
def test_a_keeper_does_what_it_is_told_and_nothing_else(
    tmp_path: Path, code: int, words: Sequence[str], starts: int, wrong: str, *, emptied: bool
) -> None:
    place = tmp_path / "data"
    place.mkdir()
    node = Ends(place, code, words)
    cluster: Any = type("Cluster", (), {"nodes": [node]})

    keeper = Keeper(cluster)
    asyncio.run(keeper.run(node.well))
    assert (node.started, not place.exists()) == (starts, emptied)
    assert len(keeper.wrong) == bool(wrong)
    assert wrong in "".join(keeper.wrong)
