"""What every ``Kv`` does, run on each of them."""

import tracemalloc
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.storage import memory as memory_module
from durable_streams_cluster.storage.kv import Family, Kv, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.rocks import RocksKv
from tests.kv import has

MIB = 1024 * 1024
LOG, DATA = Family.LOG, Family.DATA
Pair = tuple[bytes, bytes]


def rocks(path: Path) -> RocksKv:
    return RocksKv.open(path / "kv", memory_budget=16 * MIB)


def memory(_path: Path) -> MemoryKv:
    return MemoryKv()


@pytest.fixture(params=[memory, rocks])
def kv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kv]:
    make: Callable[[Path], Kv] = request.param
    store = make(tmp_path)
    yield store
    store.close()


def batch(*puts: Pair, family: Family = DATA) -> WriteBatch:
    made = WriteBatch()
    for key, value in puts:
        made.put(family, key, value)
    return made


def numbered(count: int) -> list[Pair]:
    return [(b"k%06d" % i, b"v%d" % i) for i in range(count)]


def test_get_of_nothing_is_none(kv: Kv) -> None:
    assert kv.get(DATA, b"k") is None
    assert kv.get(DATA, b"") is None
    assert not has(kv, DATA, b"k")
    assert not has(kv, DATA, b"")


@pytest.mark.parametrize("flushed", [False, True])
def test_has_tells_a_key_from_its_neighbours(kv: Kv, *, flushed: bool) -> None:
    """A seek lands on the next key when there is none; deleted ones, and those of the other family, are no keys."""
    kv.write(batch((b"", b""), (b"k", b"1"), (b"k\0", b""), (b"kk", b"3"), (b"m", b"4"), (b"n", b"5")))
    kv.write(batch((b"l", b""), family=LOG))
    gone = WriteBatch()
    gone.delete(DATA, b"k")
    gone.delete_range(DATA, b"m", b"n")
    kv.write(gone)
    if flushed:
        kv.sync()
        kv.flush()
    there = [key for key in (b"", b"\0", b"j", b"k", b"k\0", b"k\0\0", b"kk", b"l", b"m", b"n") if has(kv, DATA, key)]
    assert there == [b"", b"k\0", b"kk", b"n"]
    assert has(kv, LOG, b"l")
    assert not has(kv, LOG, b"k")


@pytest.mark.parametrize("flushed", [False, True])
def test_has_does_not_copy_the_value(kv: Kv, *, flushed: bool) -> None:
    kv.write(batch((b"k", bytes(8 * MIB))))
    if flushed:
        kv.sync()
        kv.flush()
    tracemalloc.start()
    try:
        assert has(kv, DATA, b"k")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_write_is_visible_at_once(kv: Kv) -> None:
    kv.write(batch((b"k", b"1")))
    assert kv.get(DATA, b"k") == b"1"
    assert list(kv.scan(DATA, b"", b"z")) == [(b"k", b"1")]


def test_families_are_apart(kv: Kv) -> None:
    made = batch((b"k", b"data"))
    made.put(LOG, b"k", b"log")
    kv.write(made)
    gone = WriteBatch()
    gone.delete_range(LOG, b"", b"z")
    kv.write(gone)
    assert kv.get(LOG, b"k") is None
    assert kv.get(DATA, b"k") == b"data"


def test_empty_keys_and_values_are_keys_and_values(kv: Kv) -> None:
    kv.write(batch((b"", b"empty key"), (b"k", b"")))
    assert kv.get(DATA, b"") == b"empty key"
    assert kv.get(DATA, b"k") == b""
    assert list(kv.scan(DATA, b"", b"z")) == [(b"", b"empty key"), (b"k", b"")]
    assert list(kv.scan(DATA, b"", b"z", reverse=True)) == [(b"k", b""), (b"", b"empty key")]


