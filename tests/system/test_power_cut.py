"""The journal misses nothing, and a cut takes only what was not synced."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.crashes import DATA, MIB, reopen, row, turns, write
from tests.system.power.cut import LAWFUL, NOTHING, Disk, leave
from tests.system.power.journal import JournalError
from tests.system.power.moments import moments, suspicious
from tests.system.power.shim import KILL, Kind, Rule, Shim
from tests.system.test_power_shim import run

SOLID, LOOSE = b"s" * 10_000, b"l" * 20_000

PROGRAM = f"""
SOLID, LOOSE = {SOLID!r}, {LOOSE!r}
def make(name, synced, more=b""):
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.write(file, synced)
    os.fsync(file)
    os.write(file, more)
    return file
def sync(name):
    folder = os.open(name, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)

make("appended", SOLID, LOOSE)
again = make("overwritten", SOLID)
for name in ("gone", "renamed", "target", "linked"):
    make(name, name.encode())
shorter = make("shorter", SOLID)
os.mkdir("d")
make("d/inside", SOLID)
os.mkdir("d/deeper")
sync("d")
sync(".")
# From here on nothing is synced but "nameless".
os.pwrite(again, b"o" * 5_000, 2_000)
os.unlink("gone")
os.rename("renamed", "target")
os.link("linked", "second")
os.ftruncate(shorter, 100)
os.writev(shorter, [b"x", b"y" * 50])
make("nameless", SOLID)
os.mkdir("e")
make("e/inside", SOLID)
os.rmdir("d/deeper")
with open("d/stdio", "wb") as file:
    file.write(LOOSE)
with open("d/stdio", "ab") as file:
    file.write(b"more")
