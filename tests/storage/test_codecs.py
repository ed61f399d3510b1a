"""Stored values: they come back as they were, their bytes are settled, and damage is always told as ``CorruptData``."""

import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import Entry, EntryKind, HardState, Member, Membership, entry_crc
from durable_streams_cluster.storage import codecs
from durable_streams_cluster.storage.codecs import AppliedState, Origin, Proposal
from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams.meta import Closer, Era, Parent, Requested, StreamMeta, StreamRef
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import GroupState, Record

GROUP = 1
FORK = c.Fork("src/é", Offset(2, 5), 3)
META = StreamMeta(
    path="a/b",
    content_type="text/plain",
    requested=Requested(None, 60, None, FORK),
    created_at=1_000,
    touched_at=2_000,
    tail=12,
    eras=(Era(1, 0), Era(3, 8)),
    fresh=False,
    closed=True,
    closer=Closer("p", 4, 5),
    stream_seq=b"\xff1",
    ttl_s=60,
    expires_at_ms=None,
    parent=Parent(StreamRef(7, 9), "src/é", 8, 1),
    forks=2,
    deleted=False,
    producers=1,
    expiry_due=62_000,
    head=9,
    above=2,
    freed=8,
    max_bytes=1_000,
)
COMMANDS = [
    c.Create("a/b", "text/plain", 60, None, True, b"\x00body", FORK),
    c.Create("a", None, None, 1_893_456_000_000, False, b"", None, 60, 1_000),
    c.Append("a/b", "text/plain", b"body", True, b"\xff1", c.Producer("p\xe9", 2**53 - 1, 0)),
    c.Delete("a/b"),
    c.Touch("a/b", 9),
    c.Expire("a/b", 9, 2_000),
    c.Rearm("a/b", 9),
    c.Trim("a/b", 9, 12),
    c.Append("a", "text/plain", b"body", False, None, None, Offset(3, 12)),
]


def entry(kind: EntryKind, data: bytes, feature_level: int = 1) -> Entry:
    bare = Entry(Term(3), Index(7), kind, feature_level, 1_234, 1_750_000_000_000, data)
    sealed = entry_crc(GROUP, bare)
    return Entry(Term(3), Index(7), kind, feature_level, 1_234, 1_750_000_000_000, data, sealed)


Decode = Callable[[bytes], Any]
MEMBERSHIP = Membership((Member(NodeId("n1"), 7, "host:1"), Member(NodeId("n2"), 8, "", voter=False, rises=True)), (9,))
STORED: dict[str, tuple[object, bytes, Decode]] = {
    "meta": (META, codecs.encode_meta(META), codecs.decode_meta),
    "producer": (
        ProducerState(4, 5, (8, 12)),
        codecs.encode_producer(ProducerState(4, 5, (8, 12))),
        codecs.decode_producer,
    ),
    "applied": (
        AppliedState(7, 3, 1_234, GroupState(10, 3)),
        codecs.encode_applied(AppliedState(7, 3, 1_234, GroupState(10, 3))),
        codecs.decode_applied,
    ),
    "hard state": (
        HardState(Term(3), NodeId("n1")),
        codecs.encode_hard_state(HardState(Term(3), NodeId("n1"))),
        lambda value: codecs.decode_hard_state(GROUP, value),
    ),
    "entry": (
        entry(EntryKind.COMMANDS, b"data"),
        codecs.encode_entry(entry(EntryKind.COMMANDS, b"data")),
        lambda value: codecs.decode_entry(GROUP, 7, value),
    ),
    "record": (
        Record(7, b"body"),
        codecs.encode_record(1_234, Record(7, b"body")),
        lambda value: codecs.decode_record(7, value),
    ),
    "records": (
        Record(9, b"onetwo", (3,)),
        codecs.encode_record(1_234, Record(9, b"onetwo", (3,))),
        lambda value: codecs.decode_record(9, value),
    ),
    "membership": (MEMBERSHIP, codecs.encode_membership(MEMBERSHIP), codecs.decode_membership),
} | {
    f"command {number} {type(command).__name__}": (
        [Proposal(Origin(2, 3), command)],
        codecs.encode_proposals([Proposal(Origin(2, 3), command)]),
        codecs.decode_proposals,
    )
    for number, command in enumerate(COMMANDS)
}
GOLDEN = {
    "meta": (
        "01dc0016a3612f62aa746578742f706c61696e94c03cc093a67372632fc3a992020503cd03e8cd07d00c929201009203"
        "08c2c393a1700405c402ff313cc094920709a67372632fc3a9080102c201cdf230090208cd03e8"
    ),
    "producer": "0193040592080c",
    "applied": "01940703cd04d2930a0300",
    "hard state": "0100000000000000050f0de39e9203a26e31",
    "entry": "01020001000000000000000300000000000004d2000001977420dc00f4c32cee64617461",
    "record": "0100000000000004d2626f6479",
    "records": "0200000000000004d200000001000000036f6e6574776f",
    "membership": "01929295a26e3107a6686f73743a31c3c295a26e3208a0c2c39109",
    "command 0 Create": (
        "0191929202039a01a3612f62aa746578742f706c61696e3cc0c3c40500626f647993a67372632fc3a992020503c0c0"
    ),
    "command 1 Create": "0191929202039a01a161c0c0cf000001b8dac5b400c2c400c03ccd03e8",
    "command 2 Append": (
        "0191929202039802a3612f62aa746578742f706c61696ec404626f6479c3c402ff3193a370c3a9cf001fffffffffffff00c0"
    ),
    "command 3 Delete": "0191929202039203a3612f62",
    "command 4 Touch": "0191929202039304a3612f6209",
    "command 5 Expire": "0191929202039405a3612f6209cd07d0",
    "command 6 Rearm": "0191929202039306a3612f6209",
    "command 7 Trim": "0191929202039417a3612f62090c",
    "command 8 Append": "0191929202039802a161aa746578742f706c61696ec404626f6479c2c0c092030c",
}
FEATURE_LEVEL_1: dict[str, tuple[object, str]] = {
    "applied": (AppliedState(7, 3, 1_234, GroupState(10, 3)), "01940703cd04d2920a03"),
    "meta": (
        replace(META, head=0, above=0, freed=0, max_bytes=None),
        "01dc0014a3612f62aa746578742f706c61696e94c03cc093a67372632fc3a992020503cd03e8cd07d00c929201009203"
        "08c2c393a1700405c402ff313cc094920709a67372632fc3a9080102c201cdf2300000",
    ),
    "command 0 Create": (
        [Proposal(Origin(2, 3), COMMANDS[0])],
        "0191929202039801a3612f62aa746578742f706c61696e3cc0c3c40500626f647993a67372632fc3a992020503",
    ),
    "command 2 Append": (
        [Proposal(Origin(2, 3), COMMANDS[2])],
        "0191929202039702a3612f62aa746578742f706c61696ec404626f6479c3c402ff3193a370c3a9cf001fffffffffffff00",
    ),
}
"""Bytes of builds that knew fewer fields."""


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_comes_back(name: str) -> None:
    value, stored, decode = STORED[name]
    assert decode(stored) == value


