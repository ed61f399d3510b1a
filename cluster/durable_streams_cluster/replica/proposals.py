"""The writes that came in at this node: numbered, and given to leader after leader until they are seen in the log."""

from collections import deque
from collections.abc import Collection, Iterable

import msgspec

from durable_streams_cluster.replica.sessions import Sessions
from durable_streams_cluster.storage.codecs import Origin, Proposal
from durable_streams_cluster.streams.commands import Append, Command, Create


class Own(msgspec.Struct):
    """One of them."""

    proposal: Proposal
    token: object
    size: int
    """Bytes in an entry, at most."""
    since_ms: int
    given: int = 0
    """How often a leader was given it; from the first time on it may be in a log."""


class Proposals:
    """By sequence number, in order."""

    def __init__(self, incarnation: int) -> None:
        """``incarnation`` names this life of this node; no other life of any node has it."""
        self.incarnation = incarnation
        self._last = 0
        self._open: dict[int, Own] = {}
        self._unsent: deque[Own] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, command: Command, token: object, size: int, now_ms: int) -> None:
        """Take one in."""
        self._last += 1
        own = Own(Proposal(Origin(self.incarnation, self._last), command), token, size, now_ms)
        self._open[self._last] = own
        self._unsent.append(own)

    def take(self, max_bytes: int) -> list[Own]:
        """Those that no leader was given: one at least, if there is one, then up to ``max_bytes``."""
        taken: list[Own] = []
        size = 0
        while self._unsent:
            own = self._unsent[0]
            if own.proposal.origin.sequence in self._open:
                size += own.size
                if taken and size > max_bytes:
                    break
                own.given += 1
                taken.append(own)
            self._unsent.popleft()
        return taken

    @property
    def waits(self) -> bool:
        """Whether some were not given to a leader."""
        return bool(self._unsent)

    @property
    def oldest(self) -> int:
        """The number of the one that has waited longest; 0 when none waits."""
        return next(iter(self._open), 0)

    def give_all_again(self) -> None:
        """Another leader, or one that may not have got them: all that are not seen in the log, in order."""
        self._unsent = deque(self._open.values())

    def give_again(self, sequences: Iterable[int]) -> None:
        """These were refused by one that does not lead. To keep the order, all behind the first are given again.

        Those that wait already go on waiting: what waits is the end of all that are open, and the longer end has both.
        """
        first = min((each for each in sequences if each in self._open), default=None)
        if first is not None:
            if self._unsent:
                first = min(first, self._unsent[0].proposal.origin.sequence)
            self._unsent = deque(own for number, own in self._open.items() if number >= first)

    def applied(self, sequence: int) -> Own | None:
        """One is seen in the log; None if nobody waits for it any more."""
        return self._open.pop(sequence, None)

    def settled(self, sessions: Sessions) -> list[Own]:
        """A snapshot took the place of the log: those whose outcome is in no log that this node will see."""
        applied = [number for number in self._open if not sessions.is_new(self.incarnation, number)]
        return [self._open.pop(number) for number in applied]

    def refused(self, sequences: Collection[int]) -> list[Own]:
        """A leader did not take these. One that was given before may be in a log since then: it is given again.

        Returns:
            Those that are certainly in no log, and are not given again.

        """
        own = [self._open[each] for each in sequences if each in self._open]
        self.give_again(each.proposal.origin.sequence for each in own if each.given > 1)
        return [self._open.pop(each.proposal.origin.sequence) for each in own if each.given <= 1]

    def give_up(self, before_ms: int, *, given: bool = True) -> tuple[list[object], list[object]]:
        """Forget those that have waited since before ``before_ms``; not ``given``: only those that no leader was given.

        Returns:
            Tokens of those that no leader ever was given, and of those that may be in a log.

        """
        old = []
        for sequence, own in self._open.items():
            if own.since_ms >= before_ms:
                break  # They came in in this order.
            if given or not own.given:
                old.append(sequence)
        given_up = [self._open.pop(sequence) for sequence in old]
        return [own.token for own in given_up if not own.given], [own.token for own in given_up if own.given]


def size_of(command: Command) -> int:
    """Bytes of a command in an entry, at most: a character takes up to four, what is not counted up to 1 KiB."""
    size = 1024 + 4 * len(command.path)
    if isinstance(command, Append):
        size += len(command.body)
    elif isinstance(command, Create):
        size += len(command.body) + (4 * len(command.fork.source) if command.fork is not None else 0)
    return size
