"""Changes of the membership at the leader: one after the other, each when it is safe and wise (DESIGN: Identity).

The Raft core says whether a change is allowed, ``raft.membership`` what follows from it; here is what else is asked of
one: a learner that is promoted has caught up, and afterwards there is a majority of voters that are heard from. What
cannot be done at once because another change is under way waits.
"""

from collections import deque

import msgspec

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft import (
    AddLearner,
    Change,
    EntryId,
    Follower,
    Member,
    Membership,
    Objection,
    Promote,
    RaftCore,
    Remove,
    Role,
    changed,
)
from durable_streams_cluster.raft.progress import State
from durable_streams_cluster.raft.quorum import majority
from durable_streams_cluster.replica.cluster_time import Now

LAG_TICKS = 20
"""A learner has caught up when it holds what the log held so long ago, a second, ..."""
STEADY_TICKS = 100
"""... at each tick of so long, five seconds. Those at which it is not heard do not count."""
HEARD_TICKS = 10
"""Who has not answered for half a second, three heartbeats, is not counted on."""
PATIENCE_TICKS = 60
"""So long, three seconds, a change waits for voters that are not heard: a leader that is new hears them soon."""
MAX_ASKED = 32
"""Changes that wait."""


class Join(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """An empty node asks to be a member: as a learner, that rises if it says so.

    A member of the same name that is silent goes first: this is its node with another data directory. It makes no
    difference to those that are left, who had to do without it already.
    """

    member: Member


Wish = Change | Join


Result = Membership | Objection | None
"""The membership that a wish led to, committed; why not; None: nobody knows, for this node leads no more."""


class MembershipApplied(msgspec.Struct, frozen=True):
    """This one is committed: it is not taken back any more."""

    membership: Membership

    def __str__(self) -> str:
        return f"committed: members are {', '.join(self.membership.nodes)}"


class Answered(msgspec.Struct, frozen=True):
    """What became of a wish."""

    token: object
    result: Result


class Members:
    """Of one group; it does nothing while the node follows."""

    def __init__(self, core: RaftCore) -> None:
        self._core = core
        self._asked: deque[tuple[Wish, object]] = deque()
        self._proposed: tuple[EntryId, object] | None = None
        """What is under way, and for whom; that of a step on the way to a wish is for nobody."""
        self._ends: deque[Index] = deque(maxlen=LAG_TICKS)
        """Where the log ended, tick by tick."""
        self._steady: dict[NodeId, int] = {}
        """For how many ticks each learner has been close behind, since it last was not."""
        self._unheard_ticks = 0
        """For how long what was asked first has waited for voters that are not heard, ..."""
        self._is_held = False
        """... and whether it was tried since the last tick."""
        self.answered: list[Answered] = []

    def ask(self, wish: Wish, token: object) -> None:
        """Queue a wish; ``answered`` gets its token."""
        if self._core.role is not Role.LEADER:
            self.answered.append(Answered(token, Objection.NOT_LEADER))
        elif len(self._asked) >= MAX_ASKED:
            self.answered.append(Answered(token, Objection.IN_FLIGHT))
        else:
            self._asked.append((wish, token))

    def tick(self) -> None:
        """Time passed: learners come closer, or fall behind."""
        if self._core.role is not Role.LEADER:
            self.drop()
            return
        self._is_held = False
        goal = self._ends[0] if len(self._ends) == LAG_TICKS else self._core.log.last
        followers = self._core.status().followers
        self._steady = {
            node: self._steady_for(node, followers[node], goal)
            for node in self._core.membership.learners
            if node in followers
        }
        self._ends.append(self._core.log.last)

    @property
    def has_more(self) -> bool:
        """Whether ``step`` would do something now: of a node that is alone no message and no tick makes a turn."""
        if self._proposed is not None or self._core.objection() is not None:
            return False
        return (bool(self._asked) and not self._is_held) or self._rising() is not None

    def step(self, cluster_ms: int, now: Now) -> None:
        """Propose what may be proposed: what was asked for, else the promotion of a learner that has caught up."""
        while self._proposed is None and self._core.objection() is None:
            if self._asked and not self._is_held:
                self._try(*self._asked[0], cluster_ms, now)
            elif (rising := self._rising()) is not None:
                self._propose(rising, None, cluster_ms, now)
            else:
                return

    def applied(self, entry: EntryId, membership: Membership) -> None:
        """An entry with a membership is applied."""
        if self._proposed is not None and self._proposed[0] == entry:
            token, self._proposed = self._proposed[1], None
            if token is not None:
                self.answered.append(Answered(token, membership))

    def drop(self) -> None:
        """Not leading any more."""
        if self._proposed is not None and self._proposed[1] is not None:
            self.answered.append(Answered(self._proposed[1], None))
        self.answered += [Answered(token, Objection.NOT_LEADER) for _, token in self._asked]
        self._proposed = None
        self._asked.clear()
        self._ends.clear()
        self._steady.clear()
        self._unheard_ticks, self._is_held = 0, False

    # --------------------------------------------------------------------------------------------------- one wish

    def _try(self, wish: Wish, token: object, cluster_ms: int, now: Now) -> None:
        step, last = self._next_step(wish)
        objection = self._propose(step, token if last else None, cluster_ms, now)
        if objection is Objection.QUORUM and self._unheard_ticks < PATIENCE_TICKS:
            self._unheard_ticks, self._is_held = self._unheard_ticks + 1, True
            return
        self._unheard_ticks = 0
        if last or objection is not None:
            self._asked.popleft()
        if objection is Objection.NOTHING:
            self.answered.append(Answered(token, self._core.membership))
        elif objection is not None:
            self.answered.append(Answered(token, objection))

    def _next_step(self, wish: Wish) -> tuple[Change, bool]:
        """The change that comes next, and whether the wish is fulfilled by it."""
        if not isinstance(wish, Join):
            return wish, True
        known = self._core.membership.member(wish.member.node)
        if known is not None and known.incarnation != wish.member.incarnation and self._is_silent(known.node):
            return Remove(known.node), False
        return AddLearner(wish.member), True

    def _propose(self, change: Change, token: object, cluster_ms: int, now: Now) -> Objection | None:
        made = changed(self._core.membership, change)
        if isinstance(made, Objection):
            return made
        if isinstance(change, Promote) and not self._may_rise(change.node):
            return Objection.BEHIND
        if isinstance(change, Promote | Remove) and not self._is_reachable(made, change):
            return Objection.QUORUM
        self._proposed = self._core.propose_membership(made, cluster_ms, now.wall_ms), token
        return None

    def _rising(self) -> Promote | None:
        membership = self._core.membership
        for member in membership.members:
            if member.rises and not member.voter and self._may_rise(member.node):
                change = Promote(member.node)
                made = changed(membership, change)
                if isinstance(made, Membership) and self._is_reachable(made, change):
                    return change
        return None

    def _steady_for(self, node: NodeId, follower: Follower, goal: Index) -> int:
        # Silence says nothing either way: no turns are taken while memtables are written out, here or there, and under
        # load that comes again before a learner is steady.
        if follower.match < goal:
            return 0
        return self._steady.get(node, 0) + (follower.quiet_ticks <= HEARD_TICKS)

    def _may_rise(self, node: NodeId) -> bool:
        """Whether a learner has caught up, and is heard from now: it may have gone since."""
        if self._steady.get(node, 0) < STEADY_TICKS:
            return False
        return node in self._heard()

    def _is_silent(self, node: NodeId) -> bool:
        follower = self._core.status().followers.get(node)
        return follower is not None and not follower.active

    def _heard(self) -> set[NodeId]:
        """This node, and who answers now: it did a moment ago, and its connection has not broken since."""
        followers = self._core.status().followers
        here = (node for node, each in followers.items() if _answers(each))
        return {self._core.node, *here}

    def _is_reachable(self, made: Membership, change: Promote | Remove) -> bool:
        """Whether a majority of those who would count is heard from, and not only was or is expected to be.

        Of three, n1 lost its disk; n2 is elected, and asked to remove itself. Were n1 counted for the moment that it is
        waited for, a majority of n1 and n3 would be needed for ever.

        Who is promoted is not counted on, for it may be gone before anybody notices. Of three, n1 lost its disk; n4 is
        a learner, loses its own, and is promoted before the leader knows: three of n1, n2, n3 and n4 would be needed.
        Only where one voter becomes two there is no other way.
        """
        counted = set(made.voters) & self._heard()
        if isinstance(change, Remove):
            return len(counted) >= majority(made.voters)
        others = len(made.voters) - 1
        return len(counted - {change.node}) >= min(majority(made.voters), others)


def _answers(follower: Follower) -> bool:
    return follower.quiet_ticks <= HEARD_TICKS and follower.state is State.REPLICATE
