"""Data directories of nodes that do not run: looked at, and one of them made a cluster of its own."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from durable_streams_cluster.errors import ConfigError, CorruptData, DataDirLocked, StorageError
from durable_streams_cluster.limits import DiskPlan, Limits
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica import quorum_loss
from durable_streams_cluster.replica.bootstrap import cluster_of
from durable_streams_cluster.replica.quorum_loss import Found, Held
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.storage import identity, keys, repair
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.rocks_look import RocksLook
from durable_streams_cluster.storage.space import measure
from durable_streams_cluster.streams.eras import LOST_GENERATIONS

_TELL: Final = (
    "Next step: run this as the user of the node, on a disk that is mounted writable and works, with the newest build "
    "that ran there; only if it can never be read again, leave it out: what only it has is lost then"
)


class Recovered(NamedTuple):
    """What a directory has become."""

    found: Found
    """As it was."""
    identity: StoredIdentity
    """As it is."""
    late: str = ""
    """Why the file ``identity`` does not say so yet; empty: it does."""


def look(path: Path) -> Found:
    """Read a directory through, and tell what it holds or what is wrong with it; see ``RocksLook`` for what is written.

    Only what is known to be damaged is told so: a store that cannot be read, or not by this build, may be sound, and
    with it there may be a majority that has lost nothing.

    Raises:
        ConfigError: it is no data directory.
        DataDirLocked: a process uses it.
        StorageError: whether it is sound cannot be told.

    """
    try:
        if not _is_there(path / "identity") and not _is_there(path / "db"):
            raise ConfigError(
                f"{path} is no data directory. Next step: name the --data-dir of a node that does not run"
            )
        return _look(path)
    except DataDirLocked:
        raise
    except (StorageError, OSError) as error:
        # What a node is to do about it comes behind.
        met = str(error).partition(" Next step: ")[0]
        raise StorageError(f"whether {path} is sound cannot be told: {met.removesuffix('.')}. {_TELL}") from error


def _look(path: Path) -> Found:
    found, stored = Found(str(path)), None
    try:
        if not _is_there(path / "db"):
            stored = IdentityFile(path).read()
            lost = stored is None or stored.begun
            return _told(found, stored, damage=f"{path / 'db'}, its store, is missing" if lost else "")
        _is_there(path / "db" / "CURRENT")
        with contextlib.closing(RocksLook.open(path)) as kv:
            stored = _identity(path, kv)
            repair.check(path)
            held = quorum_loss.read_log(kv, ONLY_GROUP, stored.first_membership) if stored.begun else None
            quorum_loss.read_data(kv)
            return _told(found, stored, held)
    except CorruptData as error:
        return _told(found, stored or _identity_anyway(path), damage=str(error))


def _is_there(path: Path) -> bool:
    """Raises OSError when that cannot be told: ``Path.exists`` of Python 3.14 takes it for missing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def recover(found: Found, draw: Callable[[int], int]) -> Recovered:
    """Make a cluster of one of a directory that was looked at; ``draw`` gives a random number below its argument.

    Whenever it is ended, the directory is what it was, or it is recovered: all is in one batch. The file ``identity``
    follows, if not here then with the next start; so a disk that has no room for it fails nothing.

    Raises:
        DataDirLocked: a process uses it.
        StorageError: it is not any more what was found, or cannot be written.
        ValueError: see ``eras.after_loss``.

    """
    path = Path(found.directory)
    plan = DiskPlan.of(limits := Limits(), measure(path).size)
    kv = RocksKv.open(path, memory_budget=limits.memory_budget, flush_bytes=plan.flush_bytes, plan=plan)
    try:
        stored = _identity(path, kv)
        held = quorum_loss.read_log(kv, ONLY_GROUP, stored.first_membership)
        if (stored.incarnation, held) != (found.incarnation, found.held):
            raise StorageError(f"{path} was used since it was looked at. Nothing was changed. Next step: look again")
        made, batch = _become(kv, stored, held, draw)
        kv.write(batch)
        kv.sync()
        late = _follow(path, made)
    finally:
        kv.close()
    return Recovered(found, made, late)


def _follow(path: Path, made: StoredIdentity) -> str:
    try:
        IdentityFile(path).write(made)
    except StorageError as error:
        return str(error)
    return ""


def _become(
    kv: KvView, stored: StoredIdentity, held: Held, draw: Callable[[int], int]
) -> tuple[StoredIdentity, WriteBatch]:
    former = held.membership.member(stored.node)
    member = Member(stored.node, draw(2**63 - 1) + 1, former.address if former is not None else "")
    made = StoredIdentity(stored.node, member.incarnation, cluster_of((member,)), begun=True)
    batch = quorum_loss.go_on(kv, ONLY_GROUP, held, member, draw(LOST_GENERATIONS))
    batch.put(Family.LOG, keys.REPLICA, member.incarnation.to_bytes(8, "big"))
    batch.put(Family.LOG, keys.RECOVERED, identity.encode(made))
    return made, batch


def _identity(path: Path, kv: KvView) -> StoredIdentity:
    stored = IdentityFile(path).read()
    if stored is None:
        raise CorruptData(f"{path / 'identity'} is missing: which node of which cluster this is cannot be told")
    stored = identity.recovered(kv, stored) or stored
    replica = kv.get(Family.LOG, keys.REPLICA)
    if replica is not None and replica != stored.incarnation.to_bytes(8, "big"):
        raise CorruptData(f"{path} holds the store of another data directory than its file 'identity' says")
    return stored


def _identity_anyway(path: Path) -> StoredIdentity | None:
    try:
        return IdentityFile(path).read()
    except StorageError:
        return None


def _told(found: Found, stored: StoredIdentity | None, held: Held | None = None, damage: str = "") -> Found:
    if stored is None:
        return Found(found.directory, damage=damage)
    cluster = stored.cluster if stored.begun else ""
    return Found(found.directory, stored.node, stored.incarnation, cluster, held, damage)
