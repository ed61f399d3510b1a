"""The store of ``--in-memory`` nodes and of unit tests: the contract of ``Kv`` in plain Python, durable in nothing."""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.storage.kv import Delete, DeleteRange, Family, Put, WriteBatch

_BLOCK: Final = 512
"""Keys a block holds before it splits: inserting moves at most this many, and so does the copy after a scan."""


class _Block:
    """A run of neighbouring keys with their values. ``age`` tells whether a scan may still be reading it."""

    __slots__ = ("age", "keys", "values")

    def __init__(self, keys: list[bytes], values: list[bytes], age: int) -> None:
        self.keys = keys
        self.values = values
        self.age = age


class _Table:
    """One family: blocks in key order, and beside them the last key of each to search by.

    One sorted list would move megabytes for each insert between a million keys, and a scan would have to copy its
    whole range to be stable. Blocks are copied on write instead, and only those that a scan may have seen: each scan
    raises ``age``, and a block older than that is replaced, never changed.
    """

    __slots__ = ("age", "blocks", "lasts")

    def __init__(self) -> None:
        self.age = 0
        self.blocks: list[_Block] = []
        self.lasts: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        at = bisect_left(self.lasts, key)
        if at == len(self.lasts):
            return None
        block = self.blocks[at]
        place = bisect_left(block.keys, key)
        return block.values[place] if block.keys[place] == key else None

    def put(self, key: bytes, value: bytes) -> None:
        at = bisect_left(self.lasts, key)
        if at == len(self.lasts):
            self._append(key, value)
            return
        block = self._own(at)
        place = bisect_left(block.keys, key)
        if block.keys[place] == key:
            block.values[place] = value
            return
        block.keys.insert(place, key)
        block.values.insert(place, value)
        if len(block.keys) > _BLOCK:
            self._split(at, block)

    def delete(self, key: bytes) -> None:
        at = bisect_left(self.lasts, key)
        if at == len(self.lasts):
            return
        place = bisect_left(self.blocks[at].keys, key)
        if self.blocks[at].keys[place] == key:
            self._cut(at, place, place + 1)

    def delete_range(self, start: bytes, end: bytes) -> None:
        if start >= end:
            return
        first = bisect_left(self.lasts, start)
        if first == len(self.lasts):
            return
        last = bisect_left(self.lasts, end)
        if last < len(self.lasts):
            place = bisect_left(self.blocks[last].keys, end)
            if first == last:
                self._cut(first, bisect_left(self.blocks[first].keys, start), place)
                return
            self._cut(last, 0, place)
        # From here every key of the blocks between is in the range, and of the first all from ``start`` on.
        place = bisect_left(self.blocks[first].keys, start)
        del self.blocks[first + 1 : last], self.lasts[first + 1 : last]
        self._cut(first, place, len(self.blocks[first].keys))

    def scan(self, start: bytes, end: bytes) -> list[_Block]:
        """The blocks that hold the range, which no later write changes."""
        first = bisect_left(self.lasts, start)
        last = bisect_left(self.lasts, end)
        self.age += 1
        return self.blocks[first : last + 1]

    def _append(self, key: bytes, value: bytes) -> None:
        """Beyond the last key: the last block is filled up, not split, so a log's blocks are full."""
        if self.blocks and len(self.blocks[-1].keys) < _BLOCK:
            block = self._own(len(self.blocks) - 1)
            block.keys.append(key)
            block.values.append(value)
            self.lasts[-1] = key
        else:
            self.blocks.append(_Block([key], [value], self.age))
            self.lasts.append(key)

    def _own(self, at: int) -> _Block:
        """The block at ``at``, replaced by a copy when a scan may be reading it."""
        block = self.blocks[at]
        if block.age != self.age:
            block = self.blocks[at] = _Block(block.keys.copy(), block.values.copy(), self.age)
        return block

    def _split(self, at: int, block: _Block) -> None:
        half = len(block.keys) // 2
        upper = _Block(block.keys[half:], block.values[half:], self.age)
        del block.keys[half:], block.values[half:]
        self.blocks.insert(at + 1, upper)
        self.lasts.insert(at, block.keys[-1])

    def _cut(self, at: int, start: int, end: int) -> None:
        """Remove places ``start`` to ``end`` of a block, and the block when nothing is left."""
        if start == 0 and end == len(self.blocks[at].keys):
            del self.blocks[at], self.lasts[at]
        elif start < end:
            block = self._own(at)
            del block.keys[start:end], block.values[start:end]
            self.lasts[at] = block.keys[-1]


