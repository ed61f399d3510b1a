"""Which commands of which origin were applied: what is proposed twice is applied once.

Whoever takes a write (an origin) numbers it, and proposes it again, in order, to each new leader until it sees it
applied. A leader may refuse some, so a number may come after a later one: such holes are kept. Every replica
holds the same sessions, for they change only with the log.

Counter-example without holes, by the newest number alone: 4 is refused for overload, 5 is applied, the refusal is lost
with its connection. Sent again, 4 would be taken for a duplicate, and nobody would ever answer it.
"""

from durable_streams_cluster.ids import Index
from durable_streams_cluster.storage.codecs import Session

MAX_ORIGINS = 1024
"""The ones that wrote last are known."""
MAX_HOLES = 1024
"""Of one origin; the newest are known. A number below is taken for applied: nobody proposes so much out of order."""


class Sessions:
    """The sessions of a group."""

    def __init__(self, found: dict[int, Session]) -> None:
        """``found``: by incarnation of the origin, as stored."""
        self._known = dict(sorted(found.items(), key=lambda item: item[1].index))
        self._changed: dict[int, Session | None] = {}

    def is_new(self, origin: int, number: int) -> bool:
        """Whether this command of ``origin`` was not applied before; number 0 is never asked about twice."""
        if not number:
            return True
        known = self._known.get(origin)
        return known is None or number > known.newest or number in known.holes

    def applied(self, origin: int, number: int, index: Index) -> None:
        """The command is applied with log entry ``index``."""
        if not number:
            return
        known = self._known.pop(origin, None) or Session(index, 0)
        if number == known.newest + 1:
            session = Session(index, number, known.holes)
        elif number > known.newest:
            skipped = range(max(known.newest + 1, number - MAX_HOLES), number)
            holes = (*known.holes, *skipped)[-MAX_HOLES:] if skipped else known.holes
            session = Session(index, number, holes)
        else:
            session = Session(index, known.newest, tuple(hole for hole in known.holes if hole != number))
        self._known[origin] = self._changed[origin] = session
        if len(self._known) > MAX_ORIGINS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._changed[oldest] = None

    def changes(self) -> dict[int, Session | None]:
        """What changed since the last call; None: forgotten."""
        changed, self._changed = self._changed, {}
        return changed
