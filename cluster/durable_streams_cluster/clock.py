"""Time as an argument: the only module of the cluster that imports ``time``."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks that are never mixed: one that only moves forward, one that people read."""

    def steady_ms(self) -> int:
        """Milliseconds of a clock that never goes back and does not jump; its zero means nothing."""
        ...

    def steady_ns(self) -> int:
        """The clock of ``steady_ms``, in nanoseconds; for measuring."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; may jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    def steady_ms(self) -> int:
        """See :class:`Clock`."""
        return time.monotonic_ns() // 1_000_000

    def steady_ns(self) -> int:
        """See :class:`Clock`."""
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        """See :class:`Clock`."""
        return time.time_ns() // 1_000_000