class MemoryKv:
    """A ``Kv`` that forgets everything when the process ends. ``sync`` promises nothing and costs nothing."""

    def __init__(self) -> None:
        self._tables = tuple(_Table() for _ in Family)
        self._writes = 0
        self._closed = False

    @property
    def last_write(self) -> int:
        """The number of the newest write, 0 before the first."""
        return self._writes

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of ``key``, or None.

        Raises:
            StorageError: the store is closed.

        """
        self._check()
        return self._tables[family].get(key)

    def first_key(self, family: Family, start: bytes, end: bytes) -> bytes | None:
        """The first key with ``start <= key < end``, or None.

        Raises:
            StorageError: the store is closed.

        """
        return next((key for key, _ in self.scan(family, start, end)), None)

    def scan(self, family: Family, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with ``start <= key < end`` in key order (or backwards), as of the moment of the call.

        Later writes do not show; the iterator holds what it has not yet given out, so drop it when done.

        Raises:
            StorageError: the store is closed.

        """
        self._check()
        if start >= end:
            return iter(())
        # The blocks are taken here and walked in a generator: a generator's body starts at the first ``next``, which
        # would make the view as of then.
        blocks = self._tables[family].scan(start, end)
        return _backward(blocks, start, end) if reverse else _forward(blocks, start, end)

    def write(self, batch: WriteBatch) -> None:
        """Apply ``batch``.

        Raises:
            StorageError: the store is closed.

        """
        self._check()
        tables = self._tables
        for op in batch.ops:
            if isinstance(op, Put):
                tables[op.family].put(op.key, op.value)
            elif isinstance(op, Delete):
                tables[op.family].delete(op.key)
            elif isinstance(op, DeleteRange):
                tables[op.family].delete_range(op.start, op.end)
        self._writes += 1

    def sync(self) -> int:
        """The number of the newest write.

        Raises:
            StorageError: the store is closed.

        """
        self._check()
        return self._writes

    def flush_due(self) -> bool:
        """Never: there is nothing to flush to."""
        return False

    def flush(self) -> None:
        """Nothing to do.

        Raises:
            StorageError: the store is closed.

        """
        self._check()

    def tend(self) -> None:
        """Nothing to look for.

        Raises:
            StorageError: the store is closed.

        """
        self._check()

    def reclaim_due(self) -> bool:
        """Never: what is deleted is gone."""
        return False

    def reclaim(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Forget everything; a second call does nothing."""
        self._closed = True
        self._tables = tuple(_Table() for _ in Family)

    def _check(self) -> None:
        if self._closed:
            raise StorageError("the store is closed")


def _forward(blocks: list[_Block], start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    final = len(blocks) - 1
    for at, block in enumerate(blocks):
        # Only the outermost blocks can hold keys outside the range.
        low = bisect_left(block.keys, start) if at == 0 else 0
        high = bisect_left(block.keys, end) if at == final else len(block.keys)
        for place in range(low, high):
            yield block.keys[place], block.values[place]


def _backward(blocks: list[_Block], start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    final = len(blocks) - 1
    for at in range(final, -1, -1):
        block = blocks[at]
        low = bisect_left(block.keys, start) if at == 0 else 0
        high = bisect_left(block.keys, end) if at == final else len(block.keys)
        for place in range(high - 1, low - 1, -1):
            yield block.keys[place], block.values[place]
