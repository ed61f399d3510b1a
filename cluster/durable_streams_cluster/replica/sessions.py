"""Which commands of which origin were applied: what is proposed twice is applied once.

Whoever takes a write (an origin) numbers it, and proposes it again, in order, to each new leader until it sees it
applied. A leader may refuse some, so a number may come after a later one: such holes are kept. Every replica
holds the same sessions, for they change only with the log.

Counter-example without holes, by the newest number alone: 4 is refused for overload, 5 is applied, the refusal is lost
with its connection. Sent again, 4 would be taken for a duplicate, and nobody would ever answer it.
"""

from itertools import takewhile

from durable_streams_cluster.ids import Index
from durable_streams_cluster.storage.codecs import Session

MAX_ORIGINS = 1024
"""The ones that wrote last are known."""
MAX_HOLES = 1024
"""Of one origin; the newest are known. A number below is taken for applied: nobody proposes so much out of order."""


class _Known:
    """A session while it changes with every command."""

    __slots__ = ("holes", "index", "newest")

    def __init__(self, session: Session) -> None:
        self.index, self.newest, self.holes = session.index, session.newest, session.holes


class Sessions:
    """The sessions of a group."""

    def __init__(self, found: dict[int, Session]) -> None:
        """``found``: by incarnation of the origin, as stored."""
        by_age = sorted(found.items(), key=lambda item: item[1].index)
        self._known = {origin: _Known(session) for origin, session in by_age}
        self._changed: set[int] = set()

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
        known = self._known.get(origin)
        if known is None or known.index != index:  # else it is the last one, and changed
            known = self._known.pop(origin) if known is not None else _Known(Session(index, 0))
            self._known[origin] = known
            known.index = index
            self._changed.add(origin)
        if number == known.newest + 1:
            known.newest = number
        elif number > known.newest:
            skipped = range(max(known.newest + 1, number - MAX_HOLES), number)
            known.newest, known.holes = number, (*known.holes, *skipped)[-MAX_HOLES:]
        else:
            known.holes = tuple(hole for hole in known.holes if hole != number)
        if len(self._known) > MAX_ORIGINS:
            self._forget_oldest()

    def changes(self) -> dict[int, Session | None]:
        """What changed since the last call; None: forgotten."""
        changed, self._changed = self._changed, set()
        known = ((origin, self._known.get(origin)) for origin in sorted(changed))
        return {origin: Session(each.index, each.newest, each.holes) if each else None for origin, each in known}

    def _forget_oldest(self) -> None:
        oldest = next(iter(self._known.values())).index
        # Of those that wrote last in the same entry, the same one everywhere: who restarted knows no order among them.
        same = takewhile(lambda item: item[1].index == oldest, self._known.items())
        origin = min(origin for origin, _ in same)
        del self._known[origin]
        self._changed.add(origin)
