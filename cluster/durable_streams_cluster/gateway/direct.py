"""A short way for the requests that are most of all: small ones that came whole, answered by one write.

ASGI gives each request a task and carries it through five coroutines. For a small append that is a third of the
processor time of its way through HTTP, and nothing on the way waits but for the outcome. A server of ours offers an
application that has ``begin`` such requests first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Direct(Protocol):
    """A request that is here to its end, and the place of its answer."""

    @property
    def scope(self) -> Mapping[str, Any]:
        """As of ASGI."""
        ...

    @property
    def body(self) -> bytes | bytearray:
        """The whole body."""
        ...

    memo: Any
    """What the application made of the head: None, or what it put here when a request of this connection had the same
    head but for the length of the body and the number of the producer."""

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send the whole response, framed by its headers; nothing happens when the client left."""
        ...

    def fail(self) -> None:
        """Answer 500."""
        ...


class Beginner(Protocol):
    """An application that takes some requests the short way."""

    def begin(self, request: Direct) -> bool:
        """Take a request, and answer it now or later; False: nothing was done, it goes the way of all others."""
        ...
