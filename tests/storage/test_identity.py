"""Who a directory is: drawn once, kept for life, and never taken for another."""

import json
import zlib
from pathlib import Path

import pytest

from durable_streams_cluster.errors import ConfigError, CorruptData, StorageError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member, Membership
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity

N1, N2 = NodeId("n1"), NodeId("n2")
RECORD = (Member(N1, 7, "host:1"), Member(N2, 2**63 - 1, "[::1]:2", voter=False, rises=True))


def never(bits: int) -> int:
    raise AssertionError(f"{bits} bits are drawn for a directory that has its number")


@pytest.mark.parametrize(
    "identity",
    [
        StoredIdentity(N1, 7),
        StoredIdentity(N1, 7, "c-1", RECORD),
        StoredIdentity(N1, 7, "c-1", RECORD, begun=True),
        StoredIdentity(N1, 7, "c-1", begun=True),
    ],
)
def test_what_is_written_is_read_again(tmp_path: Path, identity: StoredIdentity) -> None:
    IdentityFile(tmp_path).write(identity)
    assert IdentityFile(tmp_path).read() == identity
    assert IdentityFile(tmp_path).open(N1, never) == identity


def test_first_members_know_who_belongs_and_others_learn_it_from_the_log() -> None:
    assert StoredIdentity(N1, 7, "c-1", RECORD, begun=True).first_membership == Membership(RECORD)
    assert StoredIdentity(N1, 7, "c-1", begun=True).first_membership == Membership()


def test_a_new_directory_draws_its_number_once(tmp_path: Path) -> None:
    drawn: list[int] = []

    def draw(bits: int) -> int:
        drawn.append(bits)
        return 5

    file = IdentityFile(tmp_path)
    assert file.read() is None
    assert file.open(N1, draw) == StoredIdentity(N1, 5)
    assert file.open(N1, draw) == file.read() == StoredIdentity(N1, 5)
    assert drawn == [63]


def test_zero_is_no_number(tmp_path: Path) -> None:
    assert IdentityFile(tmp_path).open(N1, lambda _: 0).incarnation == 1


def test_a_directory_is_of_one_name_for_life(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path)
    file.write(StoredIdentity(N1, 7))
    with pytest.raises(ConfigError, match=r"is of node n1, and this node is n2 \(--node\)"):
        file.open(N2, never)
    assert file.read() == StoredIdentity(N1, 7)


DAMAGED = {
    "empty": b"",
    "cut": b'{"node":"n1","incarnation":7',
    "another thing": b"[1]",
    "no number": b'{"node":"n1"}',
    "text for a number": b'{"node":"n1","incarnation":"7"}',
    "zero": b'{"node":"n1","incarnation":0}',
    "negative": b'{"node":"n1","incarnation":-7}',
    "too large": b'{"node":"n1","incarnation":9223372036854775808}',
    "much too large": b'{"node":"n1","incarnation":%s}' % (b"9" * 5000),
    "zero on record": b'{"node":"n1","incarnation":7,"cluster":"c","record":[["n1",0,"host:1",true,false]]}',
    "no member": b'{"node":"n1","incarnation":7,"cluster":"c","record":[{}]}',
    "no UTF-8": b'{"node":"\xff","incarnation":7}',
    "deep": b'{"node":"n1","incarnation":7,"more":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "identity"
    place.write_bytes(content)
    with pytest.raises(CorruptData, match=r"identity is damaged: .*Next step: restore it"):
        IdentityFile(tmp_path).open(N1, never)
    assert place.read_bytes() == content


def sealed(text: str) -> bytes:
    return f"{text}\n{zlib.crc32(text.encode()):08x}\n".encode()


def test_any_bit_that_flips_and_any_end_that_is_cut_is_seen(tmp_path: Path) -> None:
    file, place = IdentityFile(tmp_path), tmp_path / "identity"
    file.write(StoredIdentity(N1, 7, "c-1", RECORD, begun=True, others=((N2, "host:2"),)))
    content = place.read_bytes()
    for bit in range(8 * len(content)):
        place.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])
        with pytest.raises(StorageError, match="Next step"):
            file.read()
    for end in range(len(content)):
        place.write_bytes(content[:end])
        with pytest.raises(StorageError, match="Next step"):
            file.read()


def test_one_without_a_checksum_is_no_node_that_is_alone(tmp_path: Path) -> None:
    """Of three that were begun by name only: alone, each would be a cluster of its own."""
    place = tmp_path / "identity"
    place.write_text(json.dumps({"cluster": "c-1", "node": "n1", "incarnation": 7, "members": ["n1", "n2", "n3"]}))
    with pytest.raises(StorageError, match=r"is of an unreleased build.*Next step"):
        IdentityFile(tmp_path).open(N1, never)


def test_what_later_builds_add_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "identity").write_bytes(sealed(json.dumps({"node": "n1", "incarnation": 7, "more": [1]})))
    assert IdentityFile(tmp_path).read() == StoredIdentity(N1, 7)


def test_it_says_that_it_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    with pytest.raises(StorageError, match="identity cannot be read"):
        IdentityFile(tmp_path).read()
    with pytest.raises(StorageError, match="identity cannot be written"):
        IdentityFile(tmp_path / "none").write(StoredIdentity(N1, 7))


def test_a_write_that_was_cut_short_leaves_what_was_there(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path)
    file.write(StoredIdentity(N1, 7))
    (tmp_path / "identity.tmp").write_text('{"node":"n1","inc')
    assert file.read() == StoredIdentity(N1, 7)
    file.write(StoredIdentity(N1, 7, "c-1", RECORD))
    assert file.read() == StoredIdentity(N1, 7, "c-1", RECORD)
