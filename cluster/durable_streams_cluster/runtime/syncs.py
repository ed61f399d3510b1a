"""When the store is made durable: one sync at a time, and each covers all that was written before it began."""

from collections.abc import Callable
from functools import partial

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.disk import Disk
from durable_streams_cluster.storage.kv import Kv


class Syncs:
    """Of one store."""

    def __init__(
        self,
        kv: Kv,
        disk: Disk,
        clock: Clock,
        metrics: Metrics,
        ended: Callable[[int | None], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """``ended`` is called after each sync, with the newest batch that is durable by it, if that is news."""
        self._kv = kv
        self._disk = disk
        self._clock = clock
        self._metrics = metrics
        self._ended = ended
        self._fail = fail
        self.under_way = False
        self.flushes = False
        """The one under way ends with new memtables, and the store takes no write until then."""
        self._wanted = self._durable = 0
        """Tickets of the newest batch that must be durable, and of the newest that is."""

    def want(self, ticket: int) -> None:
        """The batch of ``ticket``, which is in the store, must be durable, and with it all before."""
        self._wanted = ticket

    def begin_if_due(self, soon: Callable[[Callable[[], None]], object] | None = None) -> bool:
        """Begin one if something waits for it and none is under way; whether it flushes. ``soon``: as of ``begin``."""
        if self.under_way:
            return False
        flush = self._kv.flush_due()
        if flush or self._wanted != self._durable:
            self.begin(flush=flush, soon=soon)
        return flush

    def begin(self, *, flush: bool, soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        """Begin one, while none is under way; ``flush``: memtables, too.

        ``soon`` lets it begin a moment later: what is sent leaves before the disk wants the interpreter's lock.
        """
        self.under_way, self.flushes = True, flush
        done = partial(self._done, self._wanted, self._clock.steady_ns())
        sync = partial(self._disk.sync, done, then_flush=flush)
        if soon is None:
            sync()
        else:
            soon(sync)

    def _done(self, ticket: int, began_ns: int, failure: BaseException | None) -> None:
        if failure is not None:
            self._fail(failure)
            return
        self.under_way = self.flushes = False
        self._metrics.wal_syncs += 1
        self._metrics.wal_sync_seconds.observe((self._clock.steady_ns() - began_ns) / 1e9)
        is_news = ticket != self._durable
        self._durable = ticket
        self._ended(ticket if is_news else None)
