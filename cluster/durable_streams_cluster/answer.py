"""The outcome of a write, for one who waits for it."""

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

from durable_streams_cluster.streams.outcomes import Outcome

_log = logging.getLogger(__name__)

Told = Outcome | Exception
"""An outcome, or why there is none: most often a ``ClusterError``."""


class Answer:
    """An outcome that is known later: await it, or give a listener, which ``tell`` calls by itself.

    A future calls back in another turn of the loop, each callback by its own handle: a fifth of what it costs to answer
    a small append over HTTP, where nobody waits and the callback is the answer. Listeners must be short: ``tell`` is
    called for all outcomes of a turn in a row.
    """

    __slots__ = ("_listeners", "_told")

    def __init__(self) -> None:
        self._told: Told | None = None
        self._listeners: list[Callable[[Told], None]] = []

    def then(self, listener: Callable[[Told], None]) -> None:
        """Call ``listener`` once it is known, which may be now; what it raises is logged."""
        if self._told is None:
            self._listeners.append(listener)
        else:
            _tell(listener, self._told)

    def tell(self, told: Told) -> None:
        """It is known; nothing happens when it was before."""
        if self._told is None:
            self._told = told
            for listener in self._listeners:
                _tell(listener, told)

    def __await__(self) -> Generator[Any, None, Outcome]:
        if self._told is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: finish(future))
            yield from future
        assert self._told is not None
        return outcome(self._told)


def outcome(told: Told) -> Outcome:
    """The outcome; raises what there is in place of one."""
    if isinstance(told, Exception):
        raise told
    return told


def finish(future: asyncio.Future[None]) -> None:
    """Let whoever waits go on, if anybody still does."""
    if not future.done():
        future.set_result(None)


def _tell(listener: Callable[[Told], None], told: Told) -> None:
    try:
        listener(told)
    except Exception:  # Whoever tells has others to tell.
        _log.exception("an outcome was not taken")
