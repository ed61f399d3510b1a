"""How those who wait for the driver are answered."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.errors import ClusterError, Overloaded, StorageFull, Unavailable
from durable_streams_cluster.replica.exchange import Reason
from durable_streams_cluster.runtime.space import NO_ROOM

REFUSALS: Final[Mapping[Reason, Callable[[], ClusterError]]] = {
    Reason.NOT_LEADER: lambda: Unavailable("no leader yet; nothing was stored"),
    Reason.OVERLOADED: lambda: Overloaded("the leader has too much to store; nothing was stored"),
    Reason.FULL: lambda: StorageFull(NO_ROOM),
}
"""What the leader's refusal of a write is for whoever sent it."""
BEHIND: Final = "this node was behind, and what became of it is not known here"
NOTHING_STORED: Final = "no leader answers, or its disk does not; nothing was stored"
PERHAPS_STORED: Final = "no leader answers, or its disk does not; it may or may not be stored"


def raise_in(waits: asyncio.Future[Any] | Answer, error: Exception) -> None:
    """Let whoever waits get ``error``, if anybody still does."""
    if isinstance(waits, Answer):
        waits.tell(error)
    elif not waits.done():
        waits.set_exception(error)
