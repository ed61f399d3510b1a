"""Stored values and keys: they come back as they were, and bytes that are none are told as ``CorruptData``."""

import struct
from collections.abc import Callable
from typing import Any, TypeVar
from zlib import crc32

from msgspec.structs import replace

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import Entry, EntryKind, HardState, Member, Membership, entry_crc
from durable_streams_cluster.storage import codecs, keys, reclaim
from durable_streams_cluster.storage.codecs import AppliedState, Origin, Proposal
from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams.meta import Closer, Era, Parent, Requested, StreamMeta, StreamRef
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.producers import ProducerState
from durable_streams_cluster.streams.view import GroupState
from tests.fuzz.draw import Draw
from tests.fuzz.refusals import told

T = TypeVar("T")
Decode = Callable[[bytes], Any]
VALUES: tuple[tuple[Callable[[Any], bytes], Decode], ...] = (
    (codecs.encode_meta, codecs.decode_meta),
    (codecs.encode_producer, codecs.decode_producer),
    (codecs.encode_applied, codecs.decode_applied),
    (codecs.encode_proposals, codecs.decode_proposals),
    (codecs.encode_membership, codecs.decode_membership),
)


def value_or_corrupt(decode: Callable[[bytes], T], data: bytes) -> T | None:
    """Nothing but ``CorruptData`` may be raised, and it says something."""
    try:
        return decode(data)
    except CorruptData as error:
        told(error)
        return None


def check_values(data: bytes) -> None:
    """Any bytes: what a decoder takes is a value that is stored and read again as the same."""
    encode, decode = VALUES[data[0] % len(VALUES)] if data else VALUES[0]
    for stored in (data[1:], bytes([codecs.FORMAT]) + data[1:]):
        value = value_or_corrupt(decode, stored)
        if value is not None:
            assert decode(encode(value)) == value
    record = value_or_corrupt(lambda value: codecs.decode_record(1 << 40, value), data)
    at_ms = value_or_corrupt(codecs.record_time, data)
    assert record is None or (at_ms is not None and codecs.encode_record(at_ms, record) == data)


def check_damage(data: bytes) -> None:
    """A lawful value, then damaged: cut, longer, or with a bit turned it is refused or read as some value."""
    draw = Draw(data)
    which = draw.byte() % len(VALUES)
    encode, decode = VALUES[which]
    value: Any = (drawn_meta, drawn_producer, drawn_applied, drawn_proposals, drawn_membership)[which](draw)
    stored = encode(value)
    assert decode(stored) == value
    end, bit = draw.integer(len(stored) - 1), draw.integer(len(stored) * 8 - 1)
    assert value_or_corrupt(decode, stored[:end]) is None, "the value is cut short"
    value_or_corrupt(decode, turned(stored, bit))
    assert value_or_corrupt(decode, stored + b"\0" + draw.rest()) is None, "bytes follow the value"


def turned(stored: bytes, bit: int) -> bytes:
    damaged = bytearray(stored)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def check_sealed(data: bytes) -> None:
    """Entries and hard states: whatever their bytes, one that is read is one whose checksum was made for it."""
    draw = Draw(data)
    group, index = draw.integer(2**32 - 1), draw.integer()
    check_entry(draw, group, index)
    check_hard_state(draw, group)
    rest = draw.rest()
    value_or_corrupt(lambda value: codecs.decode_entry(group, index, value), rest)
    value_or_corrupt(lambda value: codecs.decode_hard_state(group, value), rest)
    sealed = struct.pack(">BQI", codecs.FORMAT, len(rest), crc32(rest)) + rest
    state = value_or_corrupt(lambda value: codecs.decode_hard_state(group, value), sealed)
    assert state is None or isinstance(state, HardState)


def check_entry(draw: Draw, group: int, index: int) -> None:
    bare = Entry(
        Term(draw.integer()),
        Index(index),
        draw.pick(tuple(EntryKind)),
        draw.integer(2**16 - 1),
        draw.integer(),
        draw.integer(),
        draw.chunk(),
    )
    entry = replace(bare, crc=entry_crc(group, bare))
    stored = codecs.encode_entry(entry)
    assert codecs.decode_entry(group, index, stored) == entry
    bit, end = draw.integer(len(stored) * 8 - 1), draw.integer(len(stored) - 1)
    for damaged in (turned(stored, bit), stored[:end], stored + b"\0"):
        assert value_or_corrupt(lambda value: codecs.decode_entry(group, index, value), damaged) is None, damaged
    assert value_or_corrupt(lambda value: codecs.decode_entry(group ^ 1, index, value), stored) is None
    assert value_or_corrupt(lambda value: codecs.decode_entry(group, index ^ 1, value), stored) is None


def check_hard_state(draw: Draw, group: int) -> None:
    state = HardState(Term(draw.integer()), draw.maybe(lambda: NodeId(draw.text())))
    stored = codecs.encode_hard_state(state)
    assert codecs.decode_hard_state(group, stored) == state
    bit, end = draw.integer(len(stored) * 8 - 1), draw.integer(len(stored) - 1)
    for damaged in (turned(stored, bit), stored[:end], stored + b"\0"):
        assert value_or_corrupt(lambda value: codecs.decode_hard_state(group, value), damaged) is None


