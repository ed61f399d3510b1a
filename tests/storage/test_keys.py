"""The key space: keys sort as what they hold, come apart again, and no two kinds share one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.storage import keys

U64 = st.integers(0, keys.MAX_U64)
U32 = st.integers(0, 2**32 - 1)
SLOT = st.integers(0, keys.SLOTS - 1)
NUMBER = st.integers(1, keys.MAX_U64 - 1)
PATH = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
PRODUCER = st.text(st.characters(max_codepoint=255), min_size=1, max_size=4)
STREAM = st.tuples(SLOT, U32, NUMBER)


def made(kind: str, key: bytes, *parts: object) -> tuple[str, bytes, tuple[object, ...]]:
    return kind, key, parts


DATA_KEYS = st.one_of(
    st.builds(lambda g: made("group", keys.group_state(g), g), U32),
    st.builds(lambda p, e: made("listing", keys.listing(p, e), p, e), PATH, U32),
    st.builds(lambda s, e, p: made("path", keys.path(s, e, p), s, e, p), SLOT, U32, PATH),
    st.builds(lambda s: made("meta", keys.meta(*s), s), STREAM),
    st.builds(lambda s, p: made("producer", keys.producer(*s, p), s, p), STREAM, PRODUCER),
    st.builds(lambda s, end: made("record", keys.record(*s, end), s, end), STREAM, U64),
    st.builds(lambda w, at, s: made("due", keys.due(w, at, *s), w, at, s), st.booleans(), U64, STREAM),
)
LOG_KEYS = st.one_of(
    st.builds(lambda g, i: made("entry", keys.entry(g, i), g, i), U32, U64),
    st.builds(lambda g: made("hard state", keys.hard_state(g), g), U32),
)


@pytest.mark.parametrize("family", [DATA_KEYS, LOG_KEYS], ids=["data", "log"])
def test_two_things_never_have_one_key(family: st.SearchStrategy[tuple[str, bytes, tuple[object, ...]]]) -> None:
    @given(family, family)
    def differ(one: tuple[str, bytes, tuple[object, ...]], other: tuple[str, bytes, tuple[object, ...]]) -> None:
        assert (one[1] == other[1]) == (one == other)

    differ()


@given(U32, U64, U32, U64)
def test_entries_sort_by_group_then_index(group: int, index: int, other_group: int, other_index: int) -> None:
    one, other = keys.entry(group, index), keys.entry(other_group, other_index)
    assert (one < other) == ((group, index) < (other_group, other_index))
    assert keys.entry_index(one) == index


@given(STREAM, U64, U64)
def test_records_of_a_stream_sort_by_their_end(stream: tuple[int, int, int], end: int, other: int) -> None:
    assert (keys.record(*stream, end) < keys.record(*stream, other)) == (end < other)
    assert keys.record_end(keys.record(*stream, end)) == end


@given(STREAM, U64, PRODUCER)
def test_the_range_of_records_holds_the_records_only(stream: tuple[int, int, int], end: int, producer: str) -> None:
    low, high = keys.record(*stream, 0), keys.records_end(*stream)
    assert low <= keys.record(*stream, end) < high
    assert not low <= keys.meta(*stream) < high
    assert not low <= keys.producer(*stream, producer) < high


@given(STREAM, STREAM, U64, PRODUCER, PATH)
def test_the_range_of_a_stream_holds_all_of_it_and_nothing_else(
    stream: tuple[int, int, int], other: tuple[int, int, int], end: int, producer: str, path: str
) -> None:
    low, high = keys.stream_range(*stream)
    for each in {stream, other}:
        for key in (keys.meta(*each), keys.record(*each, end), keys.producer(*each, producer)):
            assert (low <= key < high) == (each == stream)
        assert not low <= keys.path(each[0], each[1], path) < high
        assert not low <= keys.due(True, end, *each) < high
        assert not low <= keys.listing(path, each[1]) < high


@given(st.booleans(), U64, U64, STREAM)
def test_the_range_of_what_is_due_holds_what_is_due(
    wall: bool, at: int, until: int, stream: tuple[int, int, int]
) -> None:
    low, high = keys.due_range(wall, until)
    if until < keys.MAX_U64:
        assert (low <= keys.due(wall, at, *stream) < high) == (at <= until)
    assert not low <= keys.due(not wall, at, *stream) < high
    assert keys.due_parts(keys.due(wall, at, *stream)) == (at, stream[0], stream[2])


@given(st.booleans(), U64, U64, STREAM, STREAM)
def test_an_expiry_index_sorts_by_time(
    wall: bool, at: int, other_at: int, stream: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    if at < other_at:
        assert keys.due(wall, at, *stream) < keys.due(wall, other_at, *other)


@given(PATH, PATH, U32, U32)
def test_the_listing_sorts_by_path(path: str, other: str, epoch: int, other_epoch: int) -> None:
    if path.encode() < other.encode():
        assert keys.listing(path, epoch) < keys.listing(other, other_epoch)


@given(NUMBER, SLOT)
def test_values_come_back(number: int, slot: int) -> None:
    assert keys.stream_id(keys.stream_id_value(number)) == number
    assert keys.listing_value(slot, number) == slot.to_bytes(2, "big") + number.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("path", "slot"), [("s", 0x2EDE), ("a/b", 0xFA0), ("j", 0x2008), ("\u00e9t\u00e9", None), ("x" * 1024, None)]
)
def test_a_path_has_its_slot_for_ever(path: str, slot: int | None) -> None:
    assert 0 <= keys.slot_of(path) < keys.SLOTS
    assert slot is None or keys.slot_of(path) == slot, "clusters have placed data by this"


def test_the_bytes_of_each_kind() -> None:
    """A change here is a change of what is on disk."""
    made_now = {
        "entry": keys.entry(1, 2),
        "hard state": keys.hard_state(1),
        "group": keys.group_state(1),
        "listing": keys.listing("a/b", 3),
        "path": keys.path(5, 3, "a/b"),
        "meta": keys.meta(5, 3, 7),
        "producer": keys.producer(5, 3, 7, "p"),
        "record": keys.record(5, 3, 7, 9),
        "ttl": keys.due(False, 11, 5, 3, 7),
        "wall": keys.due(True, 11, 5, 3, 7),
    }
    stream = "530005000000030000000000000007"
    assert {kind: key.hex() for kind, key in made_now.items()} == {
        "entry": "45000000010000000000000002",
        "hard state": "4800000001",
        "group": "4700000001",
        "listing": "4c612f620000000003",
        "path": "530005000000030000000000000000612f62",
        "meta": stream + "4d",
        "producer": stream + "5070",
        "record": stream + "520000000000000009",
        "ttl": "58000000000000000b0005000000030000000000000007",
        "wall": "57000000000000000b0005000000030000000000000007",
    }


@pytest.mark.parametrize(
    "read", [keys.entry_index, keys.record_end, keys.stream_id, keys.due_parts, keys.listing_parts, keys.path_text]
)
@pytest.mark.parametrize("found", [b"\xff", b"S\xff\0", b"L\xff\0\0\0\0\0"])
def test_what_is_no_key_is_corrupt_data(read: Callable[[bytes], object], found: bytes) -> None:
    with pytest.raises(CorruptData):
        read(found)
