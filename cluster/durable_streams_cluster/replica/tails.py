"""Who waits for which stream to move. A wake carries no data; it says: look again."""

from collections.abc import Callable, Iterable

from durable_streams_cluster.streams.meta import StreamRef


class Tails:
    """Callbacks by stream. Register first, then look: between the two no wake can fall through."""

    def __init__(self) -> None:
        self._waiting: dict[StreamRef, dict[object, Callable[[], None]]] = {}

    def register(self, ref: StreamRef, token: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` at every move of ``ref`` until ``remove``."""
        self._waiting.setdefault(ref, {})[token] = wake

    def remove(self, ref: StreamRef, token: object) -> None:
        """Forget a registration; not an error when it is not there."""
        waiting = self._waiting.get(ref)
        if waiting is not None:
            waiting.pop(token, None)
            if not waiting:
                del self._waiting[ref]

    def wake(self, refs: Iterable[StreamRef]) -> None:
        """These streams moved: each of their watchers is called once, however often they moved in the turn."""
        for ref in dict.fromkeys(refs):
            for callback in tuple(self._waiting.get(ref, {}).values()):
                callback()

    def watched(self, ref: StreamRef) -> bool:
        """Whether anybody waits for ``ref``."""
        return ref in self._waiting

    def wake_all(self) -> None:
        """Every watcher looks again: the node drains."""
        self.wake(tuple(self._waiting))
