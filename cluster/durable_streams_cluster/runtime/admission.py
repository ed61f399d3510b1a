"""Which writes are taken: what waits is bounded, a full disk is not filled further, and a refusal loses nothing."""

import asyncio
from collections.abc import Iterable
from typing import cast

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.errors import OutcomeUnknown, Overloaded, StorageFull, Unavailable
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.replica.exchange import Reason
from durable_streams_cluster.replica.group import Group
from durable_streams_cluster.runtime.answers import PERHAPS_STORED, raise_in
from durable_streams_cluster.runtime.space import NO_ROOM, DiskSpace, grows, only_asks
from durable_streams_cluster.streams.commands import Append, Command, Create


class Admission:
    """Counts the operations that wait for their outcome, and the bytes that they hold."""

    def __init__(self, limits: Limits, space: DiskSpace, group: Group) -> None:
        """``space`` is this node's, and counts while it leads ``group``; another leader knows its own."""
        self._limits = limits
        self._space = space
        self._group = group
        self.waiting = 0
        self.inflight_bytes = 0
        self.stalled = False
        """The store takes no write for now."""

    def admit(self, command: Command, size: int) -> None:
        """Count one in.

        Raises:
            Overloaded: too much waits, or the store is stalled.
            StorageFull: the disk is almost full and the command would take room.
            StorageError: the store cannot be read.

        """
        if self.stalled:
            raise Overloaded("the store is busy writing out what it has; nothing was stored")
        if self.inflight_bytes and self.inflight_bytes + size > self._limits.max_inflight_bytes:
            raise Overloaded("too many bytes are waiting to be stored; nothing was stored")
        if self.waiting >= self._limits.max_pending_proposals:
            raise Overloaded("too many operations are waiting; nothing was stored")
        if grows(command) and self._group.leads and not self._has_room(command, size):
            raise StorageFull(NO_ROOM)
        self.inflight_bytes += size
        self.waiting += 1

    def refuses(self, command: Command, size: int) -> Reason | None:
        """Whether a leader does not take a command of another node; raises ``StorageError``."""
        if self.stalled:
            return Reason.OVERLOADED
        return Reason.FULL if grows(command) and not self._has_room(command, size) else None

    def release(self, token: object) -> Answer:
        """The answer to a proposal that is told now; what it held is free."""
        answer, size = cast("tuple[Answer, int]", token)
        self.inflight_bytes -= size
        self.waiting -= 1
        return answer

    def give_up(self, withdrawn: Iterable[object], unknown: Iterable[object], why: str) -> None:
        """Answer those who wait for nothing any more.

        Args:
            withdrawn: tokens of reads, and of writes that are certainly not stored: they get Unavailable, with ``why``.
            unknown: tokens of writes that may or may not be stored.
            why: for people.

        """
        for token in withdrawn:
            raise_in(token if isinstance(token, asyncio.Future) else self.release(token), Unavailable(why))
        for token in unknown:
            self.release(token).tell(OutcomeUnknown(PERHAPS_STORED))

    def _has_room(self, command: Create | Append, size: int) -> bool:
        # Twice: everything is written as an entry of the log, and again when it is applied.
        coming = 2 * (self.inflight_bytes + size)
        if self._space.has(coming) and not self._group.core.lacks_room:
            return True
        if command.body and not self._space.has(coming, stays=False):
            return False
        return only_asks(self._group.store.committed, command)
