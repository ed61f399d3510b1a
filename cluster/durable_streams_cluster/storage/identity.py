"""Who a data directory is: a number that no other one has, and the cluster that it is part of (DESIGN: Identity).

The number is drawn when the directory is first used. A directory that was wiped gets another one, so that nobody takes
it for the replica whose votes and acknowledgements are gone with its disk.

The file is a line of JSON and a line with its CRC-32: a bit that flips in the name of a member would be a cluster of
others, and is no JSON error.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from durable_streams_cluster.errors import ConfigError, CorruptData, StorageError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member, Membership
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.data_dir import write_file
from durable_streams_cluster.storage.kv import Family, KvView

_COMMENT: Final = "Who this directory is in its cluster. Change nothing here by hand."


class StoredIdentity(msgspec.Struct, frozen=True):
    """What the file holds."""

    node: NodeId
    incarnation: int
    cluster: str = ""
    """Empty: it is part of none yet."""
    record: tuple[Member, ...] = ()
    """The cluster's first members, of one that is among them (``replica.bootstrap``)."""
    begun: bool = False
    """Whether it takes part."""

    others: tuple[tuple[NodeId, str], ...] = ()
    """The other members and where they listen, as of late: whom to ask when this directory is damaged."""

    @property
    def first_membership(self) -> Membership:
        """Before anything in the log. Who joined later is told by the log who belongs."""
        return Membership(self.record)


_decoder = msgspec.json.Decoder(StoredIdentity)


def encode(identity: StoredIdentity) -> bytes:
    """The first line of the file."""
    return json.dumps(msgspec.to_builtins(identity) | {"comment": _COMMENT}).encode()


def _decode(content: bytes) -> StoredIdentity:
    """Raises ValueError (``msgspec.DecodeError`` is one), RecursionError."""
    found = _decoder.decode(content)
    for number in (found.incarnation, *(each.incarnation for each in found.record)):
        if not 0 < number < 2**63:
            raise ValueError("an incarnation is no number from 1 to 2^63 - 1")
    return found


def recovered(kv: KvView, stored: StoredIdentity) -> StoredIdentity | None:
    """Who a store is that was recovered alone, and whose file does not say so yet (``stored``); None of any other.

    The store comes first, in one batch: until then it is what it was, and from then on the file has to follow.

    Raises:
        CorruptData: the store says something that is no identity.

    """
    content = kv.get(Family.LOG, keys.RECOVERED)
    if content is None or kv.get(Family.LOG, keys.REPLICA) == stored.incarnation.to_bytes(8, "big"):
        return None
    try:
        found = _decode(content)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"what the store says of its recovery cannot be read: {error}") from error
    return found if kv.get(Family.LOG, keys.REPLICA) == found.incarnation.to_bytes(8, "big") else None


def _seal(text: bytes) -> bytes:
    """The line behind ``text``."""
    return b"%08x\n" % zlib.crc32(text)


def _check_seal(text: bytes, sealed: bytes) -> None:
    """Raise ValueError when there is a seal, and it is another one."""
    if sealed and sealed != _seal(text):
        raise ValueError("it does not match its checksum")


class IdentityFile:
    """``DIR/identity``."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "identity"

    def read(self) -> StoredIdentity | None:
        """What it says; None when the directory is new.

        Raises:
            CorruptData: it is damaged.
            StorageError: it cannot be read, or an unreleased build wrote it.

        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error}") from error
        text, _, sealed = content.partition(b"\n")
        try:
            found = _decode(text)
            _check_seal(text, sealed)
        except (ValueError, RecursionError) as error:
            raise CorruptData(
                f"{self._path} is damaged: {error}. Nothing was changed. Next step: restore it; or, in a cluster, "
                "empty the directory: it joins anew"
            ) from error
        if not sealed:
            raise StorageError(
                f"{self._path} is of an unreleased build, or was cut: it has no checksum. "
                "Nothing was changed. Next step: if the node was alone, remove the file; else empty the directory"
            )
        return found

    def write(self, identity: StoredIdentity) -> None:
        """Put it there, durably; raises StorageError."""
        try:
            text = encode(identity)
            write_file(self._path, text + b"\n" + _seal(text))
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error}") from error

    def open(self, node: NodeId, draw: Callable[[int], int]) -> StoredIdentity:
        """Who this directory is; a new one draws its number (``draw``: so many random bits) before anything else.

        Raises:
            ConfigError: it is another node's.
            CorruptData, StorageError: as ``read`` and ``write``.

        """
        found = self.read_own(node)
        if found is None:
            found = StoredIdentity(node, draw(63) or 1)
            self.write(found)
        return found

    def read_own(self, node: NodeId) -> StoredIdentity | None:
        """As ``read``; raises ConfigError when it is another node's."""
        found = self.read()
        if found is not None and found.node != node:
            raise ConfigError(f"{self._path.parent} is of node {found.node}, and this node is {node} (--node)")
        return found