@pytest.mark.parametrize("name", STORED)
def test_the_bytes_are_settled(name: str) -> None:
    """Disks hold these. When this fails, add fields at the end with a default, and keep the old bytes readable."""
    _, stored, _ = STORED[name]
    assert stored.hex() == GOLDEN.get(name), name


def test_no_golden_bytes_are_left_over() -> None:
    assert sorted(GOLDEN) == sorted(STORED)


@pytest.mark.parametrize("name", GOLDEN)
def test_old_bytes_stay_readable(name: str) -> None:
    value, _, decode = STORED[name]
    assert decode(bytes.fromhex(GOLDEN[name])) == value


@pytest.mark.parametrize("name", FEATURE_LEVEL_1)
def test_bytes_of_earlier_builds_stay_readable(name: str) -> None:
    value, stored = FEATURE_LEVEL_1[name]
    assert STORED[name][2](bytes.fromhex(stored)) == value


def test_every_command_has_golden_bytes() -> None:
    stored = {type(command) for command in COMMANDS}
    assert stored == set(c.Command.__args__)  # type: ignore[attr-defined]


def test_text_that_is_not_utf_8_is_corrupt_data() -> None:
    _, stored, decode = STORED["meta"]
    with pytest.raises(CorruptData):
        decode(stored.replace(b"a/b", b"a\xffb"))


@pytest.mark.parametrize("body", [b"", b"\x91", b"\x92\x01\xa1\xff", b"\x91" * 2_000, b"\x92\xa11\xc0"])
def test_a_hard_state_that_is_none_is_corrupt_data_even_with_a_good_checksum(body: bytes) -> None:
    stored = struct.pack(">BQI", codecs.FORMAT, len(body), crc32(body)) + body
    with pytest.raises(CorruptData, match="term and vote of group 1"):
        codecs.decode_hard_state(GROUP, stored)


@given(st.sampled_from(sorted(STORED)), st.data())
def test_damaged_bytes_are_corrupt_data_or_another_value(name: str, data: st.DataObject) -> None:
    """Never another exception. Entries and the hard state, which carry a checksum, are never another value."""
    value, stored, decode = STORED[name]
    at = data.draw(st.integers(0, len(stored) - 1))
    damage = data.draw(
        st.sampled_from([stored[:at], stored + b"\0", stored[:at] + bytes([stored[at] ^ 0x40]) + stored[at + 1 :]])
        | st.binary(max_size=8).map(lambda noise: stored[:at] + noise + stored[at + len(noise) :])
    )
    try:
        read = decode(damage)
    except CorruptData:
        return
    assert name not in {"entry", "hard state"} or read == value


@given(st.sampled_from(sorted(STORED)), st.binary(max_size=60), st.booleans())
def test_any_bytes_are_read_or_corrupt(name: str, noise: bytes, with_format: bool) -> None:
    _, _, decode = STORED[name]
    try:
        decode(bytes([codecs.FORMAT]) + noise if with_format else noise)
    except CorruptData:
        return


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("first", [b"", b"\x00", b"\x03", b"\xff"])
def test_another_format_is_refused_not_skipped(name: str, first: bytes) -> None:
    _, stored, decode = STORED[name]
    with pytest.raises(CorruptData):
        decode(first + stored[1:] if first else b"")


def test_an_unknown_command_is_refused_not_skipped() -> None:
    stored = codecs.encode_proposals([Proposal(Origin(), c.Delete("a"))])
    assert stored.count(b"\x92\x03") == 1
    with pytest.raises(CorruptData, match="commands cannot be read"):
        codecs.decode_proposals(stored.replace(b"\x92\x03", b"\x92\x63"))


def test_an_entry_is_read_only_as_what_it_is() -> None:
    stored = codecs.encode_entry(entry(EntryKind.NOOP, b""))
    assert codecs.decode_entry(GROUP, 7, stored).kind is EntryKind.NOOP
    for group, index in ((2, 7), (GROUP, 8)):
        with pytest.raises(CorruptData, match="checksum"):
            codecs.decode_entry(group, index, stored)


def test_an_entry_with_any_bit_turned_is_refused() -> None:
    stored = codecs.encode_entry(entry(EntryKind.COMMANDS, b"0123456789"))
    for bit in range(len(stored) * 8):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptData):
            codecs.decode_entry(GROUP, 7, bytes(damaged))
