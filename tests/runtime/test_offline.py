"""Data directories of nodes that do not run, on a real disk: looked at unchanged, recovered whole or not at all."""

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import ConfigError, CorruptData, DataDirLocked, StorageError
from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.opening import identity
from durable_streams_cluster.raft import FEATURE_LEVEL, Entry, EntryKind, Member, Membership
from durable_streams_cluster.raft.messages import entry_crc
from durable_streams_cluster.replica import quorum_loss
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.runtime.offline import look, recover
from durable_streams_cluster.storage import codecs, faults, keys, repair
from durable_streams_cluster.storage.data_dir import DataDir
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.storage.rocks import RocksKv
from tests.replica.node import append, create
from tests.replica.trio import Trio
from tests.storage.crashes import MIB

N1 = NodeId("n1")
RECORD = tuple(Member(NodeId(f"n{number}"), number, f"host:{number}") for number in range(1, 4))
OLD = StoredIdentity(N1, 1, "c-old", RECORD, begun=True, others=((NodeId("n2"), "host:2"),))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of n1, one of three: with entries that are not known to be committed."""
    trio = Trio().boot()
    trio.done(create("a"))
    trio.done(append("a", b"both "))
    trio.tick(5)
    trio.cut = {"n1"}
    trio.nodes["n1"].propose(append("a", b"here"))
    trio.settle()
    path = tmp_path_factory.mktemp("made") / "data"
    kv = RocksKv.open(path, memory_budget=64 * MIB)
    for batch in trio.nodes["n1"].batches:
        kv.write(batch)
    whose = WriteBatch()
    # So large that the largest table file is one of streams, with blocks in its midst that nothing needs at the start.
    for number in range(3):
        whose.put(Family.DATA, keys.record(0, 0, 999, 1 + number), random.Random(number).randbytes(100_000))
    whose.put(Family.LOG, keys.REPLICA, (1).to_bytes(8, "big"))
    kv.write(whose)
    kv.close()
    IdentityFile(path).write(OLD)
    return path


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def counting() -> Callable[[int], int]:
    numbers = itertools.count(1_000)
    return lambda below: next(numbers) % below


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """All but RocksDB's diary."""
    for each in sorted(path.rglob("*")):
        if each.is_file() and "LOG" not in each.name and each.name != "lock":
            yield str(each.relative_to(path)), each.read_bytes()


def started(path: Path) -> StoredIdentity:
    """Who a node that starts on it takes it for."""
    kv = RocksKv.open(path, memory_budget=64 * MIB)
    try:
        return identity(Config.load({"data-dir": str(path)}, {}, None), kv, IdentityFile(path))
    finally:
        kv.close()


def test_looking_changes_nothing(data: Path) -> None:
    before = dict(files(data))
    found = look(data)
    assert (found.node, found.incarnation, found.cluster, found.damage) == (N1, 1, "c-old", "")
    assert found.held is not None
    assert found.held.membership == Membership(RECORD)
    assert found.held.last.index == found.held.applied.index + 1
    assert dict(files(data)) == before


def test_a_directory_that_is_used_is_left_alone(data: Path) -> None:
    held = DataDir.open(data)
    with pytest.raises(DataDirLocked, match="in use by another process"):
        look(data)
    held.close()
    assert look(data).damage == ""


def test_what_is_no_data_directory_is_none_and_is_not_made(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match="is no data directory"):
            look(path)
    assert list(tmp_path.iterdir()) == []


def flip(data: Path) -> None:
    table = max((data / "db").glob("*.sst"), key=lambda each: each.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 16
    table.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a table of streams": (flip, ".sst"),
    "CURRENT": (lambda data: (data / "db" / "CURRENT").write_bytes(b"x"), "CURRENT is damaged"),
    "no store": (lambda data: shutil.rmtree(data / "db"), "its store, is missing"),
    "no durable-turn": (lambda data: (data / "durable-turn").unlink(), "durable-turn is missing"),
    "identity": (lambda data: (data / "identity").write_bytes(b"{"), "identity is damaged"),
    "no identity": (lambda data: (data / "identity").unlink(), "identity is missing"),
    "another's identity": (
        lambda data: IdentityFile(data).write(replace(OLD, incarnation=5)),
        "another data directory",
    ),
    "marked": (lambda data: repair.mark(data, "it broke while it ran"), "it broke while it ran"),
}


