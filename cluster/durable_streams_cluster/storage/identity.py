"""Who a data directory is: a replica's name, its cluster, and a number that no other directory has.

The number is drawn when the directory is first used. A directory that was wiped gets another one, so that nobody takes
it for the replica whose votes and acknowledgements are gone with its disk (DESIGN: Identity).
"""

import json
from collections.abc import Callable, Collection
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from durable_streams_cluster.errors import ConfigError, CorruptData, StorageError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.storage.data_dir import write_file

_COMMENT: Final = "Who this directory is in its cluster. Change nothing here by hand."


class Replica(msgspec.Struct, frozen=True):
    """What the file holds."""

    cluster: str
    node: NodeId
    incarnation: int
    members: tuple[NodeId, ...]


def cluster_id(members: Collection[NodeId]) -> str:
    """The name of the cluster that is begun by these members."""
    return "c-" + blake2b("\n".join(sorted(members)).encode(), digest_size=8).hexdigest()


def know_oneself(
    directory: Path, node: NodeId, members: Collection[NodeId], *, used: bool, draw: Callable[[int], int]
) -> Replica:
    """Read who the directory is, or write it down when it is new.

    Args:
        directory: the data directory.
        node: the configured name.
        members: the configured members of the cluster, this node among them; one: this node is alone.
        used: whether anything was ever stored here.
        draw: a number of so many random bits.

    Raises:
        ConfigError: the directory is another node's, or of another cluster.
        CorruptData: the file is none.
        StorageError: it cannot be read or written.

    """
    path = directory / "identity"
    try:
        found = _read(path)
        if found is None:
            if used and len(members) > 1:
                raise ConfigError(
                    f"{directory} was used by a node that is alone, and --initial-cluster names {len(members)}: its "
                    "streams would be lost. Next step: start it without --initial-cluster, or name an empty --data-dir"
                )
            found = Replica(cluster_id(members), node, draw(63), tuple(sorted(members)))
            write_file(path, json.dumps(msgspec.to_builtins(found) | {"comment": _COMMENT}).encode() + b"\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be used: {error}") from error
    if found.node != node:
        raise ConfigError(f"{directory} is of node {found.node}, and this node is {node} (--node)")
    if found.members != tuple(sorted(members)):
        raise ConfigError(
            f"{directory} is of a cluster of {', '.join(found.members)}, and --initial-cluster names "
            f"{', '.join(sorted(members))}. Next step: name the same members; changing them comes with a later release"
        )
    return found


def members_of(directory: Path) -> tuple[NodeId, ...] | None:
    """Return whose cluster the directory is of, sorted; None when it is new.

    Raises:
        ConfigError: it cannot be read, or what says it is damaged.

    """
    try:
        found = _read(directory / "identity")
    except (OSError, CorruptData) as error:
        raise ConfigError(f"{directory / 'identity'} cannot be used: {error}") from error
    return found.members if found is not None else None


def _read(path: Path) -> Replica | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(content, type=Replica)
    except msgspec.DecodeError as error:
        raise CorruptData(f"{path} is damaged: {error}. Nothing was changed. Next step: restore it") from error
