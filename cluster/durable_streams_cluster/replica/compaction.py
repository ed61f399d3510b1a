"""How much of the log is kept once it is applied. Pure."""

from collections import deque
from collections.abc import Callable, Iterable

from durable_streams_cluster.ids import Index
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.raft import Entry

KEPT_LOG_BYTES = 16 * MIB
"""Applied entries of about this size are kept, so that a slow follower need not take a snapshot."""
HELD_LOG_BYTES = 16 * KEPT_LOG_BYTES
"""And no more than so much for one that catches up: it might never come to its end."""


class KeptLog:
    """Sizes of the entries that were handed to the disk since the start."""

    def __init__(self) -> None:
        self._sizes: deque[tuple[Index, int]] = deque()
        self._bytes = 0

    def handed_over(
        self, entries: Iterable[Entry], applied: Index, held: Callable[[], Index | None], snapshot_bytes: int
    ) -> Index | None:
        """These go to the disk now, in place of any with the same index or a later one.

        Args:
            entries: In order.
            applied: What is not is kept.
            held: Gives an entry that is kept with all behind it: a follower has it, or will, and goes on there.
            snapshot_bytes: How much of the state was sent to a follower, which then needs the entries since. So much
                is held for it, too: were the log cut meanwhile, it would need the next snapshot at once, and for ever.
                What is appended more slowly than a snapshot travels is always held by that.

        Returns:
            From which entry on the log is to be kept, once there is twice as much as that.

        """
        for entry in entries:
            while self._sizes and self._sizes[-1][0] >= entry.index:
                self._bytes -= self._sizes.pop()[1]
            self._sizes.append((entry.index, len(entry.data)))
            self._bytes += len(entry.data)
        if self._bytes <= 2 * KEPT_LOG_BYTES:
            return None
        hold = held() if self._bytes <= max(HELD_LOG_BYTES, snapshot_bytes) else None
        upto = applied if hold is None else min(applied, hold)
        while self._bytes > KEPT_LOG_BYTES and self._sizes[0][0] < upto:
            self._bytes -= self._sizes.popleft()[1]
        # After a restart the oldest entries are not in ``_sizes``, and some of them may not be applied yet.
        return Index(min(self._sizes[0][0], applied + 1 if hold is None else upto))
