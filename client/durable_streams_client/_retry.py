"""When to try again. Pure: time and chance are arguments."""

from collections.abc import Callable

FIRST_S, MOST_S = 0.05, 2.0
"""Between two attempts, at first and at most; an election takes about a second."""


LONG_S = 1.0
"""An attempt that took so long was waiting for something: the next one may, too."""


def may_end_in_time(took_s: float, left_s: float) -> bool:
    """Whether another attempt is worth it, of something that is not done twice.

    Args:
        took_s: how long (seconds) the last one took, after which it was certain that nothing had happened.
        left_s: how long there is.

    Returns:
        False when one that takes as long again would be broken off in the middle: nobody would know what came of it.

    """
    return took_s < LONG_S or left_s > took_s


class Backoff:
    """How long to wait before each attempt but the first: twice as long each time, and never all at once."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """``chance`` gives numbers from 0 to 1."""
        self._chance = chance
        self._next_s = FIRST_S

    def wait_s(self, asked_s: float = 0.0) -> float:
        """Seconds until the next attempt; not less than ``asked_s``, which the server wants."""
        bound, self._next_s = self._next_s, min(self._next_s * 2, MOST_S)
        return max(asked_s, bound * (0.5 + 0.5 * self._chance()))

    def reset(self) -> None:
        """It worked."""
        self._next_s = FIRST_S
