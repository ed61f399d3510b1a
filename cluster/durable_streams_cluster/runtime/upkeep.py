"""What is done for the store beside turns: looking for faults and at the room on its disk, and giving room back."""

from collections.abc import Callable

from durable_streams_cluster.runtime.disk import Disk
from durable_streams_cluster.runtime.space import DiskSpace
from durable_streams_cluster.storage.kv import Kv, Space


class Upkeep:
    """At most one look and one reclaim are under way."""

    def __init__(self, kv: Kv, disk: Disk, fail: Callable[[BaseException], None]) -> None:
        """``fail`` ends the node."""
        self.space = DiskSpace()
        self._kv = kv
        self._disk = disk
        self._fail = fail
        self._looking = False
        self._reclaiming = False

    def look(self) -> None:
        """Look for faults that no call reported, and at the room on disk."""
        if not self._looking:
            self._looking = True
            self.space.begin_look()
            self._disk.tend(self._looked)

    def _looked(self, space: Space | None, failure: BaseException | None) -> None:
        self._looking = False
        if failure is not None:
            self._fail(failure)
            return
        self.space.see(space)

    def reclaim(self) -> None:
        """Give back room on disk, if that is due."""
        if not self._reclaiming and self._kv.reclaim_due():
            self._reclaiming = True
            self._disk.reclaim(self._reclaimed)

    def _reclaimed(self, failure: BaseException | None) -> None:
        self._reclaiming = False
        if failure is not None:
            self._fail(failure)
