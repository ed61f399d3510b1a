"""Values of the Raft core: entries, hard state, membership."""

from enum import IntEnum
from struct import Struct as Layout
from zlib import crc32

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term


class EntryKind(IntEnum):
    """What an entry holds. The numbers are stored; never reuse one. Reserved: 3 membership."""

    NOOP = 1
    """A new leader's first entry: committing it commits everything before it (thesis 3.6.2)."""
    COMMANDS = 2


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the log. The core never looks into ``data``; the checksum is made once and checked on every hop."""

    term: Term
    index: Index
    kind: EntryKind
    feature_level: int
    """The features a replica must know to apply this entry."""
    cluster_ms: int
    wall_ms: int
    data: bytes
    crc: int = 0


class EntryId(msgspec.Struct, frozen=True, array_like=True):
    """Which entry: two logs that hold the same id are equal up to it (thesis 3.5, log matching)."""

    term: Term
    index: Index


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What must be durable before any answer that depends on it (thesis 3.3)."""

    term: Term = Term(0)
    vote: NodeId | None = None


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """Who counts for a quorum."""

    voters: tuple[NodeId, ...]


_SEAL = Layout(">QQIBHQQ")


def entry_crc(group: int, entry: Entry) -> int:
    """CRC-32 over term, index, group, kind, feature level, stamps and data."""
    head = _SEAL.pack(entry.term, entry.index, group, entry.kind, entry.feature_level, entry.cluster_ms, entry.wall_ms)
    return crc32(entry.data, crc32(head))
