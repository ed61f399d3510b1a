"""To wait for one stream to move, wherever it is said that it did."""

import asyncio
from collections.abc import Callable
from typing import Protocol, Self

from durable_streams_cluster.answer import finish


class Registry(Protocol):
    """Who is called when which stream moves."""

    def register(self, path: str, token: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever the stream at ``path`` moves, or may have, until ``remove``."""
        ...

    def remove(self, path: str, token: object) -> None:
        """Forget a registration; not an error when it is not there."""
        ...


class PathWatch:
    """See ``api.Watch``."""

    __slots__ = ("_called", "_future", "_path", "_registry", "moved")

    def __init__(self, registry: Registry, path: str) -> None:
        self._registry = registry
        self._path = path
        self.moved = False
        """See ``api.Watch``."""
        self._called: Callable[[], None] | None = None
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._registry.register(self._path, self, self.wake)
        return self

    def __exit__(self, *exc: object) -> None:
        self._registry.remove(self._path, self)

    def wake(self) -> None:
        """See ``api.Watch``."""
        self.moved = True
        if self._called is not None:
            self._called()
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def call(self, moved: Callable[[], None]) -> None:
        """See ``api.Watch``."""
        self._called = moved

    async def wait(self, timeout_s: float) -> bool:
        """See ``api.Watch``."""
        if not self.moved:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_later(timeout_s, finish, self._future)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        moved, self.moved = self.moved, False
        return moved
