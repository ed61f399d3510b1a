"""Cluster time: what windows and retention count on. Leaders stamp it into the log (DESIGN: Time)."""

from typing import NamedTuple


class Now(NamedTuple):
    """The node's clocks at the start of a turn, milliseconds (``clock.Clock``)."""

    steady_ms: int
    wall_ms: int


class ClusterTime:
    """The newest time that is known plus the steady time since; a wall clock that jumps moves nothing.

    What a follower knows is renewed by each heartbeat. By its own clock alone, which is a little faster or slower than
    the leader's, it would be seconds ahead after a day, and end every window too early once it leads.
    """

    def __init__(self, base_ms: int, now: Now) -> None:
        self._base_ms = base_ms
        self._steady_ms = now.steady_ms
        self._heard_ms = 0

    def at(self, now: Now) -> int:
        """Milliseconds."""
        return self._base_ms + max(0, now.steady_ms - self._steady_ms)

    def begin_at(self, base_ms: int, now: Now) -> None:
        """It is ``base_ms`` now."""
        self._base_ms, self._steady_ms = base_ms, now.steady_ms

    def hear(self, cluster_ms: int, now: Now) -> None:
        """The newest that leaders told is ``cluster_ms``."""
        if cluster_ms > self._heard_ms:
            self._heard_ms = cluster_ms
            self.begin_at(cluster_ms, now)
