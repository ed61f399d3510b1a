"""When the next turn is taken: as soon as the loop can, or after some milliseconds if nothing brings one before."""

import asyncio
from collections.abc import Callable


class Turns:
    """Of one driver."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[], None]) -> None:
        self._loop = loop
        self._take = take
        self.due = False
        """The loop takes one next."""
        self.in_time = False
        """One comes in bounded time."""

    def soon(self) -> None:
        """Take one when the loop comes to it; it serves all that is noted until then."""
        if not self.due:
            self.due = True
            self._loop.call_soon(self._now)

    def within(self, ms: int) -> None:
        """Take one after ``ms``; once that is asked for, only the first time counts."""
        if not self.in_time:
            self.in_time = True
            self._loop.call_later(ms / 1000, self._late)

    def _now(self) -> None:
        self.due = False
        self._take()

    def _late(self) -> None:
        self.in_time = False
        self.soon()
