"""A leader whose disk runs full lets another one lead that has plenty of room, before it has to refuse anything."""

import asyncio
import logging

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.raft import Room
from durable_streams_cluster.replica.group import Group
from durable_streams_cluster.runtime.hand_over import HandOver

log = logging.getLogger(__name__)

LOOKS = 3
"""So many times in a row, a second apart, there is not plenty: others on the same disk know it by then, too. Once is
enough when it refuses already: who has plenty then has another disk."""
PAUSE_MS = 60_000
"""Between two times that this node makes way. And who made way has plenty only with an eighth of the reserve more."""


class MakingWay:
    """Of one group."""

    def __init__(self, group: Group, hand_over: HandOver, clock: Clock) -> None:
        self._group = group
        self._hand_over = hand_over
        self._clock = clock
        self._looks = 0
        self._not_before_ms = 0
        self._under_way: asyncio.Task[bool] | None = None
        self._lacking = self._full = False

    def look(self) -> None:
        """Once a second: make way if that is better, and say what the others have."""
        lacking = self._group.core.lacks_room
        if lacking != self._lacking:
            self._lacking = lacking
            if lacking:
                log.warning("the disks of too many other members are almost full: appends and new streams get 507")
            else:
                log.info("enough members have room again: appends are taken")
        full = not self._group.leads and self._group.core.room is Room.NONE
        if full != self._full:
            self._full = full
            if full:
                log.warning("the disk is full: entries of the leader are not taken; what is here is shown")
            else:
                log.info("there is room: entries of the leader are taken")
        scarce = self._group.leads and self._group.core.room is not Room.PLENTY
        self._looks = self._looks + 1 if scarce else 0
        enough = LOOKS if self._group.core.room < Room.LOW else 1
        if self._looks < enough or self._clock.steady_ms() < self._not_before_ms:
            return
        to = self._group.successor(Room.PLENTY)
        if to is None:
            return
        self._not_before_ms = self._clock.steady_ms() + PAUSE_MS
        log.warning("the disk of this node runs full, and %s has room: it is to lead", to)
        self._under_way = asyncio.get_running_loop().create_task(self._hand_over.run(to), name="making way")
