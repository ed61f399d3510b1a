"""Bugs that are planted into a copy of the source, and must be found: what a harness is worth is what it catches.

Those in ``node`` are attacked by power cuts of a real process (``tests.system.power``), those in ``cluster`` by the
simulation (``tests.sim``); one that its seeds miss must be caught by a script: one of the tests in ``SCRIPTS``.
``docs/planted-bugs.md`` has the table. Each ``*.patch`` begins with what is wrong and why it is dangerous. One that no
longer applies is to be made anew from the code as it is now, with the same bug in it: see ``plant``.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.server import ROOT
from tests.system.power.lives import attack

HERE: Final = Path(__file__).parent
NODE: Final = tuple(sorted(each.stem for each in (HERE / "node").glob("*.patch")))
CLUSTER: Final = tuple(sorted(each.stem for each in (HERE / "cluster").glob("*.patch")))
SCRIPTS: Final = (
    "tests/raft",
    "tests/replica",
    "tests/runtime/test_wakes.py",
    "tests/runtime/test_belonging.py",
    "tests/runtime/test_replaced.py",
)
"""Tests of what the cores do, scenario by scenario."""
HANGS_S: Final = 60
"""A script of them that takes so long does not end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Catch:
    """How a bug was found; ``what`` is empty when it was not."""

    rounds: int
    """Or seeds; 0: no seed did, a script did."""
    what: str


def patch(name: str) -> Path:
    """Where it is."""
    return HERE / ("node" if name in NODE else "cluster") / f"{name}.patch"


def story(name: str) -> str:
    """What is wrong, in words."""
    return patch(name).read_text().partition("\ndiff --git")[0].strip()


def plant(name: str, into: Path) -> Path:
    """Copy the packages and put one bug into the copy; the folder to run from.

    By hand: copy ``cluster``, ``client`` and ``proto`` into an empty repository, commit, make the bug, ``git diff``.
    """
    for part in ("cluster", "client", "proto"):
        shutil.copytree(ROOT / part, into / part, ignore=shutil.ignore_patterns("__pycache__"))
    # Not inside of a repository, where git would look for the files of that one.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(into.parent)}
    command = ["git", "apply", "-C1", str(patch(name))]
    done = subprocess.run(command, cwd=into, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}.patch no longer applies: {done.stderr}"
    return into


def catch(name: str, folder: Path, seed: str, limit: int, say: Callable[[str], None] = print, cores: int = 0) -> Catch:
    """Attack what has this bug: so many rounds, or seeds from a number on that ``seed`` gives, at most.

    Args:
        name: of the bug.
        folder: to work in; it is removed.
        seed: hexadecimal.
        limit: 0 for the scripts alone.
        say: gets what happens, round by round.
        cores: how many seeds at a time; 0 for as many as there are cores.

    """
    sources = plant(name, folder / "source")
    if name in NODE:
        found = _cut(name, sources, seed, limit, say)
    else:
        found = _simulate(sources, int(seed, 16), limit, cores) if limit else Catch(0, "")
        found = found if found.what else _scripts(sources)
    shutil.rmtree(folder)
    return dataclasses.replace(found, what=found.what.replace(str(folder), ""))


def _cut(name: str, sources: Path, seed: str, limit: int, say: Callable[[str], None]) -> Catch:
    figures = attack(limit, f"{seed}/{name}", sources.parent, sources=sources, say=say)
    return Catch(sum(figures.kills.values()), figures.wrong[0] if figures.wrong else "")


def _run(sources: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A module of this repository, on the copy of the source."""
    paths = os.pathsep.join(str(sources / part) for part in ("cluster", "client", "proto"))
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _simulate(sources: Path, first: int, limit: int, cores: int) -> Catch:
    processes = ["--processes", str(cores)] if cores else []
    done = _run(
        sources, "tests.sim", "--seeds", str(limit), "--from", str(first), "--first-failure", *processes
    )  # fmt: skip
    tried = re.search(r"^(\d+) seeds, \d+ acknowledged", done.stdout, re.MULTILINE)
    wrong = re.search(r"^seed \d+: \d+ violations.*\n  (.*)", done.stdout, re.MULTILINE)
    if wrong is None and done.returncode and tried is None:
        last = done.stderr.strip().splitlines()[-1:] or [done.stdout[-300:]]
        assert last[0].startswith("AssertionError"), f"the simulation does not run: {done.stderr}"
        return Catch(limit, last[0])
    return Catch(int(tried.group(1)) if tried else limit, wrong.group(1) if wrong else "")


def _scripts(sources: Path) -> Catch:
    """The scripts that fail, or the one that does not end."""
    hangs = ["-o", f"faulthandler_timeout={HANGS_S}", "-o", "faulthandler_exit_on_timeout=true"]
    done = _run(sources, "pytest", "-v", "--tb=no", "-p", "no:cacheprovider", *hangs, *SCRIPTS)
    failed = re.findall(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return Catch(0, f"script {failed[0]}{more}")
    begun = re.findall(r"^(tests/\S+::\S+)", done.stdout, re.MULTILINE)
    if "Timeout" in done.stderr and begun:
        return Catch(0, f"script {begun[-1]}, which does not end")
    assert done.returncode == 0, f"the scripts do not run: {done.stdout[-2000:]}{done.stderr}"
    return Catch(0, "")
