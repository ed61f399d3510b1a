"""Whether there is room on the disk: refused early, before RocksDB fails and while there is room to delete."""

import logging
from collections.abc import Mapping
from typing import Final, TypeGuard

from durable_streams_cluster.limits import MIB
from durable_streams_cluster.raft import Room
from durable_streams_cluster.storage.kv import Space
from durable_streams_cluster.streams.commands import Append, Command, Create
from durable_streams_cluster.streams.outcomes import ProducerFenced
from durable_streams_cluster.streams.producers import Repeated, judge
from durable_streams_cluster.streams.view import StreamView

_log: Final = logging.getLogger(__name__)

_ANY: Final = 1 << 62
"""Bytes: more than ever come."""

NO_ROOM: Final = (
    "a disk that this has to go to is almost full, or has no room for so much at once; nothing was stored. Reads and "
    "deletes go on; this works again when there is room: delete streams, or give the node a larger disk"
)


def grows(command: Command) -> TypeGuard[Create | Append]:
    """Whether a command only takes room. The others give some back, or take next to none and must go on."""
    return bool(command.body) if isinstance(command, Append) else isinstance(command, Create)


def only_asks(view: StreamView, command: Command) -> bool:
    """Whether a command that may take room leaves nothing: it asks for a stream that is there, or repeats a batch.

    It is an entry of the log nevertheless, body and all. And what is under way may make it grow yet: the deletion of
    the stream that is there, say.

    Raises:
        StorageError: the store cannot be read.

    """
    if isinstance(command, Create):
        return view.find(command.path) is not None
    if isinstance(command, Append) and command.producer is not None and (ref := view.find(command.path)) is not None:
        return isinstance(judge(view.producer(ref, command.producer.id), command.producer), Repeated | ProducerFenced)
    return False


class DiskSpace:
    """The room that was seen last, less what was written since.

    Below what the store wants free it refuses, until there is a quarter more: what is freed and taken again by
    rewriting files does not make it change its mind all the time.
    """

    def __init__(self) -> None:
        self._seen: Space | None = None
        self._spent = 0
        self._spent_before_look = 0
        self.refusing = False
        self._surely = _ANY
        """So many bytes may come in, for sure (``has``): most appends need no more than a look at this."""
        self._full = False
        """There is no room for what does not stay, nor, if there was none, until there is an eighth more."""
        self._plenty = True
        """A quarter above what is wanted; and, if it was not, when there is an eighth more."""

    def spend(self, size: int) -> None:
        """So many bytes were written."""
        self._spent += size
        self._reckon()

    def begin_look(self) -> None:
        """What was written up to now is in what will be seen."""
        self._spent_before_look = self._spent

    def see(self, space: Space | None) -> None:
        """There is so much room; None: as much as anybody wants."""
        self._spent -= self._spent_before_look
        self._spent_before_look = 0
        self._seen = space
        if space is None:
            self._surely = _ANY
            return
        refusing = self.free < space.wanted + (space.wanted // 4 if self.refusing else 0)
        if refusing != self.refusing:
            self.refusing = refusing
            if refusing:
                _log.warning("%s: where it leads, appends and new streams get 507; reads, deletes, expiry go on", self)
            else:
                _log.info("%s: appends are taken again", self)
        self._reckon()
        self._plenty = self.free >= space.wanted * 5 // 4 + (0 if self._plenty else space.wanted // 8)
        self._full = not self.has(space.wanted // 8 if self._full else 0, stays=False)

    @property
    def free(self) -> int:
        """Free bytes, as far as is known."""
        return self._seen.free - self._spent if self._seen is not None else 0

    def has(self, coming: int, *, stays: bool = True) -> bool:
        """Whether ``coming`` bytes may come in, those included that were let in before and are not written yet.

        What does not stay (``only_asks``) is in the log for a while: it may have half of what is wanted free.

        They take room in the write-ahead log, as much again when memtables are written out, for the log goes only
        then, and up to as much once more while that is rewritten. What is wanted free has room for the latter two of
        as much as memtables usually hold, but not of appends that are large against the disk.
        """
        if coming <= self._surely:
            return True
        assert self._seen is not None
        if stays and self.refusing:
            return False
        beyond = max(0, self._seen.unwritten + self._spent + coming - self._seen.covered)
        return self.free - coming - 2 * beyond >= (self._seen.wanted if stays else self._seen.wanted // 2)

    def _reckon(self) -> None:
        """Each byte that comes in takes three at most: itself, and two more of what is beyond what is usual."""
        if self._seen is None:
            return
        beyond = max(0, self._seen.unwritten + self._spent - self._seen.covered)
        self._surely = -1 if self.refusing else (self.free - self._seen.wanted - 2 * beyond) // 3

    def room(self, coming: int = 0) -> Room:
        """In others' terms, when ``coming`` bytes of entries come in: each is written twice."""
        if self._seen is None:
            return Room.PLENTY
        if self._full or not self.has(2 * coming, stays=False):
            return Room.NONE
        if self.refusing:
            return Room.LOW
        return Room.PLENTY if self._plenty else Room.ENOUGH

    def spares(self, coming: int) -> bool:
        """Whether ``coming`` bytes of entries may come in though there is no room: what a group cannot do without.

        All that memtables hold, and those, must find room when it is written out, and an eighth of what is wanted be
        left beyond that: a flush that fails ends the node.
        """
        if self._seen is None:
            return True
        return self.free - 2 * (2 * coming) - self._seen.unwritten - self._spent >= self._seen.wanted // 8

    def __str__(self) -> str:
        if self._seen is None:
            return "in memory"
        return f"{max(0, self.free) // MIB} of {self._seen.size // MIB} MiB free, {self._seen.wanted // MIB} wanted"

    def metrics(self) -> Mapping[str, int]:
        """By name: bytes, and whether appends are refused."""
        if self._seen is None:
            return {}
        free = max(0, self.free)
        wanted, size = self._seen.wanted, self._seen.size
        return {
            "free_bytes": free,
            "size_bytes": size,
            "reserve_bytes": wanted,
            "refusing": int(self.refusing),
        }
