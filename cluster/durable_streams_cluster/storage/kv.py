"""The small port between what is stored and what stores it: two families of ordered keys, batches as plain data.

A ``WriteBatch`` is atomic. ``write`` makes it visible at once and durable only after a ``sync`` that began later
(DESIGN: Syncing). Both stores keep the same contract; ``tests/storage/test_kv_contract.py`` runs it on each.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

import msgspec


class Family(IntEnum):
    """The two column families. They share one write-ahead log, so one sync covers both."""

    LOG = 0
    """Raft entries and hard state: short-lived."""
    DATA = 1
    """Streams."""


class Put(msgspec.Struct, frozen=True):
    """Set ``key`` to ``value``."""

    family: Family
    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True):
    """Remove ``key``; not an error when absent."""

    family: Family
    key: bytes


class DeleteRange(msgspec.Struct, frozen=True):
    """Remove every key with ``start <= key < end``.

    With ``frees`` (about so many bytes) the store is asked to give their room on disk back soon (``Kv.reclaim``).
    Nobody writes into such a range any more, nor deletes any part of it again: freeing it must never make RocksDB write
    out a memtable, and so switch its write-ahead log, by itself.
    """

    family: Family
    start: bytes
    end: bytes
    frees: int = 0


class Deleted(msgspec.Struct, frozen=True):
    """Every key with ``start <= key < end`` is deleted, one by one in this batch: give their room back as of a range.

    What ``DeleteRange`` says of a range with ``frees`` holds for this one too.
    """

    family: Family
    start: bytes
    end: bytes
    frees: int


Op = Put | Delete | DeleteRange | Deleted


class WriteBatch:
    """Operations applied in order, all or none. Plain data: the simulator and tests read ``ops``."""

    __slots__ = ("ops", "size")

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.size = 0
        """Bytes of keys and values, for admission and for telling when to flush memtables."""

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        """Add a put."""
        self.ops.append(Put(family, key, value))
        self.size += len(key) + len(value)

    def delete(self, family: Family, key: bytes) -> None:
        """Add a deletion."""
        self.ops.append(Delete(family, key))
        self.size += len(key)

    def delete_range(self, family: Family, start: bytes, end: bytes, frees: int = 0) -> None:
        """Add the deletion of ``start <= key < end``; for ``frees`` (bytes) see ``DeleteRange``."""
        self.ops.append(DeleteRange(family, start, end, frees))
        self.size += len(start) + len(end)

    def deleted(self, family: Family, start: bytes, end: bytes, frees: int) -> None:
        """Say that ``start <= key < end`` was deleted key by key; see ``Deleted``."""
        self.ops.append(Deleted(family, start, end, frees))
        self.size += len(start) + len(end)

    def __bool__(self) -> bool:
        return bool(self.ops)


class KvView(Protocol):
    """What may be read."""

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of ``key``, or None."""
        ...

    def first_key(self, family: Family, start: bytes, end: bytes) -> bytes | None:
        """The first key with ``start <= key < end``. Its value, which may be large, is not copied, but may be read."""
        ...

    def scan(self, family: Family, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with ``start <= key < end`` in key order (or backwards), as of the moment of the call.

        What is not yet taken from the iterator is kept for it: drop it when done.
        """
        ...


class Space(NamedTuple):
    """Room on the disk of a store, in bytes."""

    free: int
    size: int
    """Of the whole file system."""
    wanted: int
    """What should be free before anything is stored that only takes room."""
    unwritten: int
    """In memtables: takes room once more when it is written out, and yet again when that is rewritten."""
    covered: int
    """For so much in memtables ``wanted`` has the room."""


class WriteStalled(Exception):
    """The store refused a batch without writing any of it (RocksDB: "Incomplete: write stall"); try again later."""


class Kv(KvView, Protocol):
    """A store. Methods are called from the loop's thread, except ``sync`` and ``flush`` as said there."""

    def write(self, batch: WriteBatch) -> None:
        """Apply ``batch`` atomically, visible at once, not yet durable.

        Each call that returns takes the next number, with an empty batch too; ``sync`` tells which are durable.

        Raises:
            WriteStalled: nothing was written and no number taken; the same batch may be tried again.
            StorageError: the outcome is unknown and the store is unusable: the process must end.

        """
        ...

    def sync(self) -> int:
        """Make every ``write`` that has returned durable; blocks, so it runs in the disk's thread, one call at a time.

        With nothing to do it costs nothing. Call it once more after a second of quiet: it then puts on record what it
        made durable, for the next open to check.

        Returns:
            The number of the newest write that is durable now. The first write ever is 1, and a store that is opened
            again counts on: the first call tells from where.

        Raises:
            StorageError: fatal, never to be retried; what is durable is unknown.

        """
        ...

    def flush_due(self) -> bool:
        """Whether enough was written that the driver should pause writes and call ``flush``."""
        ...

    def flush(self) -> None:
        """Start writing the memtables out; runs in the disk's thread.

        The caller admits no ``write`` from before its last ``sync`` until this returns (DESIGN: WAL switches); one
        that comes nevertheless raises ``WriteStalled``. Blocks for some milliseconds, longer while the store is
        behind with earlier flushes.

        Raises:
            StorageError: fatal, as of ``sync``.

        """
        ...

    def tend(self) -> Space | None:
        """Look for failures that no call reported, and for room; runs in the disk's thread, about once a second.

        Returns:
            The room on disk; None when it takes none.

        Raises:
            StorageError: fatal, as of ``sync``.

        """
        ...

    def reclaim_due(self) -> bool:
        """Whether enough is deleted and still on disk for ``reclaim`` to be worth its work."""
        ...

    def reclaim(self) -> None:
        """Give back room on disk of deleted ranges; blocks for as long as it takes to rewrite the files around them.

        Runs in a thread of its own, beside ``write``, ``sync`` and ``flush``; ``close`` ends it.

        Raises:
            StorageError: fatal, as of ``sync``.

        """
        ...

    def close(self) -> None:
        """Sync, then release the store and its directory; a second call does nothing.

        Raises:
            StorageError: the last sync failed; all was released nevertheless.

        """
        ...
