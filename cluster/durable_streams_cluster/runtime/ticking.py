"""Time passes for a group: elections and heartbeats count in ticks."""

import asyncio
from collections.abc import Callable

from durable_streams_cluster.replica.replica import Replica

TICK_S = 0.05
"""``raft.Settings`` counts in these."""


class Ticking:
    """Ticks as long as there is another member; one that is by itself needs a single tick, to elect itself."""

    def __init__(self, replica: Replica, go_on: Callable[[], None]) -> None:
        """``go_on`` lets it take a turn."""
        self._replica = replica
        self._go_on = go_on
        self._runs = False
        self._stopped = False

    def start(self) -> None:
        """Begin."""
        self._tick()

    def stop(self) -> None:
        """No more."""
        self._stopped = True

    def watch(self, _: object) -> None:
        """Something happened: perhaps there are other members now."""
        if not self._runs and not self._replica.group.by_itself:
            self._runs = True
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._runs = False
        if self._stopped:
            return
        self._replica.tick()
        self._go_on()
        if not self._replica.group.by_itself:
            self._runs = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