def test_operations_of_a_batch_apply_in_order(kv: Kv) -> None:
    kv.write(batch(*numbered(10)))
    made = WriteBatch()
    made.put(DATA, b"k000003", b"early")
    made.delete_range(DATA, b"k000002", b"k000008")
    made.put(DATA, b"k000005", b"late")
    made.delete(DATA, b"k000009")
    made.delete(DATA, b"absent")
    made.put(DATA, b"k000000", b"first")
    made.put(DATA, b"k000000", b"second")
    kv.write(made)
    assert dict(kv.scan(DATA, b"", b"z")) == {
        b"k000000": b"second",
        b"k000001": b"v1",
        b"k000005": b"late",
        b"k000008": b"v8",
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_has_its_start_and_not_its_end(kv: Kv, *, reverse: bool) -> None:
    pairs = numbered(10)
    kv.write(batch(*pairs))
    found = list(kv.scan(DATA, b"k000002", b"k000007", reverse=reverse))
    assert found == (pairs[6:1:-1] if reverse else pairs[2:7])
    # Bounds that are no keys.
    assert list(kv.scan(DATA, b"k0000020", b"k0000061", reverse=reverse)) == (pairs[6:2:-1] if reverse else pairs[3:7])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("start", "end"), [(b"k5", b"k5"), (b"k5", b"k1"), (b"", b""), (b"x", b"y"), (b"a", b"b")])
def test_a_scan_of_nothing_is_empty(kv: Kv, start: bytes, end: bytes, *, reverse: bool) -> None:
    assert list(kv.scan(DATA, start, end, reverse=reverse)) == []
    kv.write(batch(*((b"k%d" % i, b"") for i in range(10))))
    assert list(kv.scan(DATA, start, end, reverse=reverse)) == []


def test_the_deletion_of_an_empty_range_deletes_nothing(kv: Kv) -> None:
    kv.write(batch((b"k5", b"")))
    made = WriteBatch()
    made.delete_range(DATA, b"k5", b"k5")
    made.delete_range(DATA, b"k9", b"k1")
    kv.write(made)
    assert kv.get(DATA, b"k5") == b""


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_as_of_the_call(kv: Kv, *, reverse: bool) -> None:
    pairs = numbered(3000)
    kv.write(batch(*pairs))
    untouched = kv.scan(DATA, b"", b"z", reverse=reverse)
    begun = kv.scan(DATA, b"", b"z", reverse=reverse)
    first = next(begun)
    made = WriteBatch()
    made.delete_range(DATA, b"k000100", b"k002000")
    made.put(DATA, b"k000001", b"changed")
    made.delete(DATA, b"k002999")
    for i in range(0, 3000, 3):
        made.put(DATA, b"k%06d+" % i, b"new")
    kv.write(made)
    expected = pairs[::-1] if reverse else pairs
    assert list(untouched) == expected
    assert [first, *begun] == expected


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_keeps_its_bounds_when_nobody_else_does(kv: Kv, *, reverse: bool) -> None:
    """RocksDB compares with the caller's bytes in place; freed, they become whatever is allocated next."""
    pad = b"k" * 300
    kv.write(batch(*((pad + b"%04d" % i, b"") for i in range(1000))))

    def bound(i: int) -> bytes:
        return pad + b"%04d" % i

    for _ in range(20):
        found = kv.scan(DATA, bound(200), bound(500), reverse=reverse)
        others = [bound(100 + i % 7) for i in range(2000)]
        assert sum(1 for _ in found) == 300
        del others


def test_two_scans_with_a_write_between_see_each_their_own(kv: Kv) -> None:
    seen = []
    for i in range(5):
        kv.write(batch((b"k", b"%d" % i)))
        seen.append(kv.scan(DATA, b"", b"z"))
    kv.write(batch((b"k", b"last")))
    assert [list(each) for each in seen] == [[(b"k", b"%d" % i)] for i in range(5)]


def test_sync_returns_the_number_of_the_newest_write(kv: Kv) -> None:
    assert kv.sync() == 0
    kv.write(batch((b"k", b"1")))
    assert kv.sync() == 1
    kv.write(batch((b"k", b"2")))
    kv.write(batch((b"k", b"3")))
    assert kv.sync() == 3
    assert kv.sync() == 3


def test_an_empty_batch_is_a_write(kv: Kv) -> None:
    kv.write(WriteBatch())
    assert kv.sync() == 1


