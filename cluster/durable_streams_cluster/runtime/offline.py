"""Data directories of nodes that do not run: looked at, and one of them made a cluster of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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


class Recovered(NamedTuple):
    """What a directory has become."""

    found: Found
    """As it was."""
    identity: StoredIdentity
    """As it is."""


def look(path: Path) -> Found:
    """Read a directory through, and tell what it holds or what is wrong with it; nothing is changed.

    Raises:
        ConfigError: it is no data directory.
        DataDirLocked: a process uses it.

    """
    if not (path / "identity").exists() and not (path / "db").exists():
        raise ConfigError(f"{path} is no data directory. Next step: name the --data-dir of a node that does not run")
    found = Found(str(path))
    try:
        if not (path / "db").exists():
            stored = IdentityFile(path).read()
            assert stored is not None
            return _told(found, stored, damage=f"{path / 'db'}, its store, is missing")
        kv = RocksLook.open(path)
    except DataDirLocked:
        raise
    except StorageError as error:
        return _told(found, _identity_anyway(path), damage=str(error))
    stored = None
    try:
        stored = _identity(path, kv)
        repair.check(path)
        held = quorum_loss.read_log(kv, ONLY_GROUP, stored.first_membership) if stored.begun else None
        quorum_loss.read_data(kv)
    except StorageError as error:
        return _told(found, stored or _identity_anyway(path), damage=str(error))
    finally:
        kv.close()
    return _told(found, stored, held)


def recover(found: Found, draw: Callable[[int], int]) -> Recovered:
    """Make a cluster of one of a directory that was looked at; ``draw`` gives a random number below its argument.

    Whenever it is ended, the directory is what it was, or it is recovered: all is in one batch. The file ``identity``
    follows, if not here then with the next start.

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
        IdentityFile(path).write(made)
    finally:
        kv.close()
    return Recovered(found, made)


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
