"""What the load is doing: acknowledgements as they come, and what an injection did to them."""

import asyncio
import collections
import dataclasses
import datetime
import time
from collections.abc import Iterable

from tests.history.records import Recorder


@dataclasses.dataclass(slots=True)
class Injection:
    """One fault, and what it did."""

    kind: str
    targets: tuple[str, ...]
    at: float
    """Seconds, as in the history."""
    wall: str
    """The same for people who compare it with the nodes' logs (UTC)."""
    in_flight: int
    """Requests of writers at that moment."""
    rate: float
    """Acknowledged appends a second before it."""
    since: float
    """From when pauses count: after a power cut, that is when the power is back."""
    writable_ms: float | None = None
    """From then until the first acknowledgement of an append that was sent later."""
    gap_ms: float = 0.0
    """The longest time without any acknowledgement from here on."""
    slowest_ms: float = 0.0
    """The longest time that an append that was acknowledged took."""
    changes: int = 0
    """Changes of leader that it brought."""
    note: str = ""

    @property
    def pause_ms(self) -> float:
        """How long no append was taken: what came later than the fault itself counts, too."""
        return max(self.writable_ms or 0.0, self.gap_ms)


class Pulse:
    """Counts of one run, and its history.

    ``failed``: attempts that were not acknowledged, by what became of them.
    """

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.acked = 0
        self.in_flight = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self.breaks: list[tuple[float, str, str]] = []
        """When a live read at which node ended without its proper end, and how."""
        self.injections: list[Injection] = []
        self._began = time.monotonic()
        self._last = self._since = 0.0
        self._acked_before = 0
        self._gap = self._slowest = 0.0
        self._watched: Injection | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._writable: asyncio.Future[None] | None = None

    def now(self) -> float:
        """Seconds since the run began: the one clock of its history."""
        return self.recorder.now(time.monotonic() - self._began)

    def ack(self, sent: float) -> None:
        """An append that was first sent at that time is acknowledged."""
        now = self.now()
        self.acked += 1
        self._gap = max(self._gap, now - self._last)
        self._slowest = max(self._slowest, now - sent)
        self._last = now
        watched = self._watched
        if watched is not None and watched.writable_ms is None and sent >= watched.since:
            watched.writable_ms = (now - watched.since) * 1000
            if self._writable is not None and not self._writable.done():
                self._writable.set_result(None)
        while self._waiting and self._waiting[0][0] <= self.acked:
            _, future = self._waiting.pop(0)
            if not future.done():
                future.set_result(None)

    def broke(self, node: str, how: str) -> None:
        """A live read at this node was cut off."""
        self.breaks.append((self.now(), node, how))

    def inject(self, kind: str, targets: Iterable[str]) -> Injection:
        """Note that a fault comes now."""
        now = self.now()
        wall = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._watched = Injection(kind, tuple(targets), now, wall, self.in_flight, self.rate, now)
        self.injections.append(self._watched)
        self._gap = self._slowest = 0.0
        self._last = now
        self._writable = asyncio.get_running_loop().create_future()
        return self._watched

    def begin_again(self) -> None:
        """What the fault does to appends counts from now on."""
        assert self._watched is not None
        self._watched.since = self._last = self.now()
        self._gap = self._slowest = 0.0

    async def writable(self, limit: float) -> bool:
        """Wait until an append that was sent after the fault is acknowledged; False when that takes too long."""
        assert self._writable is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._writable), limit)
        except TimeoutError:
            return False
        return True

    async def more(self, count: int, limit: float = 60.0) -> None:
        """Wait for so many more acknowledgements."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.acked + count, future))
        self._waiting.sort(key=lambda each: each[0])
        try:
            await asyncio.wait_for(future, limit)
        except TimeoutError:
            raise AssertionError(f"no {count} appends were acknowledged within {limit:g} s") from None

    def settle(self) -> None:
        """The fault is over, and its effects, too."""
        now = self.now()
        if self._watched is not None:
            # A pause that lasts counts, whether it has ended or not.
            self._watched.gap_ms = max(self._gap, now - self._last) * 1000
            self._watched.slowest_ms = self._slowest * 1000
            self._watched = None

    @property
    def rate(self) -> float:
        """Acknowledged appends a second, since ``measure``."""
        return (self.acked - self._acked_before) / max(1e-6, self.now() - self._since)

    def measure(self) -> None:
        """The rate counts from now on."""
        self._since, self._acked_before = self.now(), self.acked
