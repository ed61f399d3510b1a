"""Streams that are made, forked, trimmed and dropped by chance, on disk: no deleted range is ever touched again.

That is what lets RocksDB rewrite such a range beside everything else: it never switches its WAL by itself then.
"""

import os
import random
from pathlib import Path

import pytest

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import dropping, keys, reclaim
from durable_streams_cluster.storage.kv import Delete, Deleted, Family, Put, WriteBatch
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.stream_reader import StreamReader
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams import machine, reading
from tests.storage.crashes import wals
from tests.storage.test_reclaim import flushed

TURNS = 400


class Untouched:
    """The ranges that are given back, and whether a batch touches one of them."""

    def __init__(self) -> None:
        self.ranges: list[tuple[bytes, bytes]] = []

    def check(self, batch: WriteBatch) -> None:
        found: list[tuple[bytes, bytes]] = []
        for op in batch.ops:
            if op.family is not Family.DATA or isinstance(op, Deleted):
                continue
            first, end = (op.key, op.key + b"\0") if isinstance(op, Put | Delete) else (op.start, op.end)
            assert not [dead for dead in self.ranges if first < dead[1] and dead[0] < end], op
        for op in batch.ops:
            if not isinstance(op, Put | Delete) and op.family is Family.DATA and op.frees:
                assert not [dead for dead in (*self.ranges, *found) if op.start < dead[1] and dead[0] < op.end], op
                found.append((op.start, op.end))
        self.ranges += found


class Chance:
    """Commands by chance."""

    def __init__(self, seed: int, store: StreamStore) -> None:
        self.random = random.Random(seed)
        self.store = store
        self.paths: list[str] = []

    def command(self) -> c.Command:
        chance = self.random
        kind = chance.random()
        path = chance.choice(self.paths) if self.paths else ""
        if not path or kind < 0.2:
            self.paths.append(f"{'p' * chance.randint(1, 2)}{len(self.paths)}")
            fork = c.Fork(path, None, 0) if path and kind < 0.08 else None
            return c.Create(self.paths[-1], None if fork else "a/b", None, None, False, b"", fork)
        if kind < 0.6:
            producer = c.Producer(f"i{chance.randint(0, 3)}", 0, 0) if chance.random() < 0.2 else None
            return c.Append(path, "a/b", os.urandom(chance.choice((1, 1, 10, 400))), False, None, producer)
        if kind < 0.85 and (ref := self.store.find(path)) is not None and (meta := self.store.meta(ref)) is not None:
            ends = [record.end for record in reading.records(self.store, ref, meta, meta.head)]
            return c.Trim(path, ref.id, chance.choice(ends or [0]))
        return c.Delete(path)


@pytest.mark.parametrize("number", range(3))
def test_what_is_given_back_is_never_touched_again(
    kv: RocksKv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(reclaim, "DEAD_SHARE", 0.0)
    monkeypatch.setattr(reclaim, "LATER_MS", 0)
    monkeypatch.setattr(dropping, "FEW_KEYS", 4)
    monkeypatch.setattr(dropping, "FEW_BYTES", 300)
    monkeypatch.setattr(dropping, "WORTH_A_MARK", 5)
    monkeypatch.setattr(keys, "slot_of", lambda path: len(path) % 2)  # neighbours, all of them
    store = StreamStore(kv, GroupId(1))
    chance, untouched = Chance(number, store), Untouched()
    reclaims, wal = 0, wals(tmp_path / "kv")[-1]
    for turn in range(1, TURNS + 1):
        batch = WriteBatch()
        for _ in range(chance.random.randint(1, 8)):
            store.stage(batch, tuple(machine.apply(store, chance.command(), c.Stamp(turn, turn)).writes))
        store.finish(batch, turn, 1, turn)
        untouched.check(batch)
        kv.write(batch)
        store.commit()
        if chance.random.random() < 0.15:
            kv.sync()
            if chance.random.random() < 0.6:
                flushed(kv)
            else:
                kv.flush()
            wal = wals(tmp_path / "kv")[-1]
        if chance.random.random() < 0.3:
            reclaims += bool(kv._waiting.ready())
            kv.reclaim()
            assert wals(tmp_path / "kv")[-1] == wal, f"RocksDB switched its WAL by itself in turn {turn}"
    assert reclaims > 10
    assert len(untouched.ranges) > 20
    fresh = StreamReader(kv, GroupId(1))
    for path in chance.paths:
        ref = fresh.find(path)
        if ref is not None and (meta := fresh.meta(ref)) is not None:
            bodies = [record.body for record in reading.records(fresh, ref, meta, meta.head)]
            assert sum(map(len, bodies)) == meta.tail - meta.head, "what is kept is there"
