"""What came in at this node and another one leads: given to the leader, and given again until it is answered."""

from collections.abc import Callable

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.limits import MAX_ENTRY_BYTES
from durable_streams_cluster.replica.barriers import Barriers
from durable_streams_cluster.replica.exchange import AskRead, Forward, PeerMessage, ReadAnswer, Reason, Refused
from durable_streams_cluster.replica.proposals import Proposals

GIVE_AGAIN_TICKS = 60
"""If what has waited longest here is not answered for so long, all that waits is given to the leader once more.
Connections that break are noticed sooner; this is for what a peer dropped."""

_NOBODY: tuple[Term, NodeId | None] = (Term(0), None)


class Following:
    """Which leader has got the writes and reads that wait here."""

    def __init__(self, own: Proposals, barriers: Barriers) -> None:
        self._own = own
        self._barriers = barriers
        self._given_to = _NOBODY
        """The term and the leader that what is open was given to."""
        self._turned_away = False
        """The node that is taken for the leader gave something back: nothing is given to it until the next tick."""
        self._quiet_ticks = 0
        """Since the write or the read that has waited longest was answered, or all were given to a leader."""
        self._oldest = (0, 0)

    def tick(self) -> None:
        """Time passed."""
        self._turned_away = False
        # The oldest, not any: one that a peer dropped must not wait for as long as others are answered.
        oldest = (self._own.oldest, self._barriers.oldest)
        stuck = any(now and now == before for now, before in zip(oldest, self._oldest, strict=True))
        self._quiet_ticks, self._oldest = self._quiet_ticks + 1 if stuck else 0, oldest
        if self._quiet_ticks >= GIVE_AGAIN_TICKS:
            self._given_to = _NOBODY

    def lost(self, peer: NodeId) -> None:
        """What was sent to ``peer`` may be lost."""
        if peer == self._given_to[1]:
            self._given_to, self._turned_away = _NOBODY, True

    def led_by(self, term: Term, leader: NodeId | None) -> None:
        """Who leads now, perhaps this node: when it is another, or may not have got what waits, it gets all of it."""
        if (term, leader) != self._given_to:
            self._given_to = (term, leader)
            self._quiet_ticks = 0
            self._own.give_all_again()
            self._barriers.ask_again()

    def refused(self, refusal: Refused) -> list[tuple[object, Reason]]:
        """A node did not take writes; the tokens of those that are certainly not stored, and why."""
        if refusal.reason is Reason.NOT_LEADER:
            self._turned_away = True
            self._own.give_again(refusal.sequences)
            return []
        refused = self._own.refused(refusal.sequences)
        self._turned_away |= self._own.waits  # with what it refused: not at once again
        return [(own.token, refusal.reason) for own in refused]

    def answered(self, answer: ReadAnswer) -> None:
        """A node answered a read, or does not lead."""
        self._turned_away |= answer.index is None
        self._barriers.answered(answer.number, answer.index)

    def give(self, send: Callable[[PeerMessage], None]) -> None:
        """Give the leader, which is another node, what no leader has got."""
        if self._turned_away:
            return
        while self._own.waits:
            taken = self._own.take(MAX_ENTRY_BYTES)
            if taken:
                send(Forward(tuple(own.proposal for own in taken)))
        asked = self._barriers.ask()
        if asked is not None:
            number, barriers = asked
            renewed = dict.fromkeys(each.path for each in barriers if each.path is not None and each.renews)
            seen = dict.fromkeys(each.path for each in barriers if each.path is not None and not each.renews)
            send(AskRead(number, tuple(renewed), tuple(seen)))
