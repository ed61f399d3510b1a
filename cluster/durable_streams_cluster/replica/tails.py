"""Who waits for which stream to move. A wake carries no data; it says: look again."""

from collections.abc import Callable, Iterable


class Tails:
    """Callbacks by path. Register first, then look: between the two no wake can fall through."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[object, Callable[[], None]]] = {}

    def register(self, path: str, token: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` at every move of ``path`` until ``remove``."""
        self._waiting.setdefault(path, {})[token] = wake

    def remove(self, path: str, token: object) -> None:
        """Forget a registration; not an error when it is not there."""
        waiting = self._waiting.get(path)
        if waiting is not None:
            waiting.pop(token, None)
            if not waiting:
                del self._waiting[path]

    @property
    def paths(self) -> list[str]:
        """Of the streams that somebody waits for."""
        return list(self._waiting)

    def wakes(self, paths: Iterable[str]) -> list[Callable[[], None]]:
        """These streams moved: what to call, each watcher once, however often they moved in the turn."""
        return [callback for path in dict.fromkeys(paths) for callback in self._waiting.get(path, {}).values()]
