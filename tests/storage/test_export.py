"""What a snapshot sends: all of one group and epoch, in bounded slices, as of one moment."""

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.export import Export, Pair, pairs_crc
from durable_streams_cluster.storage.kv import Family, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv

GROUP = GroupId(1)


def store(*pairs: Pair) -> MemoryKv:
    kv = MemoryKv()
    batch = WriteBatch()
    for key, value in pairs:
        batch.put(Family.DATA, key, value)
    kv.write(batch)
    return kv


def meta(number: int, epoch: int, size: int = 1) -> Pair:
    return keys.meta(7, epoch, number), bytes(size)


def whole(export: Export, max_bytes: int = 1000, max_pairs: int = 10) -> list[tuple[Pair, ...]]:
    slices = []
    while not export.done:
        slices.append(export.slice(max_bytes, max_pairs))
    return slices


def test_only_what_belongs_to_the_group_and_the_epoch() -> None:
    own = (keys.group_state(1), b"own"), (keys.session(1, 5), b"session")
    others = (keys.group_state(2), b"other"), (keys.session(2, 5), b"other"), (keys.installs(1), b"installs")
    listed = [(keys.listing(f"s{epoch}", epoch), keys.listing_value(7, 1)) for epoch in range(3)]
    dues = [(keys.due(False, 9, 7, epoch, 1), b"s") for epoch in range(3)]
    kv = store(*own, *others, *listed, *dues, *(meta(1, epoch) for epoch in range(3)))
    found = {pair for each in whole(Export(kv, GROUP, 1)) for pair in each}
    assert found == {*own, listed[1], dues[1], meta(1, 1)}


def test_slices_are_bounded_also_where_nothing_belongs() -> None:
    kv = store(*(meta(number, 0) for number in range(1, 95)), *(meta(number, 1) for number in range(1, 15)))
    slices = whole(Export(kv, GROUP, 1))
    assert [len(each) for each in slices] == [0] * 9 + [6, 8]


def test_a_large_value_travels_alone() -> None:
    kv = store(meta(1, 0), meta(2, 0, 5000), meta(3, 0))
    assert [len(each) for each in whole(Export(kv, GROUP, 0))] == [1, 1, 1]


def test_what_is_written_later_is_not_in_it() -> None:
    kv = store(meta(1, 0), meta(3, 0))
    export = Export(kv, GROUP, 0)
    later = WriteBatch()
    later.delete(Family.DATA, meta(3, 0)[0])
    later.put(Family.DATA, *meta(2, 0))
    kv.write(later)
    assert whole(export) == [(meta(1, 0), meta(3, 0))]


def test_the_checksum_tells_where_a_key_ends() -> None:
    assert pairs_crc(((b"ab", b"c"),)) != pairs_crc(((b"a", b"bc"),))
    assert pairs_crc(((b"a", b"b"), (b"c", b"d"))) != pairs_crc(((b"c", b"d"), (b"a", b"b")))
