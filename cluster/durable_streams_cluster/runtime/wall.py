"""The machine's wall clock, believed with care: it decides when a stream with Stream-Expires-At ends."""

import logging

JUMP_MS = 5_000
"""A wall clock that gained more than this on the steady clock did not run: it was set."""
PATIENCE_MS = 600_000
"""A clock that was set wrong is mostly set right within this; one that still shows the same is believed then."""

log = logging.getLogger(__name__)


class WallClock:
    """Wall time for expiry. What is deleted too late can be deleted later; what is deleted early is gone.

    So a step back is followed at once, and a step forward only after ``PATIENCE_MS``: until then time goes on as if
    nothing had happened. What the clock showed when the process started is believed, there being nothing to hold it
    against.
    """

    def __init__(self, steady_ms: int, wall_ms: int) -> None:
        self._ahead_ms = wall_ms - steady_ms
        """Wall minus steady time, as believed."""
        self._doubted_since_ms: int | None = None

    @property
    def doubted(self) -> bool:
        """Whether the machine's clock was set forward and is not believed yet."""
        return self._doubted_since_ms is not None

    def believe(self, steady_ms: int, wall_ms: int) -> int:
        """Unix milliseconds to expire by, the two clocks showing what is given."""
        gained_ms = wall_ms - steady_ms - self._ahead_ms
        if gained_ms <= JUMP_MS:
            self._ahead_ms += gained_ms
            self._doubted_since_ms = None
            return wall_ms
        if self._doubted_since_ms is None:
            self._doubted_since_ms = steady_ms
            log.warning(
                "the wall clock was set forward by %d s; no Stream-Expires-At is taken for passed because of that in "
                "the next %d min. Next step: check the machine's time service.",
                gained_ms // 1000,
                PATIENCE_MS // 60_000,
            )
        if steady_ms - self._doubted_since_ms >= PATIENCE_MS:
            log.warning("the wall clock is believed again, %d s further", gained_ms // 1000)
            self._ahead_ms += gained_ms
            self._doubted_since_ms = None
            return wall_ms
        return steady_ms + self._ahead_ms