os.truncate("d/stdio", 100)
os.posix_fallocate(os.open("fallocated", os.O_RDWR | os.O_CREAT), 100, 1_000)
"""


def played(tmp_path: Path, program: str = PROGRAM) -> tuple[Shim, Disk]:
    shim = Shim(tmp_path / "disk", tmp_path / "aside", journal=True)
    disk = Disk(shim)
    done = run(shim, program)
    assert done.returncode == 0, done.stderr
    return shim, disk


def test_the_harshest_cut_leaves_what_was_synced(tmp_path: Path) -> None:
    shim, disk = played(tmp_path)
    loss = disk.cut(random.Random(0), NOTHING)
    found = {str(path.relative_to(shim.root)): path for path in shim.root.rglob("*")}
    names = ["appended", "d", "d/deeper", "d/inside", "gone", "linked", "overwritten", "renamed", "shorter", "target"]
    assert sorted(found) == names
    for name in ("appended", "overwritten", "shorter", "d/inside"):
        assert found[name].read_bytes() == SOLID, name
    for name in ("gone", "renamed", "target", "linked"):
        assert found[name].read_bytes() == name.encode(), name
    assert loss.dropped > len(LOOSE)
    assert loss.names == 9
    assert not list(shim.graveyard.iterdir())
    # And again, from where the cut left it.
    assert run(shim, "make = os.open('appended', os.O_RDWR)\nos.pwrite(make, b'more', 9_000)").returncode == 0
    disk.cut(random.Random(1), NOTHING)
    assert found["appended"].read_bytes() == SOLID


def test_chance_leaves_anything_lawful(tmp_path: Path) -> None:
    """Every bound holds in every outcome, and over many everything that may happen does."""
    _, disk = played(tmp_path)
    model = disk.model()
    seen: set[str] = set()
    for seed in range(300):
        left = tmp_path / "left"
        leave(model, left, random.Random(seed), LAWFUL)
        appended, again = (left / "appended").read_bytes(), (left / "overwritten").read_bytes()
        assert appended[: len(SOLID)] == SOLID
        assert len(SOLID) <= len(appended) <= len(SOLID + LOOSE)
        assert len(again) == len(SOLID)
        assert again[:2_000] + again[7_000:] == SOLID[:5_000]
        assert set(again[2_000:7_000]) <= set(b"so")
        assert (left / "d" / "inside").read_bytes() == SOLID
        tail = appended[len(SOLID) :]
        pages = {tail[at : at + 512].strip(b"l") == b"" for at in range(0, len(tail), 512)}
        outcomes = {
            "nothing appended": not tail,
            "all appended": tail == LOOSE,
            "a prefix": tail and LOOSE.startswith(tail) and tail != LOOSE,
            "a hole": pages == {True, False} and set(tail) == set(b"l\0"),
            "garbage": bool(set(tail) - set(b"l\0")),
            "the overwrite in part": set(again[2_000:7_000]) == set(b"so"),
            "the unlink undone": (left / "gone").exists(),
            "the unlink done": not (left / "gone").exists(),
            "the rename undone": (left / "renamed").exists() and (left / "target").read_bytes() == b"target",
            "the rename done": (left / "target").read_bytes() == b"renamed" and not (left / "renamed").exists(),
            "synced bytes without a name": not (left / "nameless").exists(),
            "a name": (left / "nameless").exists(),
            "a second name": (left / "second").exists(),
            "a directory without what is in it": (left / "e").exists() and not (left / "e" / "inside").exists(),
            "a new name behind one that is lost": (left / "e").exists() and not (left / "nameless").exists(),
        }
        seen |= {name for name, true in outcomes.items() if true}
        missing = set(outcomes) - seen
        _remove(left)
    assert not missing


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


PASSED_BY: dict[str, Callable[[Path], object]] = {
    "an append": lambda root: (root / "d" / "inside").write_bytes(SOLID + b"x"),
    "an overwrite": lambda root: (root / "overwritten").write_bytes(SOLID),
    "a cut": lambda root: os.truncate(root / "appended", 3),
    "a new file": lambda root: (root / "new").write_bytes(b""),
    "a removal": lambda root: (root / "linked").unlink(),
    "a rename": lambda root: (root / "linked").rename(root / "other"),
    "a change to a file that the journal does not name": lambda root: (root / "before").write_bytes(b"other!"),
}


@pytest.mark.parametrize("how", PASSED_BY)
def test_what_passes_the_shim_by_is_noticed(tmp_path: Path, how: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "before").write_bytes(b"before")
    shim, disk = played(tmp_path)
    PASSED_BY[how](shim.root)
    with pytest.raises(JournalError):
        disk.cut(random.Random(0))


UNKNOWN = {
    "stdio": "import ctypes; ctypes.CDLL(None).fopen(b'x', b'w')",
    "mmap": "import mmap; f = os.open('x', os.O_RDWR | os.O_CREAT); os.write(f, b'x'); mmap.mmap(f, 1)",
    "sendfile": "f = os.open('x', os.O_RDWR | os.O_CREAT); os.sendfile(f, f, 0, 1)",
    "a symbolic link": "os.symlink('x', 'y')",
    "O_SYNC": "os.open('x', os.O_RDWR | os.O_CREAT | os.O_SYNC)",
    "a directory's rename": "os.mkdir('a'); os.rename('a', 'b')",
    "another process": "os.fork() or os.open('x', os.O_RDWR | os.O_CREAT); os.wait()",
}


@pytest.mark.parametrize("call", UNKNOWN)
def test_a_call_it_does_not_know_ends_the_process_and_the_journal(tmp_path: Path, call: str) -> None:
    shim = Shim(tmp_path / "disk", tmp_path / "aside", journal=True)
    disk = Disk(shim)
    done = run(shim, UNKNOWN[call])
    assert done.returncode == -signal.SIGABRT or call == "another process"
    assert "shim: " in done.stderr
    with pytest.raises(JournalError, match="does not know"):
        disk.cut(random.Random(0))


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.SYNC, Kind.RENAME, Kind.UNLINK, Kind.CREATE, Kind.MKDIR])
def test_a_process_killed_at_any_call_leaves_a_whole_journal(tmp_path: Path, kind: Kind) -> None:
    for skip in range(4):
        shim = Shim(tmp_path / f"{skip}" / "disk", tmp_path / f"{skip}" / "aside", journal=True)
        disk = Disk(shim)
        shim.rule(Rule({kind}, "*", error=KILL, skip=skip))
        run(shim, PROGRAM)
        disk.settle()
        shim.clear()
        run(shim, "os.write(os.open('later', os.O_RDWR | os.O_CREAT), b'x')")
        disk.cut(random.Random(skip))


def test_a_sync_that_failed_makes_nothing_durable_ever(tmp_path: Path) -> None:
    shim = Shim(tmp_path / "disk", tmp_path / "aside", journal=True)
    disk = Disk(shim)
    shim.rule(Rule({Kind.SYNC}, "a", error=5, times=1))
    program = """
