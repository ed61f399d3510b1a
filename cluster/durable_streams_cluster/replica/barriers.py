"""Reads at this node that wait until what it shows is as new as anything anybody was told before they began.

Any node answers: it asks the leader for an index (``RaftCore.read_index``; thesis 6.4), and waits until its own state
holds so much. All that come between two turns share a question.
"""

import msgspec

from durable_streams_cluster.ids import Index


class Barrier(msgspec.Struct):
    """One read that waits."""

    token: object
    since_ms: int
    path: str | None = None
    """The stream that is read, if it has a deadline."""
    renews: bool = False


class Barriers:
    """They are fresh, then asked about, then wait for an index."""

    def __init__(self) -> None:
        self._fresh: list[Barrier] = []
        self._asked: dict[int, list[Barrier]] = {}
        self._reached: list[tuple[Index, list[Barrier]]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._fresh) + sum(map(len, self._asked.values())) + sum(len(each) for _, each in self._reached)

    @property
    def oldest(self) -> int:
        """The number of the oldest question that was not answered; 0 when there is none."""
        return next(iter(self._asked), 0)

    def add(self, barrier: Barrier) -> None:
        """Take one in."""
        self._fresh.append(barrier)

    def ask(self) -> tuple[int, list[Barrier]] | None:
        """A question for all that are fresh, and its number; None when there are none."""
        if not self._fresh:
            return None
        self._number += 1
        self._asked[self._number] = self._fresh
        self._fresh = []
        return self._number, self._asked[self._number]

    def answered(self, number: int, index: Index | None) -> None:
        """The leader's answer; None: it does not lead."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if index is None:
            self._fresh = asked + self._fresh
        else:
            self._reached.append((index, asked))

    def ask_again(self) -> None:
        """Another leader, or one that may not have got the questions."""
        again = [barrier for asked in self._asked.values() for barrier in asked]
        self._asked.clear()
        self._fresh = again + self._fresh

    def visible(self, index: Index) -> list[object]:
        """What this node shows holds everything up to ``index``: tokens of the reads that may go on."""
        if not self._reached:
            return []
        done = [barrier.token for reached, barriers in self._reached if reached <= index for barrier in barriers]
        self._reached = [(reached, barriers) for reached, barriers in self._reached if reached > index]
        return done

    def give_up(self, before_ms: int) -> list[object]:
        """Forget those that have waited since before ``before_ms``: their tokens."""
        given_up: list[object] = []
        for barriers in (self._fresh, *self._asked.values(), *(each for _, each in self._reached)):
            given_up += [barrier.token for barrier in barriers if barrier.since_ms < before_ms]
            barriers[:] = [barrier for barrier in barriers if barrier.since_ms >= before_ms]
        return given_up
