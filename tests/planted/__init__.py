"""Bugs that are planted into a copy of the source, and must be found: what a harness is worth is what it catches.

Each ``*.patch`` begins with what is wrong and why it is dangerous. One that no longer applies is to be made anew from
the code as it is now, with the same bug in it: see ``plant``.
"""

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.server import ROOT
from tests.system.power.lives import attack

HERE: Final = Path(__file__).parent
PATCHES: Final = tuple(sorted(each.stem for each in HERE.glob("*.patch")))


@dataclasses.dataclass(frozen=True, slots=True)
class Catch:
    """How a bug was found; ``what`` is empty when it was not."""

    rounds: int
    what: str


def story(name: str) -> str:
    """What is wrong, in words."""
    return (HERE / f"{name}.patch").read_text().partition("\ndiff --git")[0].strip()


def plant(name: str, into: Path) -> Path:
    """Copy the packages and put one bug into the copy; the folder to run from.

    By hand: copy ``cluster``, ``client`` and ``proto`` into an empty repository, commit, make the bug, ``git diff``.
    """
    for part in ("cluster", "client", "proto"):
        shutil.copytree(ROOT / part, into / part, ignore=shutil.ignore_patterns("__pycache__"))
    # Not inside of a repository, where git would look for the files of that one.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(into.parent)}
    command = ["git", "apply", "-C1", str(HERE / f"{name}.patch")]
    done = subprocess.run(command, cwd=into, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}.patch no longer applies: {done.stderr}"
    return into


def catch(name: str, folder: Path, seed: str, limit: int, say: Callable[[str], None] = print) -> Catch:
    """Attack a node with this bug, at most so many rounds."""
    sources = plant(name, folder / "source")
    figures = attack(limit, f"{seed}/{name}", folder, sources=sources, say=say)
    shutil.rmtree(folder)
    what = figures.wrong[0].replace(str(folder), "") if figures.wrong else ""
    return Catch(sum(figures.kills.values()), what)
