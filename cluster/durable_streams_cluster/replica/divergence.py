"""Whether replicas stay equal: each hashes what commands did, and the leader's hashes are compared with one's own.

The log makes sure that all apply the same commands. That the same commands do the same everywhere is up to code that
reads no clock, no configuration and no set's order; a slip there, or a bit that flips in memory, would show different
streams at different nodes for ever. So what was answered and written is hashed, for each window of log entries.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from zlib import crc32

import msgspec

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import Index
from durable_streams_cluster.streams.outcomes import Outcome
from durable_streams_cluster.streams.view import Write

WINDOW = 64
"""Entries hashed together."""
ENCODING = 2
"""Of what is hashed: one more with each change of what commands write. 2: appends that came together are one write."""
KEPT = 64
"""Hashes that are kept here to be compared: a leader and a follower are seldom that far apart."""

Did = tuple[Sequence[Outcome], Iterable[Write]]
"""What was answered to commands that were applied together, and what they wrote."""

_encode = msgspec.msgpack.Encoder().encode


class Hashed(msgspec.Struct, frozen=True, array_like=True):
    """What the commands of one window did."""

    upto: Index
    """The window's last entry."""
    crc: int
    """CRC-32 over the outcomes and writes, encoded as by the build that hashed."""


class Hashes:
    """Of the entries that are applied since the start; a window that was begun by an earlier life does not count."""

    def __init__(self) -> None:
        self.alone = False
        """There is nobody to compare with, and nothing is hashed."""
        self._crc: int | None = None
        self._mine: deque[Hashed] = deque(maxlen=KEPT)
        self._theirs: deque[tuple[str, Hashed]] = deque(maxlen=KEPT)

    def applied(self, did: list[Did]) -> None:
        """The commands of the entry that is being applied did this."""
        if self._crc is not None:
            self._crc = crc32(_encode(did), self._crc)

    def end_of(self, index: Index) -> Hashed | None:
        """The entry is applied; gives a hash when it is the last of a window.

        Raises:
            CorruptData: the leader hashed something else.

        """
        if index % WINDOW:
            return None
        crc, self._crc = self._crc, None if self.alone else 0
        if crc is None:
            return None
        made = Hashed(index, crc)
        self._mine.append(made)
        for sender, theirs in self._theirs:
            _compare(made, theirs, sender)
        return made

    def heard(self, sender: str, theirs: Hashed) -> None:
        """The leader's hash; raises ``CorruptData`` when it is another one."""
        self._theirs.append((sender, theirs))
        for mine in self._mine:
            _compare(mine, theirs, sender)


def _compare(mine: Hashed, theirs: Hashed, sender: str) -> None:
    if mine.upto == theirs.upto and mine.crc != theirs.crc:
        raise CorruptData(
            f"the log entries {mine.upto - WINDOW + 1} to {mine.upto} did something else here than at {sender}: this "
            "node shows other streams than the leader. Keep a copy of its data directory for a report"
        )
