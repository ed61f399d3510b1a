"""Linearizable reads without a log entry (thesis 6.4).

The leader notes its commit index, hears from a majority that it still leads, and the read is answered once so much is
applied. Reads share rounds; a round rides on heartbeats.
"""

from collections import deque
from collections.abc import Collection

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft import quorum


class ReadQueue:
    """Reads that wait, by round."""

    def __init__(self) -> None:
        self.round = 0
        """The newest round that was begun."""
        self._fresh: list[object] = []
        self._rounds: deque[tuple[int, Index, list[object]]] = deque()
        self._heard: dict[NodeId, int] = {}

    def add(self, token: object) -> None:
        """A read that waits for a round to begin."""
        self._fresh.append(token)

    def begin(self, commit: Index) -> bool:
        """Begin a round for all that wait, at this commit index; False when nobody waits."""
        if not self._fresh:
            return False
        self.round += 1
        self._rounds.append((self.round, commit, self._fresh))
        self._fresh = []
        return True

    def heard(self, node: NodeId, number: int) -> None:
        """``node`` answered the heartbeat of round ``number``: it knew of no later term then."""
        self._heard[node] = max(number, self._heard.get(node, 0))

    def answered(self, leader: NodeId, voters: Collection[NodeId]) -> list[tuple[object, Index]]:
        """The reads whose round a majority has answered, the leader counted, each with its index."""
        found: list[tuple[object, Index]] = []
        while self._rounds:
            number, index, tokens = self._rounds[0]
            heard = [leader, *(node for node, newest in self._heard.items() if newest >= number)]
            if not quorum.is_majority(heard, voters):
                break
            self._rounds.popleft()
            found += [(token, index) for token in tokens]
        return found

    def drop(self) -> list[object]:
        """Forget all; the reads that have no answer now."""
        dropped = [token for _, _, tokens in self._rounds for token in tokens] + self._fresh
        self._rounds.clear()
        self._fresh = []
        self._heard.clear()
        return dropped