def test_a_flush_changes_nothing_that_can_be_read(kv: Kv) -> None:
    pairs = numbered(500)
    kv.write(batch(*pairs))
    before = kv.scan(DATA, b"", b"z")
    kv.sync()
    kv.flush()
    made = WriteBatch()
    made.delete_range(DATA, b"k000010", b"k000490")
    kv.write(made)
    kv.sync()
    kv.flush()
    assert list(before) == pairs
    assert list(kv.scan(DATA, b"", b"z")) == pairs[:10] + pairs[490:]
    assert not kv.flush_due()


def test_after_close_everything_but_close_fails(kv: Kv) -> None:
    kv.write(batch((b"k", b"1")))
    kv.close()
    kv.close()
    for call in (
        lambda: kv.get(DATA, b"k"),
        lambda: has(kv, DATA, b"k"),
        lambda: kv.scan(DATA, b"", b"z"),
        lambda: kv.write(WriteBatch()),
        kv.sync,
        kv.flush,
    ):
        with pytest.raises(StorageError, match="closed"):
            call()


# --- Random batches against a dict

Op = tuple[str, Family, bytes, bytes | None]
Step = list[Op] | tuple[Family, bytes, bytes, bool] | str

# Few, short keys: they collide, and ranges begin and end on keys that exist.
KEYS = st.binary(max_size=2).map(lambda key: bytes(byte & 3 for byte in key))
BOUNDS = KEYS | st.just(b"\xff")
OPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(Family), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("delete"), st.sampled_from(Family), KEYS, st.none()),
    st.tuples(st.just("delete_range"), st.sampled_from(Family), BOUNDS, BOUNDS),
)
STEPS = st.lists(
    st.one_of(
        st.lists(OPS, max_size=12),
        st.tuples(st.sampled_from(Family), BOUNDS, BOUNDS, st.booleans()),
        st.sampled_from(["sync", "flush"]),
    ),
    max_size=12,
)


def ranged(model: dict[bytes, bytes], start: bytes, end: bytes, *, reverse: bool) -> list[Pair]:
    return sorted((pair for pair in model.items() if start <= pair[0] < end), reverse=reverse)


def apply(kv: Kv, models: dict[Family, dict[bytes, bytes]], ops: list[Op]) -> None:
    made = WriteBatch()
    for name, family, key, argument in ops:
        model = models[family]
        match name:
            case "put":
                assert argument is not None
                made.put(family, key, argument)
                model[key] = argument
            case "delete":
                made.delete(family, key)
                model.pop(key, None)
            case _:
                assert argument is not None
                made.delete_range(family, key, argument)
                for each in [each for each in model if key <= each < argument]:
                    del model[each]
    kv.write(made)


def check_steps(kv: Kv, steps: list[Step]) -> None:
    """Scans are consumed at the end, each compared with the model as it was at its call."""
    models: dict[Family, dict[bytes, bytes]] = {LOG: dict(kv.scan(LOG, b"", b"\xff")), DATA: {}}
    models[DATA].update(kv.scan(DATA, b"", b"\xff"))
    scans: list[tuple[Iterator[Pair], list[Pair]]] = []
    for step in steps:
        if isinstance(step, list):
            apply(kv, models, step)
        elif isinstance(step, tuple):
            family, start, end, reverse = step
            expected = ranged(models[family], start, end, reverse=reverse)
            scans.append((kv.scan(family, start, end, reverse=reverse), expected))
        else:
            kv.sync()
            if step == "flush":
                kv.flush()
    for scan, expected in scans:
        assert list(scan) == expected
    for family, model in models.items():
        assert list(kv.scan(family, b"", b"\xff")) == ranged(model, b"", b"\xff", reverse=False)
        for key in model:
            assert kv.get(family, key) == model[key]
        for key in (bytes(key) for size in range(3) for key in product(range(4), repeat=size)):
            assert has(kv, family, key) is (key in model)


@given(steps=STEPS)
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_batches_agree_with_a_dict(kv: Kv, steps: list[Step]) -> None:
    """The store is not emptied between examples: each starts from what the one before left."""
    check_steps(kv, steps)


@given(steps=STEPS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_random_batches_agree_with_a_dict_when_blocks_are_small(steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "_BLOCK", 3)
        kv = MemoryKv()
        kv.write(batch(*((bytes((i & 3, i >> 2 & 3)), b"") for i in range(16)), family=LOG))
        check_steps(kv, steps)
