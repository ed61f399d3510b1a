"""A group's whole state as of one moment, pair by pair: what a snapshot sends, and how it is stored elsewhere."""

from struct import Struct
from zlib import crc32

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.kv import Family, KvView

Pair = tuple[bytes, bytes]
"""Key and value, in family DATA."""

_SIZES = Struct(">II")


class Export:
    """The state as of now, in slices. It keeps what is deleted meanwhile on disk: drop it when done."""

    def __init__(self, kv: KvView, group: GroupId, epoch: int) -> None:
        """``epoch``: under which the state is stored here."""
        self._group = group
        self._epoch = epoch
        self._pairs = kv.scan(Family.DATA, b"", b"\xff")
        self._ahead = next(self._pairs, None)

    @property
    def done(self) -> bool:
        """Whether everything was given out."""
        return self._ahead is None

    def slice(self, max_bytes: int, max_pairs: int) -> tuple[Pair, ...]:
        """The next pairs: up to so many are looked at, and up to so many bytes given out, or one pair that is larger.

        None, if all that were looked at are of another epoch, which a sweep is about to remove.
        """
        taken: list[Pair] = []
        size = 0
        for _ in range(max_pairs):
            if self._ahead is None:
                break
            if _belongs(self._ahead[0], self._group, self._epoch):
                size += len(self._ahead[0]) + len(self._ahead[1])
                if taken and size > max_bytes:
                    break
                taken.append(self._ahead)
            self._ahead = next(self._pairs, None)
        return tuple(taken)


def _belongs(key: bytes, group: GroupId, epoch: int) -> bool:
    if is_of_group(key):
        return keys.group_of(key) == group and key[:1] != b"I"
    return keys.epoch_of(key) == epoch


def is_of_group(key: bytes) -> bool:
    """Whether a key is the group's own (applied state, sessions, install epochs): it has no install epoch."""
    return keys.epoch_of(key) is None


def pairs_crc(pairs: tuple[Pair, ...]) -> int:
    """CRC-32 over the lengths and bytes of all."""
    crc = 0
    for key, value in pairs:
        crc = crc32(value, crc32(key, crc32(_SIZES.pack(len(key), len(value)), crc)))
    return crc
