"""How far a command is, for whoever watches it."""

import sys
from typing import Self


class Progress:
    """A bar on standard error, where somebody sees it."""

    WIDTH = 30

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self.done = 0
        """Bytes."""
        self._said = ""

    def moved(self, count: int, total: int | None) -> None:
        """So many more of ``total`` bytes; None: nobody knows of how many."""
        self.done += count
        if not self._shown:
            return
        if total:
            self.show(self.done / total, f"{self.done / 1e6:.1f} MB of {total / 1e6:.1f} MB")
        else:
            self.show(None, f"{self.done / 1e6:.1f} MB")

    def show(self, part: float | None, text: str) -> None:
        """What is done, as a part of all (from 0 to 1) and in words; None: nobody knows of how much."""
        if not self._shown:
            return
        said = text
        if part is not None:
            part = min(part, 1.0)
            said = f"[{'=' * int(part * self.WIDTH):<{self.WIDTH}}] {part:4.0%}  {text}"
        if said != self._said:
            sys.stderr.write(f"\r{said:<{len(self._said)}}")
            sys.stderr.flush()
            self._said = said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._said:
            sys.stderr.write("\n")
