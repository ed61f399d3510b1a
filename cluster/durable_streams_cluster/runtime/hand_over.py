"""Letting another node lead: before this one ends, or because somebody asked for it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from durable_streams_cluster.answer import finish
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import LeaderChanged
from durable_streams_cluster.replica.group import Group

log = logging.getLogger(__name__)

ATTEMPTS = 3
ATTEMPT_S = 1.0
"""How often it is tried, and for how long each time."""


class HandOver:
    """Of one group."""

    def __init__(self, group: Group, go_on: Callable[[], None], may_go_on: Callable[[], bool]) -> None:
        """``go_on`` lets the group take a turn; ``may_go_on``: whether this node has not failed."""
        self._group = group
        self._go_on = go_on
        self._may_go_on = may_go_on
        self._done: asyncio.Future[None] | None = None

    async def run(self, to: NodeId | None = None) -> bool:
        """Let ``to`` lead, or the voter that has most; reads and writes go on. In bounded time.

        Returns:
            Whether this node does not lead any more.

        """
        for _ in range(ATTEMPTS):
            if not self._group.leads or not self._may_go_on():
                return not self._group.leads
            target = to or self._group.successor()
            if target is None or not self._group.transfer_to(target):
                return False
            log.info("group %d: handing over to %s", self._group.id, target)
            self._done = asyncio.get_running_loop().create_future()
            self._go_on()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done, ATTEMPT_S)
        return not self._group.leads

    def watch(self, event: object) -> None:
        """Something happened."""
        if isinstance(event, LeaderChanged) and event.leader not in (None, self._group.place.node):
            self.another_leads()

    def another_leads(self) -> None:
        """Or the one that was to lead cannot be reached: there is nothing to wait for."""
        if self._done is not None:
            finish(self._done)