def check_keys(data: bytes) -> None:
    """Numbers come back out of keys; keys sort as what they are made of; other bytes are refused."""
    draw = Draw(data)
    for parse in (
        keys.entry_index,
        keys.record_end,
        keys.stream_id,
        keys.due_parts,
        keys.listing_parts,
        keys.path_text,
    ):
        value_or_corrupt(parse, data)
    one, two = drawn_place(draw), drawn_place(draw)
    slot, epoch, number, end = one
    group = GroupId(draw.integer(2**32 - 1))
    wall, at_ms = draw.flag(), draw.integer()
    assert keys.entry_index(keys.entry(group, end)) == end
    assert keys.record_end(keys.record(*one)) == end
    assert keys.stream_id(keys.stream_id_value(number)) == number
    assert keys.due_parts(keys.due(wall, at_ms, slot, epoch, number)) == (at_ms, slot, number)
    assert (keys.record(*one) < keys.record(*two)) == (one < two)
    low, high = keys.stream_range(slot, epoch, number)
    name = draw.text().replace("\0", "")
    for key in (keys.meta(slot, epoch, number), keys.producer(slot, epoch, number, name), keys.record(*one)):
        assert low <= key < high
    assert keys.record(*one) < keys.records_end(slot, epoch, number)
    assert keys.producer(slot, epoch, number, name) < keys.record(slot, epoch, number, 0)
    other = keys.record(*two)
    assert (low <= other < high) == (one[:3] == two[:3])
    after, upto = draw.integer(2**63), draw.integer(2**63)
    between = keys.records(slot, epoch, number, after=after, upto=upto)
    assert (between[0] <= keys.record(*one) < between[1]) == (after < end <= upto)
    dead = reclaim.Range(low, high, draw.integer())
    assert reclaim.read_mark(reclaim.mark_key(dead), reclaim.mark_value(dead)) == dead
    value_or_corrupt(lambda value: reclaim.read_mark(b"\1" + value, value), data)
    first, last = keys.due_range(wall, at_ms)
    assert at_ms == keys.MAX_U64 or first <= keys.due(wall, at_ms, slot, epoch, number) < last
    assert keys.path_text(name.encode()) == name
    assert keys.slot_of(name) < keys.SLOTS
    assert keys.listing_parts(keys.listing(name, epoch)) == (name, epoch)
    longer = name + draw.text().replace("\0", "") + "x"
    assert keys.listing(name, epoch) < keys.listing(longer, two[1])


def drawn_place(draw: Draw) -> tuple[int, int, int, int]:
    """Slot, install epoch, stream and position."""
    return draw.integer(keys.SLOTS - 1), draw.integer(2**32 - 1), 1 + draw.integer(2**64 - 3), draw.integer()


def drawn_offset(draw: Draw) -> Offset:
    return Offset(draw.integer(), draw.integer())


def drawn_fork(draw: Draw) -> c.Fork:
    return c.Fork(draw.text(), draw.maybe(lambda: drawn_offset(draw)), draw.integer())


def drawn_meta(draw: Draw) -> StreamMeta:
    number = draw.integer
    requested = Requested(
        draw.maybe(draw.text), draw.maybe(number), draw.maybe(number), draw.maybe(lambda: drawn_fork(draw))
    )
    return StreamMeta(
        path=draw.text(),
        content_type=draw.text(),
        requested=requested,
        created_at=number(),
        touched_at=number(),
        tail=number(),
        eras=tuple(draw.several(lambda: Era(number(), number()))),
        fresh=draw.flag(),
        closed=draw.flag(),
        closer=draw.maybe(lambda: Closer(draw.text(), number(), number())),
        stream_seq=draw.maybe(draw.chunk),
        ttl_s=draw.maybe(number),
        expires_at_ms=draw.maybe(number),
        parent=draw.maybe(lambda: Parent(StreamRef(number(), number()), draw.text(), number(), number())),
        forks=number(),
        deleted=draw.flag(),
        producers=number(),
        expiry_due=draw.maybe(number),
        head=number(),
        above=number(),
        freed=number(),
        max_bytes=draw.maybe(number),
    )


def drawn_producer(draw: Draw) -> ProducerState:
    return ProducerState(draw.integer(), draw.integer(), tuple(draw.several(draw.integer, 64)))


def drawn_applied(draw: Draw) -> AppliedState:
    return AppliedState(
        draw.integer(), draw.integer(), draw.integer(), GroupState(draw.integer(), draw.integer(), draw.integer())
    )


def drawn_membership(draw: Draw) -> Membership:
    def member() -> Member:
        return Member(NodeId(draw.text()), draw.integer(), draw.text(), draw.flag(), draw.flag())

    return Membership(tuple(draw.several(member)), tuple(draw.several(draw.integer)))


def drawn_proposals(draw: Draw) -> list[Proposal]:
    return draw.several(lambda: Proposal(Origin(draw.integer(), draw.integer()), drawn_command(draw)))


def drawn_command(draw: Draw) -> c.Command:
    text, number, maybe = draw.text, draw.integer, draw.maybe
    match draw.byte() % 7:
        case 0:
            fork = maybe(lambda: drawn_fork(draw))
            lifetime, bounds = (maybe(number), maybe(number)), (maybe(number), maybe(number))
            return c.Create(text(), maybe(text), *lifetime, draw.flag(), draw.chunk(), fork, *bounds)
        case 1:
            producer = maybe(lambda: c.Producer(text(), number(), number()))
            at = maybe(lambda: drawn_offset(draw))
            return c.Append(text(), maybe(text), draw.chunk(), draw.flag(), maybe(draw.chunk), producer, at)
        case 2:
            return c.Delete(text())
        case 3:
            return c.Touch(text(), number())
        case 4:
            return c.Expire(text(), number(), number())
        case 5:
            return c.Trim(text(), number(), number())
        case _:
            return c.Rearm(text(), number())
