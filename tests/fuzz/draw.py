"""Values out of bytes: the same bytes draw the same values, and bytes that run out draw zeros and empty things."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_BOUNDARIES = (0, 1, 2, 2**7, 2**8 - 1, 2**16, 2**31, 2**32 - 1, 2**53 - 1, 2**63 - 1, 2**63, 2**64 - 1)


class Draw:
    """Reads a fuzzed input from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.byte() % len(options)]

    def integer(self, maximum: int = 2**64 - 1) -> int:
        """From 0 to ``maximum``: near a boundary, small, or anything."""
        kind = self.byte()
        if kind < 64:
            number = _BOUNDARIES[kind % len(_BOUNDARIES)]
        elif kind < 128:
            number = maximum - self.byte()
        elif kind < 192:
            number = self.byte()
        else:
            number = int.from_bytes(self.take(8), "big")
        return max(number, 0) % (maximum + 1)

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def chunk(self) -> bytes:
        """At most 255 bytes."""
        return self.take(self.byte())

    def text(self) -> str:
        return self.chunk().decode(errors="replace")

    def rest(self) -> bytes:
        return self.take(max(0, len(self.data) - self.at))

    def maybe(self, draw: Callable[[], T]) -> T | None:
        return draw() if self.flag() else None

    def several(self, draw: Callable[[], T], most: int = 4) -> list[T]:
        return [draw() for _ in range(self.byte() % (most + 1))]