file = os.open("a", os.O_RDWR | os.O_CREAT)
os.fsync(os.open(".", os.O_RDONLY))
os.write(file, b"1")
print(fails(os.fsync, file), fails(os.fsync, file))
os.write(file, b"2")
os.fsync(file)
"""
    assert run(shim, program).stdout.split() == ["EIO", "None"]
    disk.cut(random.Random(0), NOTHING)
    assert (shim.root / "a").read_bytes() == b"\0" + b"2"


def test_every_byte_of_the_store_is_seen(tmp_path: Path) -> None:
    """RocksDB inside the extension module: table files, write-ahead logs, compactions and all."""
    shim, disk = played(
        tmp_path,
        """
from pathlib import Path
from tests.storage.crashes import write, reopen
for _ in range(3):
    kv = reopen(Path("kv"))
    for _ in range(6):
        write(kv, 300)
        kv.sync()
        kv.flush()
    kv.close()
""",
    )
    model = disk.model()
    assert model.count(Kind.CREATE, ".log") > 18
    assert model.count(Kind.CREATE, ".sst") > 18
    assert model.count(Kind.SYNC) > 100
    assert sum(len(file.content) for file in model.files.values()) > 5 * MIB
    disk.cut(random.Random(0), NOTHING)
    kv = reopen(shim.root / "kv")
    assert turns(kv) == list(range(1, 5_401))
    assert kv.get(DATA, (5_400).to_bytes(8, "big")) == row(5_400)
    write(kv)
    kv.close()


def test_an_earlier_moment(tmp_path: Path) -> None:
    """At each end of a sync what it covers becomes durable, and not before."""
    program = """
file = os.open("a.log", os.O_RDWR | os.O_CREAT)
os.fsync(os.open(".", os.O_RDONLY))
for text in (b"1", b"2", b"3"):
    os.write(file, text)
    os.fsync(file)
other = os.open("b.log", os.O_RDWR | os.O_CREAT)
os.write(other, b"4")
os.write(file, b"5")
record = os.open("durable-turn", os.O_RDWR | os.O_CREAT)
os.fsync(other)
os.fsync(record)
os.fsync(file)
"""
    _, disk = played(tmp_path, program)
    model = disk.model()
    seen = []
    for kind, places in sorted(moments(model).items()):
        for moment in places:
            left = tmp_path / "left"
            leave(model.at(moment), left, random.Random(0), NOTHING)
            name = left / "a.log"
            seen.append((kind, name.read_bytes() if name.exists() else b"no name"))
            _remove(left)
    ends = [content for kind, content in seen if kind == "sync of a WAL"]
    assert ends[:6] == [b"", b"1", b"1", b"12", b"12", b"123"]
    assert ends[-2:] == [b"123", b"1235"]
    assert [content for kind, content in seen if kind == "sync of a directory"] == [b"no name", b""]
    # Two files unsynced at once; and a record while one is.
    contents = [len(model.at(moment).files) for moment in suspicious(model)]
    assert len(contents) == 2
