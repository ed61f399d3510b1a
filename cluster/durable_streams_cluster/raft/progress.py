"""What a leader knows of one follower: how far it is, how much is under way to it (thesis 10.2.1; etcd's progress)."""

from collections import deque
from enum import Enum

from durable_streams_cluster.ids import Index
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.raft.messages import EntryId, Room

LONE_BYTES = MIB
"""A larger message is one large entry, and travels on a stream of its own."""


NEVER_HEARD = 1 << 30
"""Ticks: more than any that pass."""


class State(Enum):
    """How entries are sent to a follower."""

    PROBE = "probe"
    """It is not known where its log parts from ours: one message, then wait for the answer."""
    REPLICATE = "replicate"
    """Pipelined: what was sent is taken to arrive."""
    SNAPSHOT = "snapshot"
    """It lacks what the log has no more: nothing is sent until the snapshot is there."""


class Progress:
    """One follower.

    Invariants (``check``): match < next; in flight only while replicating, in order, all below ``next``, and no more
    than the window holds.
    """

    def __init__(self, next_index: Index, max_messages: int, max_bytes: int) -> None:
        self.state = State.PROBE
        self.match = Index(0)
        """Its log is ours up to here, and durable."""
        self.next = next_index
        """The next entry to be sent."""
        self.commit_sent = Index(0)
        """The commit index that it was told of."""
        self.active = True
        """Whether it was heard from since the last check of the quorum."""
        self.was_active = True
        """Whether it was between the last two."""
        self.quiet_ticks = NEVER_HEARD
        """Since it was heard from; the two above begin with the time that it has to answer first."""
        self.room = Room.PLENTY
        """On its disk, as it said last."""
        self.probe_sent = False
        self.nudge = False
        """Whether a message may have been lost: an empty one asks what is there, however full the window is.

        The window stays as it is: it may only be that the follower's disk hangs, and its memory has an end.
        """
        self._match_heard = Index(0)
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._inflight: deque[tuple[Index, int]] = deque()
        """Last index and bytes of each message under way."""
        self._inflight_bytes = 0

    @property
    def paused(self) -> bool:
        """Whether entries must wait: for room in the window, for an answer, or for a snapshot."""
        match self.state:
            case State.PROBE:
                return self.probe_sent
            case State.REPLICATE:
                full = len(self._inflight) >= self._max_messages or self._inflight_bytes >= self._max_bytes
                return full or (bool(self._inflight) and self._inflight[-1][1] > LONE_BYTES)
            case State.SNAPSHOT:
                return True

    def must_wait_alone(self, size: int) -> bool:
        """Whether a message of ``size`` bytes may not be sent before what is under way arrived; nothing follows it.

        A large one travels on a stream of its own. If others overtook it, or it them, the follower would refuse what
        comes first for want of the entry before, and all would be sent again, the large one, too.
        """
        return size > LONE_BYTES and bool(self._inflight)

    def sent(self, last: Index, size: int, commit: Index) -> None:
        """A message with entries up to ``last`` (none: one less than ``next``) of ``size`` bytes was sent."""
        self.commit_sent = commit
        self.nudge = False
        if self.state is State.PROBE:
            self.probe_sent = True
        elif last >= self.next:
            self._inflight.append((last, size))
            self._inflight_bytes += size
            self.next = Index(last + 1)

    def wait(self) -> None:
        """There is nothing for it that its disk has room for."""
        assert self.state is State.PROBE
        self.probe_sent = True

    def tick(self, *, retries: bool) -> None:
        """Time passed; ``retries``: one whose disk is full is sent the next message, as if the last one was lost.

        Not as soon as it answers: what it refuses would be sent and refused without a pause.
        """
        self.quiet_ticks += 1
        if retries and self.room is Room.NONE:
            self.probe_sent = False

    def acked(self, match: Index) -> bool:
        """It holds everything up to ``match``; whether that is news. After a probe the rest is sent at full speed."""
        news = match > self.match
        self.match = max(self.match, match)
        self.next = max(self.next, Index(self.match + 1))
        while self._inflight and self._inflight[0][0] <= match:
            self._inflight_bytes -= self._inflight.popleft()[1]
        if self.state is State.PROBE:
            self.go_on()
        return news

    def rejected(self, asked: Index, common: Index) -> bool:
        """It lacks the entry ``asked`` that a message began behind; ``common`` is the newest it may have of ours.

        Returns:
            Whether that is news: a late answer to something sent long ago is not.

        """
        if self.state is State.REPLICATE:
            if asked <= self.match:
                return False
            self.probe(Index(self.match + 1))
            self.next = max(Index(self.match + 1), min(asked, Index(common + 1)))
            return True
        if self.state is State.SNAPSHOT or asked != self.next - 1:
            return False
        self.next = max(Index(self.match + 1), min(asked, Index(common + 1)))
        self.probe_sent = False
        return True

    def heard(self, newest: EntryId, room: Room = Room.PLENTY) -> None:
        """It answered a heartbeat. If it lacks what it lacked at the one before, something was lost on the way."""
        self.active, self.quiet_ticks = True, 0
        self.room = room
        if room is Room.NONE:
            # What is under way to it is not taken. Next comes what may be, one message at a time, if there is any.
            self.nudge = False
            if self.state is State.REPLICATE:
                self.probe(Index(self.match + 1))
            return
        self.probe_sent = False
        if self.state is State.REPLICATE and self.match < newest.index and self.match == self._match_heard:
            self.nudge = True
        self._match_heard = self.match

    def probe(self, next_index: Index) -> None:
        """Find out where its log parts from ours."""
        self._reset(State.PROBE)
        self.next = max(next_index, Index(self.match + 1))

    def go_on(self) -> None:
        """It is known what it has: send all that it lacks; if it has no room, one message after the other."""
        if self.room is Room.NONE:
            self.probe(Index(self.match + 1))
        else:
            self.replicate()

    def replicate(self) -> None:
        """Send all that it lacks."""
        self._reset(State.REPLICATE)
        self.next = Index(self.match + 1)

    def wait_for_snapshot(self) -> None:
        """Send nothing until a snapshot is there or has failed."""
        self._reset(State.SNAPSHOT)

    def _reset(self, state: State) -> None:
        self.state = state
        self.probe_sent = self.nudge = False
        self._inflight.clear()
        self._inflight_bytes = 0

    def check(self) -> None:
        """Assert the invariants."""
        assert self.match < self.next
        assert self.state is State.REPLICATE or not self._inflight
        assert len(self._inflight) <= self._max_messages
        assert self._inflight_bytes == sum(size for _, size in self._inflight)
        assert list(self._inflight) == sorted(self._inflight)
        assert all(index < self.next for index, _ in self._inflight)
