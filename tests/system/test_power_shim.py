"""The shim that stands between a process and its files: what it sees, and what it injects."""

import errno
import os
import subprocess
import sys
from pathlib import Path

from tests.server import ROOT
from tests.system.power.shim import KILL, Kind, Rule, Shim


def run(shim: Shim, program: str) -> subprocess.CompletedProcess[str]:
    """A Python program in the watched folder, with ``os``, ``errno``, ``time`` and ``fails`` at hand."""
    helpers = """
import errno, os, time
def fails(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
"""
    environment = os.environ | shim.environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", helpers + program]
    return subprocess.run(command, cwd=shim.root, env=environment, capture_output=True, text=True, check=False)


def make(tmp_path: Path, *, journal: bool = False) -> Shim:
    return Shim(tmp_path / "disk", tmp_path / "aside", journal=journal)


def test_an_error_at_the_nth_sync_of_matching_files(tmp_path: Path) -> None:
    shim = make(tmp_path)
    rule = shim.rule(Rule({Kind.SYNC}, "*.log", error=errno.EIO, skip=1, times=1))
    done = run(
        shim,
        """
a, b = (os.open(name, os.O_RDWR | os.O_CREAT) for name in ("a.log", "b.txt"))
print(fails(os.fsync, b), fails(os.fsync, a), fails(os.fsync, b), fails(os.fdatasync, a), fails(os.fsync, a))
""",
    )
    assert done.stdout.split() == ["None", "None", "None", "EIO", "None"], done.stderr
    assert shim.counts(rule) == (3, 1)


def test_a_full_disk(tmp_path: Path) -> None:
    shim = make(tmp_path)
    shim.rule(Rule({Kind.WRITE, Kind.CREATE}, "sub/*", error=errno.ENOSPC, skip=2))
    done = run(
        shim,
        """
os.mkdir("sub")
file = os.open("sub/a", os.O_RDWR | os.O_CREAT)
os.write(file, b"1")
print(fails(os.write, file, b"2"), fails(os.pwrite, file, b"3", 0), fails(os.open, "sub/b", os.O_CREAT | os.O_RDWR))
print(os.path.getsize("sub/a"), os.listdir("sub"))
""",
    )
    assert done.stdout.split("\n")[:2] == ["ENOSPC ENOSPC ENOSPC", "1 ['a']"], done.stderr


def test_one_rule_waits_for_another_and_kills(tmp_path: Path) -> None:
    shim = make(tmp_path)
    first = shim.rule(Rule({Kind.CREATE}, "*.log", skip=1, times=1))
    second = shim.rule(Rule({Kind.WRITE}, "*.log", error=KILL, skip=1, after=first))
    done = run(
        shim,
        """
a = os.open("1.log", os.O_RDWR | os.O_CREAT)
for _ in range(5):
    os.write(a, b"x")
b = os.open("2.log", os.O_RDWR | os.O_CREAT)
for _ in range(5):
    os.write(b, b"y")
""",
    )
    assert done.returncode == -9
    assert [(shim.root / name).read_bytes() for name in ("1.log", "2.log")] == [b"xxxxx", b"y"]
    assert [shim.counts(rule)[1] for rule in (first, second)] == [1, 1]
    shim.clear()
    assert run(shim, "os.write(os.open('2.log', os.O_RDWR), b'zz')").returncode == 0


def test_a_delay_holds_up_the_sync_only(tmp_path: Path) -> None:
    shim = make(tmp_path)
    rule = shim.rule(Rule({Kind.SYNC}, "a", delay_ms=1.0))
    done = run(shim, "a = os.open('a', os.O_RDWR | os.O_CREAT)\nos.write(a, b'1')\nos.fsync(a)")
    assert done.returncode == 0, done.stderr
    assert shim.counts(rule) == (1, 1)
