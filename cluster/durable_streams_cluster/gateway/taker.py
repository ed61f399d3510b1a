"""Whether a client takes what it is sent."""

from durable_streams_cluster.limits import Limits

STALLED_MS = 1000
"""While too much is unsent, a client that took nothing for this long is cut off."""


class Taker:
    """A client that did not take all at once, from then on until it did."""

    def __init__(self, limits: Limits) -> None:
        self._timeout_ms = limits.write_timeout_s * 1000
        self._min_bytes_s = limits.min_reader_bytes_s
        self._unsent = self._since_ms = 0
        self._window_unsent = self._window_ms = 0

    def begin(self, unsent: int, now_ms: int) -> None:
        """So many bytes are not taken."""
        self._unsent = self._window_unsent = unsent
        self._since_ms = self._window_ms = now_ms

    def is_slow(self, unsent: int, now_ms: int, *, pressed: bool) -> bool:
        """Whether it takes nothing, or next to nothing, for too long; ``pressed``: all clients hold too much.

        A byte now and then is no reading: it would hold a page, and its connection, for ever.
        """
        if unsent != self._unsent:
            self._unsent, self._since_ms = unsent, now_ms
        elif now_ms - self._since_ms >= (STALLED_MS if pressed else self._timeout_ms):
            return True
        window_ms = now_ms - self._window_ms
        if window_ms < self._timeout_ms:
            return False
        taken = self._window_unsent - unsent
        self._window_unsent, self._window_ms = unsent, now_ms
        return taken * 1000 < self._min_bytes_s * window_ms
