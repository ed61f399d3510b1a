"""How those who wait for the driver are answered."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from durable_streams_cluster.errors import ClusterError, Overloaded, StorageFull, Unavailable
from durable_streams_cluster.replica.exchange import Reason
from durable_streams_cluster.runtime.space import NO_ROOM

REFUSALS: Final[Mapping[Reason, Callable[[], ClusterError]]] = {
    Reason.NOT_LEADER: lambda: Unavailable("no leader yet; nothing was stored"),
    Reason.OVERLOADED: lambda: Overloaded("the leader has too much to store; nothing was stored"),
    Reason.FULL: lambda: StorageFull(NO_ROOM),
}
"""What the leader's refusal of a write is for whoever sent it."""


def raise_in(future: asyncio.Future[Any], error: Exception) -> None:
    """Let whoever waits get ``error``, if anybody still does."""
    if not future.done():
        future.set_exception(error)


def finish(future: asyncio.Future[None]) -> None:
    """Let whoever waits go on, if anybody still does."""
    if not future.done():
        future.set_result(None)
