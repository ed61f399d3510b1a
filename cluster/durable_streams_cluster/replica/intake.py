"""Whether a follower takes what the leader sends it: not what its disk has no room for.

A store that meets a full disk ends its node (``storage.rocks_room``). A follower that takes no entries is only behind:
it answers heartbeats, shows what it has, and goes on when there is room again. What consensus needs it takes
nevertheless (``raft.follower``), and what is so little that its memtables can be written out after it.
"""

from collections.abc import Callable

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.raft import SCANT_BYTES, AppendEntries, RaftCore, Room
from durable_streams_cluster.replica.exchange import SnapshotChunk


class Intake:
    """Of one group."""

    def __init__(self) -> None:
        self.room: Callable[[int], Room] = lambda _: Room.PLENTY
        """What room there is on the disk for so many bytes more."""
        self.spares: Callable[[int], bool] = lambda _: True
        """Whether a full disk takes so many bytes nevertheless."""
        self._coming = 0
        """Bytes that were taken in this turn."""
        self._refused = (Term(0), 0)
        """Bytes of the largest message that found no room, and the term in which it came."""

    def begin(self, term: Term) -> Room:
        """A turn begins. There is none as long as what was refused finds none: it would be sent again, and in vain."""
        self._coming = 0
        return self.room(self._missed(term))

    def entries(self, core: RaftCore, sender: NodeId, message: AppendEntries) -> None:
        """Entries come: the core learns what room there is with them, and sees to them."""
        if message.term >= core.term:
            core.know_room(self._weigh(message))
        core.step(sender, message)
        core.know_room(self.room(max(self._coming, self._missed(message.term))))

    def _weigh(self, message: AppendEntries) -> Room:
        size, missed = sum(len(each.data) for each in message.entries), self._missed(message.term)
        # Small ones behind a large one that was refused lack it.
        room = self.room(self._coming + max(size, missed))
        if room is Room.NONE and not (size <= SCANT_BYTES and self.spares(self._coming + size)):
            self._refused = (message.term, max(size, missed))
            return room
        self._coming += size
        if size >= missed:
            self._refused = (message.term, 0)
        return min(room, Room.LOW)

    def takes(self, chunk: SnapshotChunk) -> bool:
        """Whether there is room for a piece of a snapshot."""
        size = sum(len(key) + len(value) for key, value in chunk.pairs)
        if self.room(self._coming + size) is Room.NONE:
            return False
        self._coming += size
        return True

    def _missed(self, term: Term) -> int:
        refused_in, size = self._refused
        return size if refused_in == term else 0
