"""The whole key space. Numbers are big-endian, so keys sort as the numbers do; a longer key is always of another kind.

Family LOG (entries live until they are compacted):

====================================  =====================================================================
key                                   value
====================================  =====================================================================
``E`` group:u32 index:u64             Raft entry: header and commands (``codecs.encode_entry``)
``H`` group:u32                       hard state: term, vote (``codecs.encode_hard_state``)
``N``                                 incarnation:u64; whose store this is (``identity``)
``R``                                 what the file ``identity`` has to say, once the store was recovered alone
====================================  =====================================================================

Family DATA:

====================================  =====================================================================
``I`` group:u32                       install epochs (``codecs.Installs``)
``C`` group:u32                       membership (``codecs.encode_membership``), once it was changed
``G`` group:u32                       applied index and term, cluster time, counters (``codecs.AppliedState``)
``O`` group:u32 origin:u64            which commands of an origin were applied (``codecs.Session``)
``L`` path 00 epoch:u32               slot:u16 id:u64; the paths in order, for listing
``S`` slot:u16 epoch:u32 0:u64 path   id:u64; which stream is at a path
``S`` slot epoch id:u64 ``M``         stream meta (``codecs.encode_meta``)
``S`` slot epoch id ``P`` producer    producer state (``codecs.encode_producer``)
``S`` slot epoch id ``R`` end:u64     appends that came together, up to position ``end`` (``codecs.encode_record``)
``W`` due:u64 slot epoch id           path; when a stream with Expires-At ends (Unix ms)
``X`` due:u64 slot epoch id           path; when to look at a stream with a TTL (cluster ms)
====================================  =====================================================================

``epoch`` is the install epoch: a snapshot is written under the next one and becomes visible by a switch.
"""

import struct
from hashlib import blake2b
from struct import Struct
from typing import Any

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.streams.meta import StreamRef

SLOTS = 16384

REPLICA = b"N"
RECOVERED = b"R"

_ENTRY = Struct(">cIQ")
_GROUP = Struct(">cI")
_STREAM = Struct(">cHIQ")
_RECORD = Struct(">cHIQcQ")
_DUE = Struct(">cQHIQ")
_PATH_VALUE = Struct(">HQ")
_U64 = Struct(">Q")
_U32 = Struct(">I")

MAX_U64 = 2**64 - 1


def _unpack(layout: Struct, data: bytes, what: str) -> tuple[Any, ...]:
    """The fields of a key or value that was found; raises ``CorruptData`` when it is none."""
    try:
        return layout.unpack(data)
    except struct.error:
        raise CorruptData(f"{what} has {len(data)} bytes, not {layout.size}: {data[:64].hex()}") from None


def path_text(value: bytes) -> str:
    """A path, as it was found in a key or a value; raises ``CorruptData``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CorruptData(f"a stored path is not UTF-8: {value[:64].hex()}") from None


def slot_of(path: str) -> int:
    """Where ``path`` lives, for ever: blake2b (8-byte digest, big-endian) modulo 16384."""
    return int.from_bytes(blake2b(path.encode(), digest_size=8).digest(), "big") % SLOTS


def entry(group: int, index: int) -> bytes:
    """Key of a Raft entry."""
    return _ENTRY.pack(b"E", group, index)


def entry_index(key: bytes) -> int:
    """The index in an entry's key; raises ``CorruptData``."""
    return int(_unpack(_ENTRY, key, "the key of a log entry")[2])


def hard_state(group: int) -> bytes:
    """Key of a group's term and vote."""
    return _GROUP.pack(b"H", group)


def group_state(group: int) -> bytes:
    """Key of a group's applied state."""
    return _GROUP.pack(b"G", group)


def membership(group: int) -> bytes:
    """Key of who belongs to a group."""
    return _GROUP.pack(b"C", group)


def installs(group: int) -> bytes:
    """Key of a group's install epochs."""
    return _GROUP.pack(b"I", group)


def group_of(key: bytes) -> int:
    """The group in a key that is a group's own; raises ``CorruptData``."""
    return int(_unpack(_GROUP, key[:5], "the key of a group")[1])


def epoch_of(key: bytes) -> int | None:
    """The install epoch in a key of family DATA; None of one that has none."""
    place = _epoch_place(key)
    return int.from_bytes(key[place : place + 4], "big") if place is not None else None


def with_epoch(key: bytes, epoch: int) -> bytes:
    """The same key under another install epoch."""
    place = _epoch_place(key)
    return key if place is None else key[:place] + _U32.pack(epoch) + key[place + 4 :]


def _epoch_place(key: bytes) -> int | None:
    match key[:1]:
        case b"S":
            return 3
        case b"W" | b"X":
            return 11
        case b"L":
            return len(key) - 4
        case _:
            return None


def session(group: int, origin: int) -> bytes:
    """Key of what is known of an origin's commands."""
    return _ENTRY.pack(b"O", group, origin)


