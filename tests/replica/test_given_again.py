"""What a leader dropped without a word is given to it again, however much else it answers meanwhile."""

import pytest

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import Entry, EntryId, EntryKind, Membership
from durable_streams_cluster.raft.messages import AppendEntries, Heartbeat, entry_crc
from durable_streams_cluster.replica import lead
from durable_streams_cluster.replica.barriers import Barrier
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.exchange import AskRead, Forward, ReadAnswer, Reason
from durable_streams_cluster.replica.following import GIVE_AGAIN_TICKS
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.storage.codecs import Origin, Proposal, encode_proposals
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.streams.commands import Delete
from tests.replica.node import append
from tests.replica.trio import Trio

LEADER, HERE = NodeId("n1"), NodeId("n2")
TERM = Term(1)


class Follower:
    """A replica that follows a leader played by the test."""

    def __init__(self) -> None:
        self.kv = MemoryKv()
        members = Membership.of(LEADER, HERE, "n3")
        self.replica = Replica(Place(HERE, members, 9), self.kv, Now(0, 0), random=lambda _: 0)
        self.last = EntryId(Term(0), Index(0))
        self.replica.deliver(LEADER, [Heartbeat(TERM, Index(0), 0)])
        self.turn()

    def turn(self) -> Effects:
        effects = self.replica.turn(Now(0, 0))
        self.kv.write(effects.batch)
        self.replica.written()
        if effects.must_sync:
            self.replica.durable(effects.ticket)
        return effects

    def tick(self) -> Effects:
        """The leader is there, and time passes."""
        self.replica.tick()
        self.replica.deliver(LEADER, [Heartbeat(TERM, self.last.index, 0)])
        return self.turn()

    def commit(self, proposal: Proposal) -> Effects:
        """The leader puts one into the log."""
        index = Index(self.last.index + 1)
        bare = Entry(TERM, index, EntryKind.COMMANDS, 1, 0, 0, encode_proposals([proposal]))
        entry = Entry(TERM, index, EntryKind.COMMANDS, 1, 0, 0, bare.data, entry_crc(GroupId(1), bare))
        self.replica.deliver(LEADER, [AppendEntries(TERM, self.last, (entry,), index)])
        self.last = EntryId(TERM, index)
        self.turn()  # it is durable from here on
        return self.turn()


def forwarded(effects: Effects) -> list[Proposal]:
    letters = [each.message for each in effects.outbox if isinstance(each.message, Forward)]
    return [proposal for letter in letters for proposal in letter.proposals]


def test_a_write_is_given_again_though_others_are_answered() -> None:
    follower = Follower()
    follower.replica.propose(Delete("dropped"), "dropped", 0)
    (dropped,) = forwarded(follower.turn())
    again: list[Proposal] = []
    for number in range(2 * GIVE_AGAIN_TICKS):
        follower.replica.propose(Delete(f"{number}"), number, 0)
        (other,) = (each for each in forwarded(follower.turn()) if each != dropped)
        follower.commit(other)
        again += forwarded(follower.tick())
        if dropped in again:
            return
    raise AssertionError("it waits until it is given up")


def test_nothing_small_overtakes_what_found_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an election all that waits is given to the next leader in one letter. It took the small batches out of the
    middle of it, and refused the large ones in front of them: given again, they came behind."""
    monkeypatch.setattr(lead, "MAX_INFLIGHT_BYTES", 6_000)
    trio = Trio().boot()
    sizes = (3_000, 3_000, 10, 3_000, 10)
    letter = [Proposal(Origin(77, number), append("s", bytes(size))) for number, size in enumerate(sizes, 1)]
    assert trio.leader.replica.group.lead.take(letter) == {Reason.OVERLOADED: [2, 3, 4, 5]}
    trio.settle()
    assert trio.leader.replica.group.lead.take(letter[1:]) == {Reason.OVERLOADED: [4, 5]}


def test_a_question_is_asked_again_though_writes_are_answered() -> None:
    follower = Follower()
    follower.replica.read(Barrier("dropped", 0))
    questions = [each for each in follower.turn().outbox if isinstance(each.message, AskRead)]
    assert len(questions) == 1
    for number in range(2 * GIVE_AGAIN_TICKS):
        follower.replica.propose(Delete(f"{number}"), number, 0)
        follower.commit(forwarded(follower.turn())[-1])
        asked = [each.message for each in follower.tick().outbox if isinstance(each.message, AskRead)]
        if asked:
            follower.replica.deliver(LEADER, [ReadAnswer(asked[0].number, follower.last.index)])
            follower.turn()
            assert not follower.replica.group.pending
            return
    raise AssertionError("it waits until it is given up")
