"""What waits to be sent on one stream to one peer: bounded, heartbeats first, several payloads to an envelope."""

from collections import deque
from enum import Enum

from durable_streams_cluster.limits import PeerLimits


class Lane(Enum):
    """One of the two streams to a peer."""

    RAFT = "raft"
    BULK = "bulk"


class Kind(Enum):
    """How a payload travels."""

    HEARTBEAT = "heartbeat"
    """Before everything else, on the Raft stream; when many wait, only the newest are kept. May overtake."""
    RAFT = "raft"
    """On the Raft stream, in order."""
    BULK = "bulk"
    """On the stream of its own for what is large, in order."""

    @property
    def lane(self) -> Lane:
        """The stream it travels on."""
        return Lane.BULK if self is Kind.BULK else Lane.RAFT


class Outbox:
    """The queue of one stream. Once full it takes nothing until half of it is gone: what is lost is lost in one piece.

    ``dropped`` counts payloads that were given and will not be sent, ``queued_bytes`` what waits.
    """

    __slots__ = ("_heartbeats", "_limits", "_max_bytes", "_max_payload", "_payloads", "dropped", "full", "queued_bytes")

    def __init__(self, lane: Lane, limits: PeerLimits) -> None:
        bulk = lane is Lane.BULK
        self._limits = limits
        self._max_bytes = limits.bulk_queue_bytes if bulk else limits.raft_queue_bytes
        self._max_payload = limits.bulk_payload_bytes if bulk else limits.raft_payload_bytes
        self._heartbeats: deque[bytes] = deque()
        self._payloads: deque[bytes] = deque()
        self.queued_bytes = 0
        self.dropped = 0
        self.full = False
        """It overflowed and has not drained since."""

    def __len__(self) -> int:
        """How many payloads wait."""
        return len(self._heartbeats) + len(self._payloads)

    def put(self, payload: bytes, kind: Kind) -> bool:
        """Queue ``payload``; False when there is no room. Raises ValueError for one that never fits its stream."""
        self.check(payload, kind)
        if kind is Kind.HEARTBEAT:
            if len(self._heartbeats) == self._limits.heartbeats:
                self.queued_bytes -= len(self._heartbeats.popleft())
                self.dropped += 1
            self._heartbeats.append(payload)
        else:
            over = self.queued_bytes + len(payload) > self._max_bytes or len(self) >= self._limits.queue_payloads
            self.full = self.full or (over and len(self._payloads) > 0)
            if self.full:
                self.dropped += 1
                return False
            self._payloads.append(payload)
        self.queued_bytes += len(payload)
        return True

    def check(self, payload: bytes, kind: Kind) -> None:
        """Raise ValueError for a payload that is larger than its kind may be: whoever made it broke ``PeerLimits``."""
        bound = self._limits.heartbeat_bytes if kind is Kind.HEARTBEAT else self._max_payload
        if len(payload) > bound:
            raise ValueError(f"a {kind.value} payload of {len(payload)} bytes; at most {bound} can be sent")

    def take(self) -> list[bytes]:
        """Remove and return what goes into the next envelope, in order; empty when nothing waits."""
        limits, payloads = self._limits, self._payloads
        taken = list(self._heartbeats)
        room = (limits.urgent_bytes if taken else limits.envelope_bytes) - sum(map(len, taken))
        self._heartbeats.clear()
        while payloads and len(taken) < limits.envelope_payloads and (len(payloads[0]) <= room or not taken):
            payload = payloads.popleft()
            room -= len(payload)
            taken.append(payload)
        self.queued_bytes -= sum(map(len, taken))
        if self.full and self.queued_bytes <= self._max_bytes // 2 and len(self) <= limits.queue_payloads // 2:
            self.full = False
        return taken

    def clear(self) -> None:
        """Drop everything: nobody is there to take it."""
        self.dropped += len(self)
        self._heartbeats.clear()
        self._payloads.clear()
        self.queued_bytes = 0
        self.full = False
