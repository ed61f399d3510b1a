"""Which node to ask next. Pure: time is an argument."""

from collections.abc import Sequence

AVOIDED_S = 3.0
"""A node that failed is not asked for so long, if there is another one."""


class Routes:
    """Nodes of a cluster: those that were named or found, which of them failed when, and which one leads.

    One is asked until it fails, so that what is written to one stream keeps its order. Clients begin with different
    ones.
    """

    def __init__(self, targets: Sequence[str], first: int = 0) -> None:
        """``targets``: ``HOST:PORT`` of at least one node; ``first``: which to begin with, any number."""
        assert targets
        first %= len(targets)
        self._targets = [*targets[first:], *targets[:first]]
        self._failed: dict[str, float] = {}
        self.leader: str | None = None
        """The one that leads, if that is known: what is written there takes one hop less."""

    def add(self, target: str) -> None:
        """One more; those that were there come before it."""
        if target not in self._targets:
            self._targets.append(target)

    def choose_for_writes(self, now_s: float) -> str:
        """The one that leads, unless it failed or nobody is known to."""
        if self.leader is not None and now_s - self._failed.get(self.leader, -AVOIDED_S) >= AVOIDED_S:
            return self.leader
        return self.choose(now_s)

    def choose(self, now_s: float) -> str:
        """The one to ask now: that worked before, else the one that failed longest ago."""
        for target in self._targets:
            if now_s - self._failed.get(target, -AVOIDED_S) >= AVOIDED_S:
                return target
        return min(self._targets, key=lambda target: self._failed[target])

    def failed(self, target: str, now_s: float) -> None:
        """It did not answer, or said that it does not serve: others come before it."""
        self._failed[target] = now_s
        if self._targets[0] == target:
            self._targets.append(self._targets.pop(0))

    def worked(self, target: str) -> None:
        """It answered."""
        self._failed.pop(target, None)
