"""Whether a directory has forgotten what it once showed: an old image of it was put back (DESIGN: Identity).

Its member would vote again where it has voted, and acknowledge what another quorum counts on it to have. So each node
remembers of each other member what that *showed*: what was on its disk, durably, when it said so (thesis 3.3). And it
asks, once for each life of a process, with what that began. A lawful life has all that any earlier one showed.

What counts as shown: a term, and an entry of that very term. A member leaves a term for a later one only, and while it
is in one, its log is cut by no other leader. So a life that begins in the term that was shown has the entry that was
shown, and one that begins in an older term has forgotten. Nothing is said of a life that begins in a later term:

    Of five, n3 acknowledges 1/5, 1/6 and 1/7 to n1, and nobody else does; then n1 is cut off. n2 leads in term 2, its
    log ends with 1/4 and 2/5, and so does n3's, for n2 has it cut. Killed and started again, n3 begins in term 2 with
    entry 5, and less than it acknowledged to n1. That is lawful, and n1, which has slept since, must not object.

What is acknowledged in a term is told from the term's own entries alone. That is enough: by counting, a leader commits
no others (thesis 3.6.2), and its first one comes before anything that a client is told.
"""

from typing import NamedTuple

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft.messages import (
    AppendEntries,
    AppendReply,
    EntryId,
    Heartbeat,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)

MAX_LIVES = 64
"""Of one member, whose verdict is remembered: so many processes of it are not alive together."""
MAX_REMEMBERED = 64
"""Members; more than there ever are at once."""


class Begun(msgspec.Struct, frozen=True):
    """With what a life of a replica began: as its disk had it, before anything else was heard or done."""

    life: int
    """Names it: no other life has it."""
    term: Term
    last: EntryId


class Shown(NamedTuple):
    """What a disk held when its member spoke. Of two, the larger one holds more."""

    term: Term = Term(0)
    entry: Index = Index(0)
    """An entry of this very term; 0: none is known of."""


NOTHING_SHOWN = Shown()


def shown_by(message: Message, *, own_entry: bool) -> Shown:
    """What a message tells of its sender's disk.

    Not all do. A heartbeat is answered at once, and so is who only asks for votes: with a term, perhaps, that a power
    cut takes back. A life after that begins with less than was said, and is lawful.

    Args:
        message: As it came.
        own_entry: Whether an entry that it acknowledges is known to be of the message's term.

    """
    match message:
        case AppendReply(term, match, rejected):
            return Shown(term, match if own_entry and not rejected else Index(0))
        case Heartbeat(term, durable=durable):
            return Shown(term, durable)
        case AppendEntries() | TimeoutNow() | RequestVote(pre=False) | VoteReply(pre=False):
            return Shown(message.term)
        case _:
            return NOTHING_SHOWN


def has_forgotten(begun: Begun, shown: Shown) -> bool:
    """Whether a life began with less than an earlier one of the same directory showed."""
    return (begun.term, begun.last.index if begun.last.term == begun.term else 0) < shown


class _Remembered:
    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.shown = NOTHING_SHOWN
        self.verdicts: dict[int, str | None] = {}
        """By life. Given once, before a word of that life was heard: what a life shows is never held against it."""


class Lives:
    """Of all other members, as far as this node has spoken with them since it was started."""

    def __init__(self) -> None:
        self._known: dict[NodeId, _Remembered] = {}

    def objection(self, node: NodeId, incarnation: int, begun: Begun) -> str | None:
        """Why this life of ``node`` is not to be heard, for people; None when it may be.

        To be asked whenever a connection is made, and before anything of that life is given to the core.
        """
        known = self._known.get(node)
        if known is None or known.incarnation != incarnation:
            self._known.pop(node, None)
            known = self._known[node] = _Remembered(incarnation)
            if len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
        if begun.life not in known.verdicts:
            known.verdicts[begun.life] = _verdict(node, begun, known.shown)
            if len(known.verdicts) > MAX_LIVES:
                del known.verdicts[next(iter(known.verdicts))]
        return known.verdicts[begun.life]

    def heard(self, node: NodeId, message: Message, *, own_entry: bool) -> None:
        """A message of ``node`` came; see ``shown_by``. Of one that nobody asked about nothing is remembered."""
        known = self._known.get(node)
        if known is not None:
            known.shown = max(known.shown, shown_by(message, own_entry=own_entry))


def _verdict(node: NodeId, begun: Begun, shown: Shown) -> str | None:
    if not has_forgotten(begun, shown):
        return None
    entry = f" and its entry {shown.entry}" if shown.entry else ""
    return (
        f"the data directory of {node} is an older image of itself: it had term {shown.term}{entry}, and has begun "
        f"with term {begun.term} and entry {begun.last.index} of term {begun.last.term}"
    )
