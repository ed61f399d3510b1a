"""Sweeping removes what other install epochs left, a little at a time, and nothing that is shown."""

from random import Random

import pytest
from msgspec.structs import replace

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import dropping, keys
from durable_streams_cluster.storage.codecs import encode_meta
from durable_streams_cluster.storage.kv import DeleteRange, Family, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.storage.sweep import Sweep
from durable_streams_cluster.streams import machine
from durable_streams_cluster.streams.commands import Stamp
from tests.replica.node import append, create

GROUP = GroupId(1)


def filled(kv: MemoryKv, random: Random) -> None:
    """Some streams under epoch 0, large and small."""
    store = StreamStore(kv, GROUP)
    batch = WriteBatch()
    for number in range(20):
        path = f"s{number}"
        commands = [create(path, ttl_s=60), *(append(path, b"x" * 10) for _ in range(random.randint(0, 9)))]
        for command in commands:
            store.stage(batch, machine.apply(store, command, Stamp(1, 1)).writes)
    store.finish(batch, 1, 1, 1)
    kv.write(batch)


def everything(kv: MemoryKv) -> dict[bytes, bytes]:
    return dict(kv.scan(Family.DATA, b"", b"\xff"))


def installed(kv: MemoryKv, epoch: int) -> None:
    """The same once more, under another epoch."""
    batch = WriteBatch()
    for key, value in everything(kv).items():
        if keys.epoch_of(key) == 0:
            batch.put(Family.DATA, keys.with_epoch(key, epoch), value)
    kv.write(batch)


def swept(kv: MemoryKv, keep: frozenset[int], max_keys: int) -> int:
    """How many slices it took."""
    sweep, slices, done = Sweep(kv), 0, False
    while not done:
        batch = WriteBatch()
        done = sweep.slice(batch, keep, max_keys)
        kv.write(batch)
        slices += 1
    return slices


@pytest.mark.parametrize("few", [1, 64])
@pytest.mark.parametrize("max_keys", [1, 7, 1000])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_is_kept_is_all_that_is_left(kept: int, max_keys: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "FEW_KEYS", few)
    kv = MemoryKv()
    filled(kv, Random(kept))
    installed(kv, 1)
    installed(kv, 2)
    before = everything(kv)
    slices = swept(kv, frozenset({kept}), max_keys)
    assert everything(kv) == {key: value for key, value in before.items() if keys.epoch_of(key) in (None, kept)}
    assert slices > 1 or max_keys == 1000


def test_a_sweep_goes_on_after_a_restart_and_part_of_a_snapshot_is_removed() -> None:
    kv = MemoryKv()
    filled(kv, Random(5))
    before = everything(kv)
    installed(kv, 1)
    half = WriteBatch()
    for place, key in enumerate(sorted(everything(kv))):
        if keys.epoch_of(key) == 1 and place % 2:
            half.delete(Family.DATA, key)
    kv.write(half)
    first = WriteBatch()
    assert not Sweep(kv).slice(first, frozenset({0}), 5)
    kv.write(first)
    swept(kv, frozenset({0}), 10)
    assert everything(kv) == before


def test_no_part_of_a_range_that_is_being_freed_is_deleted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may be rewriting the files around it (``kv.DeleteRange``)."""
    monkeypatch.setattr(dropping, "FEW_KEYS", 1)
    kv = MemoryKv()
    store = StreamStore(kv, GROUP)
    batch = WriteBatch()
    for command in [create("s"), *(append("s", b"x" * 10) for _ in range(9))]:
        store.stage(batch, machine.apply(store, command, Stamp(1, 1)).writes)
    store.finish(batch, 1, 1, 1)
    kv.write(batch)
    store.commit()
    ref = store.find("s")
    assert ref is not None
    meta = store.meta(ref)
    assert meta is not None
    trimmed = WriteBatch()
    trimmed.put(Family.DATA, keys.meta(ref.slot, 0, ref.id), encode_meta(replace(meta, head=50, freed=50)))
    dropping.drop_records(kv, trimmed, 0, ref, -1, 50)
    kv.write(trimmed)
    (freed,) = [op for op in trimmed.ops if isinstance(op, DeleteRange)]
    sweep = WriteBatch()
    Sweep(kv).slice(sweep, frozenset({1}), 1000)
    for op in sweep.ops:
        if isinstance(op, DeleteRange):
            assert op.end <= freed.start or op.start >= freed.end
    kv.write(sweep)
    assert [key for key in everything(kv) if keys.epoch_of(key) is not None] == []
