"""Every kind of fault: what it does, how soon appends must be taken again, and what it needs of the machine.

To add one, write a function that injects it into a ``Scene``, and name it here.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.system.chaos import processes
from tests.system.chaos.scene import Scene

Inject = Callable[[Scene], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row of the table."""

    inject: Mapping[Inject, int]
    """What is done, and how often of all times."""
    bound_s: float
    """Within so many seconds of a fault an append is taken that was sent after it."""
    changes: int | None = None
    """Changes of leader that one fault may bring; None: as many as it likes."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the streams."""


KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind({processes.kill_leader: 6, processes.kill_one: 2, processes.kill_all: 1}, 15.0),
    "kill-leader": Kind({processes.kill_leader: 1}, 5.0),
    "pause": Kind({processes.pause_leader: 3, processes.pause_other: 1}, 5.0),
    "term": Kind({processes.term_leader: 3, processes.term_other: 1}, 0.5, changes=1),
    "term-leader": Kind({processes.term_leader: 1}, 0.5, changes=1),
}
