"""Whether a follower takes what the leader sends it: not what its disk has no room for.

A store that meets a full disk ends its node (``storage.rocks_room``). A follower that takes no entries is only behind:
it answers heartbeats, shows what it has, and goes on when there is room again.
"""

from collections.abc import Callable

from durable_streams_cluster.ids import Term
from durable_streams_cluster.raft import AppendEntries, Room
from durable_streams_cluster.replica.exchange import SnapshotChunk


class Intake:
    """Of one group."""

    def __init__(self) -> None:
        self.room: Callable[[int], Room] = lambda _: Room.PLENTY
        """What room there is on the disk for so many bytes more."""
        self._coming = 0
        """Bytes that came in this turn."""
        self._refused = (Term(0), 0)
        """Bytes of the message that found no room last, and the term in which it came."""

    def begin(self, term: Term) -> Room:
        """A turn begins. There is none as long as what was refused finds none: it would be sent again, and in vain."""
        self._coming = 0
        refused_in, size = self._refused
        return self.room(size if refused_in == term else 0)

    def entries(self, message: AppendEntries) -> Room:
        """The room there is with these entries."""
        size = sum(len(each.data) for each in message.entries)
        room = self._with(size)
        self._refused = (message.term, size if room is Room.NONE else 0)
        return room

    def takes(self, chunk: SnapshotChunk) -> bool:
        """Whether there is room for a piece of a snapshot."""
        return self._with(sum(len(key) + len(value) for key, value in chunk.pairs)) is not Room.NONE

    def _with(self, size: int) -> Room:
        self._coming += size
        return self.room(self._coming)
