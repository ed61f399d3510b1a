"""The small files of a data directory, and the walk over the records of a write-ahead log."""

import atexit
import io
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, cast
from zlib import crc32

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.storage import recovery
from durable_streams_cluster.storage.data_dir import FORMAT_VERSION, DataDir
from durable_streams_cluster.storage.identity import IdentityFile
from durable_streams_cluster.storage.recovery import TURNS_KEPT, DurableTurn, check_turns, find_endless, turn_key
from tests.fuzz.draw import Draw
from tests.fuzz.refusals import told

SLOT = 4096
BLOCK = 32 * 1024


@cache
def folder() -> Path:
    """One directory for all inputs of this process; removed at its end."""
    made = tempfile.mkdtemp(prefix="fuzz-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def put(name: str, content: bytes) -> Path:
    """A file of that content; a new one, for some file systems sync what is cut to nothing and written again."""
    path = folder() / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


class InMemory:
    """As much of a ``Path`` as is opened for reading."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def open(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self.content)


def check_wal(data: bytes) -> None:
    """What is found is the type byte of a header of a kind that ours never are, and no header before it is."""
    content = log_file(Draw(data))
    for each in (content, data):
        found = find_endless(cast("Any", InMemory(each)))
        headers = list(walk(each))
        endless = [at for at, kind in headers if kind in {5, 6, 7, 8, 11, 131}]
        assert found == (endless[0] if endless else None)


def log_file(draw: Draw) -> bytes:
    """Records of drawn types and lengths, over as many blocks as they fill."""
    made = bytearray()
    while draw.at < len(draw.data) and len(made) < 4 * BLOCK:
        checksum, length, kind = draw.take(4), draw.integer(BLOCK), draw.byte()
        made += checksum.ljust(4, b"\0") + length.to_bytes(2, "little") + bytes([kind % 16 if kind < 250 else 131])
        made += draw.chunk().ljust(min(length, BLOCK), b"\0")[:length]
        if draw.flag():
            made += bytes(draw.integer(BLOCK))
    return bytes(made)


def walk(content: bytes) -> Any:
    """Every header that a reader comes by: its place and type. Zeros end a block; 6 bytes at its end hold none."""
    for start in range(0, len(content), BLOCK):
        rest = content[start : start + BLOCK]
        at = start
        while len(rest) >= 7:
            length, kind = int.from_bytes(rest[4:6], "little"), rest[6]
            yield at, kind
            if (length, kind) == (0, 0):
                break
            rest = rest[7 + length :]
            at += 7 + length


def check_durable_turn(data: bytes) -> None:
    """The newest of the records that are whole; with none, the file is refused. One bit turned loses one record."""
    draw = Draw(data)
    one, two, bit = draw.integer(), draw.integer(), draw.integer(2 * 20 * 8 - 1)
    records = [recovery._pack(one), recovery._pack(two)]
    assert opened(b"".join(record.ljust(SLOT, b"\0") for record in records)) == max(one, two)
    damaged = bytearray(b"".join(records))
    damaged[bit // 8] ^= 1 << bit % 8
    assert opened(bytes(damaged[:20]).ljust(SLOT, b"\0") + damaged[20:]) == (two if bit < 160 else one)
    noise = draw.rest()
    turn = opened(noise)
    assert turn is None or recovery._pack(turn) in (noise[:20], noise[SLOT : SLOT + 20])


def opened(content: bytes) -> int | None:
    path = put("durable-turn", content)
    try:
        record = DurableTurn.open(path, folder() / "db")
    except CorruptData as error:
        told(error, "Next step")
        return None
    record.close()
    return record.turn


def check_turn_keys(data: bytes) -> None:
    """Only the newest turns, all of them and no other, pass."""
    draw = Draw(data)
    if draw.flag():
        newest = draw.integer(2**63)
        turns = list(range(newest - TURNS_KEPT + 1, newest + 1))
        for _ in range(draw.byte() % 3):
            turns[draw.byte() % len(turns)] += draw.byte() % 3
        found = [turn_key(turn) for turn in sorted(turns)]
    else:
        rest = draw.rest()
        found = [rest[at : at + 8] for at in range(0, len(rest), 8)]
    numbers = [int.from_bytes(key, "big") - TURNS_KEPT for key in found]
    lawful = bool(numbers) and numbers == list(range(numbers[-1] - TURNS_KEPT + 1, numbers[-1] + 1))
    try:
        turn = check_turns(found, Path("db"))
    except CorruptData as error:
        told(error, "Next step")
        assert not lawful
    else:
        assert lawful
        assert turn == numbers[-1]


def check_format(data: bytes) -> None:
    """The file ``format`` of a directory with data: this version's, or refused with the next step, and left alone."""
    path = folder() / "data"
    (path / "db").mkdir(parents=True, exist_ok=True)
    put("data/format", data)
    try:
        DataDir.open(path).close()
    except StorageError as error:
        told(error, "Next step", most=2_000)
    else:
        assert b"format" in data.replace(b"\0", b"") or b"\\u" in data
        assert str(FORMAT_VERSION).encode() in data
    assert (path / "format").read_bytes() == data


def check_identity(data: bytes) -> None:
    """The file ``identity``: who a directory is, read again as it was written; or refused, and left alone."""
    text, _, rest = data.partition(b"\n")
    data = text + b"\n%08x\n" % crc32(text) if rest else data  # No input would ever find the checksum.
    place = put("identity", data)
    file = IdentityFile(place.parent)
    try:
        found = file.read()
    except StorageError as error:
        told(error, "Next step", most=2_000)
        assert place.read_bytes() == data
        return
    assert found is not None
    assert all(0 < each < 2**63 for each in (found.incarnation, *(member.incarnation for member in found.record)))
    file.write(found)
    assert file.read() == found