@pytest.mark.parametrize(("does", "says"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_and_nothing_of_it_is_used(data: Path, does: Callable[[Path], object], says: str) -> None:
    does(data)
    found = look(data)
    assert says in found.damage
    assert found.held is None
    if "identity" not in says:
        assert found.node == N1


def unsealed(data: Path) -> None:
    text = (data / "identity").read_bytes()
    (data / "identity").write_bytes(text.partition(b"\n")[0])


def newer(data: Path) -> None:
    """A build that knows more has written to the log."""
    held = look(data).held
    assert held is not None
    bare = Entry(held.term, Index(held.last.index + 1), EntryKind.COMMANDS, FEATURE_LEVEL + 1, 0, 0, b"")
    batch = WriteBatch()
    text = codecs.encode_entry(replace(bare, crc=entry_crc(ONLY_GROUP, bare)))
    batch.put(Family.LOG, keys.entry(ONLY_GROUP, bare.index), text)
    kv = RocksKv.open(data, memory_budget=64 * MIB)
    kv.write(batch)
    kv.close()


def in_place_of(name: str) -> Callable[[Path], None]:
    """A file that the system does not read."""

    def does(data: Path) -> None:
        (data / name).unlink(missing_ok=True)
        (data / name).mkdir()

    return does


UNTOLD: dict[str, tuple[Callable[[Path], object], str]] = {
    "lock": (in_place_of("lock"), "lock"),
    "durable-turn": (in_place_of("durable-turn"), "durable-turn"),
    "identity": (in_place_of("identity"), "identity"),
    "the mark": (in_place_of("needs-repair"), "needs-repair"),
    "an unreleased build": (unsealed, "of an unreleased build"),
    "a newer format": (lambda data: (data / "format").write_text('{"format": 2}'), "says data format 2"),
    "a newer log": (newer, f"needs feature level {FEATURE_LEVEL + 1}"),
}


@pytest.mark.parametrize(("does", "says"), UNTOLD.values(), ids=UNTOLD)
def test_what_cannot_be_read_is_not_taken_for_damaged(data: Path, does: Callable[[Path], object], says: str) -> None:
    """It may be one of a majority that has lost nothing."""
    does(data)
    with pytest.raises(StorageError, match=rf"^whether {data} is sound cannot be told: .*{says}") as refusal:
        look(data)
    assert not isinstance(refusal.value, CorruptData)
    assert str(refusal.value).count("Next step: ") == 1
    assert "Next step: run this as the user of the node" in str(refusal.value)


@pytest.mark.parametrize(("name", "number"), [("db", errno.EACCES), ("identity", errno.EIO), ("CURRENT", errno.EACCES)])
def test_a_file_that_cannot_be_seen_is_not_taken_for_missing(
    data: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return original(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(StorageError, match=f"cannot be told: .*{os.strerror(number)}"):
        look(data)


def test_a_disk_that_fails_while_it_is_read_is_not_taken_for_damaged(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: KvView) -> None:
        raise faults.while_running("scan", data, Exception("IO error: While pread: Input/output error"))

    monkeypatch.setattr(quorum_loss, "read_data", fail)
    with pytest.raises(StorageError, match=r"cannot be told: scan failed in .*Input/output error"):
        look(data)
    monkeypatch.undo()
    assert look(data).damage == "", "it was let go of"


def test_one_that_never_took_part_and_lost_its_store_is_not_damaged(data: Path) -> None:
    shutil.rmtree(data / "db")
    IdentityFile(data).write(replace(OLD, begun=False))
    found = look(data)
    assert (found.node, found.cluster, found.damage) == (N1, "", "")


def test_a_directory_that_never_was_of_a_cluster_is_of_none(tmp_path: Path) -> None:
    RocksKv.open(tmp_path, memory_budget=64 * MIB).close()
    IdentityFile(tmp_path).write(StoredIdentity(N1, 5, "c-maybe", RECORD))
    found = look(tmp_path)
    assert (found.cluster, found.held) == ("", None)


def test_what_is_recovered_is_another_cluster_of_this_node_alone(data: Path) -> None:
    before = look(data)
    identity = recover(before, counting()).identity
    assert identity == started(data) == IdentityFile(data).read()
    assert identity.node == N1
    assert identity.begun
    assert identity.cluster not in ("", "c-old")
    after = look(data)
    assert (after.incarnation, after.cluster) == (identity.incarnation, identity.cluster)
    assert before.held is not None
    assert after.held is not None
    assert after.held.membership.members == (Member(N1, identity.incarnation, "host:1"),)
    assert set(after.held.membership.removed) == {1, 2, 3}
    assert (after.held.last, after.held.applied) == (before.held.last, before.held.applied)
    assert after.held.term == before.held.term + 1


def test_wherever_it_is_ended_it_is_what_it_was_or_recovered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(data)
    copies: list[Path] = []

    for owner, name in ((RocksKv, "write"), (RocksKv, "sync"), (IdentityFile, "write")):
        original = getattr(owner, name)

        def call(self: object, *given: object, original: Callable[..., object] = original) -> object:
            copies.append(Path(shutil.copytree(data, tmp_path / f"copy-{len(copies)}")))
            result = original(self, *given)
            copies.append(Path(shutil.copytree(data, tmp_path / f"copy-{len(copies)}")))
            return result

        monkeypatch.setattr(owner, name, call)
    identity = recover(before, counting()).identity
    monkeypatch.undo()
    assert len(copies) == 6
    told = [look(each) for each in copies]
    assert [replace(each, directory=before.directory) for each in told[:1]] == [before]
    assert [each.cluster for each in told] == ["c-old", *[identity.cluster] * 5]
    assert [started(each) for each in copies] == [OLD, *[identity] * 5]
    assert recover(told[0], counting()).identity == identity


def test_it_is_recovered_also_if_its_file_cannot_be_written(data: Path) -> None:
    (data / "identity.tmp").mkdir()
    made = recover(look(data), counting())
    assert "identity cannot be written" in made.late
    assert IdentityFile(data).read() == OLD
    assert look(data).cluster == made.identity.cluster
    (data / "identity.tmp").rmdir()
    assert started(data) == made.identity == IdentityFile(data).read()


def test_a_directory_that_was_used_meanwhile_is_looked_at_again(data: Path) -> None:
    found = look(data)
    recover(found, counting())
    with pytest.raises(StorageError, match="was used since it was looked at"):
        recover(found, counting())
