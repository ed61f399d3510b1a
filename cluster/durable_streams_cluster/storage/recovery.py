"""What tells, at open, whether everything that was synced is there: turn numbers in the store, and one beside it.

RocksDB alone does not tell. It reports no missing WAL file, and in the mode that refuses damage in the middle it also
refuses a lawful zero page in the tail that was never synced.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.storage.data_dir import write_file

TURNS_KEPT: Final = 64
"""Each write puts the key of its own turn and deletes the key this many turns older."""

_MAGIC: Final = b"dturn\x00\x00\x01"
_RECORD: Final = struct.Struct(">8sQI")
_SLOT: Final = 4096
"""The two records are in different pages, so that a torn write damages one of them."""

_BLOCK: Final = 32 * 1024
_HEADER: Final = 7
_ENDLESS: Final = frozenset({5, 6, 7, 8, 11, 131})
"""Types of records in recycled files, which ours are not."""
_FIRST: Final = 2
_MIDDLE: Final = 3
_GO_ON: Final = frozenset({3, 4})
"""Types of the parts of a record that goes over several blocks; the others are whole records."""

NEXT_STEP: Final = (
    "Nothing was changed. Next step: keep this directory as it is, and put back a copy of it from before the damage; "
    "without one, an empty --data-dir starts a new node, without its streams."
)


FIRST_TURNS: Final = range(1 - TURNS_KEPT, 1)
"""The turns that a new store is given keys of, so that the first real one has a key to delete like any other."""


def turn_key(turn: int) -> bytes:
    """The key that says turn ``turn`` was written."""
    return (turn + TURNS_KEPT).to_bytes(8, "big")


def check_turns(keys: Sequence[bytes], where: Path) -> int:
    """The newest turn in the store, given the turn keys found there, in order.

    A store that lost nothing holds exactly the keys of its newest ``TURNS_KEPT`` turns. One that lost turns i to j
    still holds the key i-64, because its deletion was lost with turn i: a gap of any length shows, for ever. A ring of
    64 places holding the newest turn in each would show nothing once 64 more turns were written after the gap, for
    every place would have been written anew. A single counter shows nothing at all.

    Raises:
        CorruptData: turns are missing between turns that are there.

    """
    found = [int.from_bytes(key, "big") - TURNS_KEPT for key in keys]
    newest = found[-1] if found else 0
    if found == list(range(newest - TURNS_KEPT + 1, newest + 1)):
        return newest
    present = set(found)
    lost = next((turn for turn in range(newest - 1, -TURNS_KEPT, -1) if turn not in present), newest)
    raise CorruptData(
        f"{where} lost writes in the middle (turn {lost} and maybe more, while {newest} is there): a write-ahead log "
        f"file (*.log) is missing or was cut. {NEXT_STEP}"
    )


def find_endless(path: Path) -> int | None:
    """Where in a WAL or MANIFEST RocksDB would stop for ever, in bytes from the start, or None.

    Its reader takes a record type that only recycled files have for a bad record without stepping over it, and reads
    it again, in every recovery mode, holding the interpreter lock (RocksDB 10.4.2; facebook/rocksdb#13333). One
    flipped bit makes such a type of an ordinary one, and so can a disk that was full. So the headers are walked here
    as that reader would; it skips what fails its checksum, and therefore sees some of these headers, but no others.

    Raises:
        OSError: as the system says.

    """
    with path.open("rb") as file:
        start = 0
        while block := file.read(_BLOCK):
            at, last = 0, len(block) - _HEADER
            while at <= last:
                kind = block[at + 6]
                length = block[at + 4] | block[at + 5] << 8
                if kind in _ENDLESS:
                    return start + at
                if kind == length == 0:
                    break
                at += _HEADER + length
            start += len(block)
    return None


def find_damage(path: Path) -> int | None:
    """Where in a MANIFEST RocksDB would find damage, in bytes from the start, or None; a torn end is none.

    Slow, 0.1 µs a byte, so only for a file that was refused.

    Raises:
        OSError: as the system says.

    """
    with path.open("rb") as file:
        start = 0
        begun: int | None = None
        """Where the record began that goes on in this block."""
        while block := file.read(_BLOCK):
            at, last = 0, len(block) - _HEADER
            while at <= last:
                kind = block[at + 6]
                length = block[at + 4] | block[at + 5] << 8
                if kind == length == 0 and begun is None:
                    break
                end = at + _HEADER + length
                goes_on = kind in _GO_ON
                if goes_on == (begun is None) or end > len(block) or not _is_sound(block[at:end]):
                    return start + at if begun is None else begun
                if kind == _FIRST:
                    begun = start + at
                elif kind != _MIDDLE:
                    begun = None
                at = end
            start += len(block)
    return None


def _is_sound(record: bytes) -> bool:
    """Whether the checksum of a whole record is right: CRC-32C of type and content, masked as LevelDB does."""
    crc = 0xFFFFFFFF
    for byte in record[6:]:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return masked == int.from_bytes(record[:4], "little")


def _crc32c_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC32C: Final = tuple(map(_crc32c_of, range(256)))


class DurableTurn:
    """The file ``durable-turn``: a turn known to be synced, hence one that must be there at the next open."""

    def __init__(self, path: Path, handle: int, turn: int, slot: int) -> None:
        self._path = path
        self._handle: int | None = handle
        self._slot = slot
        self.turn = turn
        """The newest turn on record."""

    @classmethod
    def open(cls, path: Path, database: Path) -> Self:
        """Open the file, made with turn 0 when neither it nor ``database``, which is made after it, is there.

        Raises:
            CorruptData: it is missing beside a database, or no record in it is sound.
            OSError: as the system says.

        """
        if not path.exists():
            if database.exists():
                raise CorruptData(f"{path} is missing although {database} is there. {NEXT_STEP}")
            first = _pack(0)
            write_file(path, first.ljust(_SLOT, b"\0") + first.ljust(_SLOT, b"\0"))
        content = path.read_bytes()
        found = [(turn, slot) for slot in (0, 1) if (turn := _unpack(content, slot * _SLOT)) is not None]
        if not found:
            raise CorruptData(f"{path} is damaged: none of its two records is sound. {NEXT_STEP}")
        turn, slot = max(found)
        return cls(path, os.open(path, os.O_RDWR | os.O_CLOEXEC), turn, slot)

    def record(self, turn: int) -> None:
        """Put ``turn`` on record and on disk; blocks.

        Raises:
            OSError: as the system says; fatal, for what is on disk is unknown.

        """
        assert self._handle is not None, "closed"
        # The older record is overwritten; the newer one stays whole whatever happens to this write.
        slot = 1 - self._slot
        record = _pack(turn)
        if os.pwrite(self._handle, record, slot * _SLOT) != len(record):
            raise OSError(f"{self._path}: short write")
        os.fdatasync(self._handle)
        self._slot = slot
        self.turn = turn

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _pack(turn: int) -> bytes:
    return _RECORD.pack(_MAGIC, turn, zlib.crc32(_MAGIC + turn.to_bytes(8, "big")))


def _unpack(content: bytes, at: int) -> int | None:
    record = content[at : at + _RECORD.size]
    if len(record) != _RECORD.size:
        return None
    turn: int = _RECORD.unpack(record)[1]
    return turn if record == _pack(turn) else None
