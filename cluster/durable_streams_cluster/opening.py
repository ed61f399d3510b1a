"""Opening a data directory: who it is, whether its store can be used, and what becomes of one that cannot."""

from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import NamedTuple

from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import ConfigError, CorruptData, StorageError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import DiskPlan
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica.bootstrap import cluster_of
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.storage import keys, repair
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity, recovered
from durable_streams_cluster.storage.kv import Family, Kv, WriteBatch
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.space import measure
from durable_streams_cluster.storage.stream_store import StreamStore


class Former(NamedTuple):
    """Who a directory was whose store is used no more, and why it is not."""

    identity: StoredIdentity
    reason: str


class Opened(NamedTuple):
    """A directory that this process holds."""

    config: Config
    """With limits that fit its disk."""
    stored: StoredIdentity
    file: IdentityFile
    kv: RocksKv


def open_directory(config: Config) -> Opened:
    """Open the store, and find out whose it is.

    Raises:
        DataDirLocked, StorageError: it cannot be opened.
        ConfigError, CorruptData: as of :func:`identity`; CorruptData, too, if its store is damaged, or marked as that.

    """
    place = Path(config.data_dir)
    file = IdentityFile(place)
    repair.check(place)
    config, kv = open_store(config)
    try:
        return Opened(config, identity(config, kv, file), file, kv)
    except BaseException:
        kv.close()
        raise


def open_alone(config: Config) -> Opened:
    """The same for a node that nobody else can reach: of a cluster of its own, which a new directory begins here.

    Raises:
        ConfigError: there are others in its cluster, too.
        DataDirLocked, StorageError, CorruptData: as of :func:`open_directory`.

    """
    opened = open_directory(config)
    try:
        stored = opened.stored
        if not stored.begun:
            stored = _begun_alone(stored.node, stored.incarnation)
            opened.file.write(stored)
        _check_alone(config, opened.kv, stored)
    except BaseException:
        opened.kv.close()
        raise
    return opened._replace(stored=stored)


def _check_alone(config: Config, kv: Kv, stored: StoredIdentity) -> None:
    membership = StreamStore(kv, ONLY_GROUP).membership() or stored.first_membership
    if membership.nodes != (stored.node,):
        names = ", ".join(membership.nodes) or "it has not learned which"
        raise ConfigError(
            f"{config.data_dir} is of a node of a cluster of several ({names}), and an embedded node is alone. "
            "Next step: run it with durable-streams serve; or name an empty directory"
        )


def note_damage(config: Config, damage: CorruptData, *, others: bool = False) -> StoredIdentity | None:
    """Mark the store of a member of several: it is used no more, also if nothing can be done about that yet.

    Args:
        config: Everything the node is told.
        damage: What was found, at the start or while it ran.
        others: Whether it has met others, which an image from before they came does not know of.

    Returns:
        Who it was; None: it is not marked, for there is nobody to get its streams from.

    """
    place = Path(config.data_dir)
    former = IdentityFile(place).read_own(config.node)
    if former is None or not former.begun:
        return None
    if former.others or others:
        repair.mark(place, str(damage))
    return former if repair.is_marked(place) else None


def check_repair(config: Config, former: StoredIdentity, damage: CorruptData) -> None:
    """Raise StorageError when this node cannot ask for what its marked store is to be replaced with."""
    repair.check_room(Path(config.data_dir))
    if not former.others and not config.join and all(each.node == former.node for each in config.initial_cluster):
        raise CorruptData(
            f"the store in {config.data_dir} is used no more, and it says of no other member where that is. Next step: "
            f"start this node with --join and the address of another one's peer listener. What is wrong: {damage}"
        )


def open_store(config: Config) -> tuple[Config, RocksKv]:
    """Open the store; what may be in flight is cut to what a small disk has room for."""
    limits, path = config.limits, Path(config.data_dir)
    try:
        plan = DiskPlan.of(limits, measure(path.absolute()).size)
    except OSError as error:
        raise StorageError(f"the disk of the data directory {path} cannot be looked at: {error}") from error
    kv = RocksKv.open(path, memory_budget=limits.memory_budget, flush_bytes=plan.flush_bytes, plan=plan)
    return replace(config, limits=replace(limits, max_inflight_bytes=plan.inflight_bytes)), kv


def volatile(config: Config) -> StoredIdentity:
    """Of a node that forgets everything: nobody else is ever part of its cluster."""
    return _begun_alone(config.node, SystemRandom().getrandbits(63) or 1)


def _begun_alone(node: NodeId, incarnation: int) -> StoredIdentity:
    record = (Member(node, incarnation),)
    return StoredIdentity(node, incarnation, cluster_of(record), record, begun=True)


def identity(config: Config, kv: Kv, file: IdentityFile) -> StoredIdentity:
    """Who the directory is, which its file and its store must agree on.

    Raises:
        ConfigError: it has streams of its own, and is to be one of several that begin together; or it is one of
            those, and is to be alone.
        CorruptData: the file is missing or another directory's, or the store is.

    """
    stored = file.open(config.node, SystemRandom().getrandbits)
    if (since := recovered(kv, stored)) is not None:
        file.write(since)  # ``admin recover`` was ended before it could
        stored = since
    found, used = kv.get(Family.LOG, keys.REPLICA), any(True for _ in kv.scan(Family.LOG, b"", b"\xff"))
    if found is not None and int.from_bytes(found, "big") != stored.incarnation:
        raise CorruptData(
            f"{config.data_dir} holds the store of another data directory than its file 'identity' says, or the file "
            "was lost. Nothing is served. Next step: restore the file; or empty the directory: then it joins anew"
        )
    if stored.begun and not used:
        # The store has its number before there is anything to take part in. What this one promised would be forgotten.
        raise CorruptData(
            f"{config.data_dir} is of a member of cluster {stored.cluster}, and its store is empty: it was lost. "
            "Nothing is served. Next step: restore it; or remove the file 'identity', too: then it joins anew"
        )
    names = [member.node for member in config.initial_cluster]
    if found is None and used and not stored.begun:
        # From before there were such files: a node that is alone.
        stored = _begun_alone(stored.node, stored.incarnation)
        file.write(stored)
    if len(stored.record) > 1 and not stored.begun and len(names) <= 1 and not config.join:
        raise ConfigError(
            f"{config.data_dir} is about to begin a cluster with {', '.join(each.node for each in stored.record)}, "
            "which may have begun it. Next step: give --initial-cluster as before; or name an empty --data-dir"
        )
    membership = StreamStore(kv, ONLY_GROUP).membership() or stored.first_membership
    if len(names) > 1 and len(stored.record) == 1 and membership.nodes == (stored.node,):
        raise ConfigError(
            f"{config.data_dir} was used by a node that is alone, and --initial-cluster names {len(names)}. Next step: "
            "start it without --initial-cluster, and the others with --join and the address of its peer listener; or "
            "name an empty --data-dir"
        )
    own(kv, stored)
    return stored


def own(kv: Kv, stored: StoredIdentity) -> None:
    """Let the store say whose it is, durably, before anything is promised."""
    batch = WriteBatch()
    batch.put(Family.LOG, keys.REPLICA, stored.incarnation.to_bytes(8, "big"))
    kv.write(batch)
    kv.sync()