def sessions(group: int) -> tuple[bytes, bytes]:
    """The range of the keys of all origins of a group."""
    return session(group, 0), session(group, MAX_U64) + b"\0"


def session_origin(key: bytes) -> int:
    """The origin in a key; raises ``CorruptData``."""
    return int(_unpack(_ENTRY, key, "the key of a session")[2])


def path(slot: int, epoch: int, text: str) -> bytes:
    """Key that finds a stream by its path."""
    return _STREAM.pack(b"S", slot, epoch, 0) + text.encode()


def stream_id(value: bytes) -> int:
    """The stream number a path is bound to; raises ``CorruptData``."""
    return int(_unpack(_U64, value, "the number of a stream")[0])


def stream_id_value(number: int) -> bytes:
    """See :func:`stream_id`."""
    return _U64.pack(number)


def meta(slot: int, epoch: int, number: int) -> bytes:
    """Key of a stream's meta."""
    return _STREAM.pack(b"S", slot, epoch, number) + b"M"


def meta_ref(key: bytes) -> StreamRef | None:
    """Whose meta is at ``key``; None when it is no meta's."""
    if len(key) != _STREAM.size + 1 or key[:1] != b"S" or key[-1:] != b"M":
        return None
    _, slot, _, number = _STREAM.unpack(key[:-1])
    return StreamRef(slot, number) if number else None


def slot_end(key: bytes) -> bytes:
    """Just behind all keys with the slot and the install epoch of ``key``, which is a stream's."""
    _, slot, epoch, _ = _STREAM.unpack(key[: _STREAM.size])
    return _STREAM.pack(b"S", slot, epoch, MAX_U64) + b"\xff"


def producer(slot: int, epoch: int, number: int, producer_id: str) -> bytes:
    """Key of what a stream remembers of a producer."""
    return _STREAM.pack(b"S", slot, epoch, number) + b"P" + producer_id.encode()


def record(slot: int, epoch: int, number: int, end: int) -> bytes:
    """Key of the append that ends at position ``end``."""
    return _RECORD.pack(b"S", slot, epoch, number, b"R", end)


def record_end(key: bytes) -> int:
    """The end position in a record's key; raises ``CorruptData``."""
    return int(_unpack(_RECORD, key, "the key of an append")[5])


def records(slot: int, epoch: int, number: int, *, after: int, upto: int) -> tuple[bytes, bytes]:
    """The records of a stream that end beyond ``after`` and at ``upto`` (bytes) at most: start, and just behind."""
    return record(slot, epoch, number, after + 1), record(slot, epoch, number, upto + 1)


def records_end(slot: int, epoch: int, number: int) -> bytes:
    """Just after the last possible record of a stream."""
    return _STREAM.pack(b"S", slot, epoch, number) + b"S"


def stream_range(slot: int, epoch: int, number: int) -> tuple[bytes, bytes]:
    """Every key of a stream (but its path and index entries): start, and just after."""
    return _STREAM.pack(b"S", slot, epoch, number), _STREAM.pack(b"S", slot, epoch, number + 1)


def listing(text: str, epoch: int) -> bytes:
    """Key in the ordered list of paths. A path holds no NUL, so a path sorts before the paths it is a prefix of."""
    return b"L" + text.encode() + b"\0" + _U32.pack(epoch)


def listing_parts(key: bytes) -> tuple[str, int]:
    """``(path, epoch)`` of a key in the ordered list; raises ``CorruptData``."""
    return path_text(key[1:-5]), int(_unpack(_U32, key[-4:], "a key in the list of paths")[0])


def listing_range(prefix: str, after: str) -> tuple[bytes, bytes]:
    """The keys of the ordered list whose path begins with ``prefix`` and comes behind ``after``."""
    start = b"L" + prefix.encode()
    # No byte of UTF-8 is above F4. ``after`` ends with \1: its own key goes on with \0, longer paths with more.
    behind = b"L" + after.encode() + b"\1"
    return (max(start, behind) if after else start), start + b"\xff"


def listing_value(slot: int, number: int) -> bytes:
    """Value in the ordered list of paths."""
    return _PATH_VALUE.pack(slot, number)


def due(wall: bool, at_ms: int, slot: int, epoch: int, number: int) -> bytes:
    """Key in an expiry index."""
    return _DUE.pack(b"W" if wall else b"X", at_ms, slot, epoch, number)


def due_range(wall: bool, until_ms: int) -> tuple[bytes, bytes]:
    """The entries of an expiry index that are due at ``until_ms``: start, and just after."""
    kind = b"W" if wall else b"X"
    return kind, kind + _U64.pack(min(until_ms + 1, MAX_U64))


def due_parts(key: bytes) -> tuple[int, int, int]:
    """``(due_ms, slot, stream number)`` of an expiry entry; raises ``CorruptData``."""
    _, at_ms, slot, _, number = _unpack(_DUE, key, "the key of an expiry entry")
    return int(at_ms), int(slot), int(number)
