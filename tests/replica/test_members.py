"""Members come and go at three replicas and more: who may, when, and what whoever asked is told."""

import pytest

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import AddLearner, Member, Membership, Objection, Promote, Readdress, Remove
from durable_streams_cluster.replica import compaction
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.group import Group, Place
from durable_streams_cluster.replica.members import (
    HEARD_TICKS,
    LAG_TICKS,
    PATIENCE_TICKS,
    STEADY_TICKS,
    Join,
    MembershipApplied,
)
from durable_streams_cluster.replica.snapshots import SnapshotInstalled
from durable_streams_cluster.storage.memory import MemoryKv
from tests.replica.node import append, create
from tests.replica.trio import Trio

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))


def test_a_node_that_joins_is_sent_everything_and_counts_once_it_has_caught_up() -> None:
    trio = Trio().boot()
    trio.done(create("a"))
    trio.done(append("a", b"one"))
    trio.join("n4")
    made = trio.change(Join(Member(N4, 4, "host:4", rises=True)))
    assert isinstance(made, Membership)
    assert (made.voters, made.learners) == ((N1, N2, N3), (N4,))
    assert trio.nodes["n4"].content("a") == b"one"
    trio.tick(STEADY_TICKS - 10)
    assert trio.leader.replica.group.core.membership.learners == (N4,)
    trio.tick(LAG_TICKS + 20)
    for node in trio.nodes.values():
        assert node.replica.group.core.membership.member(N4) == Member(N4, 4, "host:4")
    trio.done(append("a", b" two"), at="n4")
    assert trio.nodes["n1"].content("a") == b"one two"


def test_a_node_that_joins_twice_is_told_that_it_is_a_member() -> None:
    trio = Trio().boot()
    trio.join("n4")
    first = trio.change(Join(Member(N4, 4, "host:4")))
    assert trio.change(Join(Member(N4, 4, "host:4"))) == first


def test_who_falls_behind_does_not_rise() -> None:
    trio = Trio().boot()
    trio.done(create("a"))
    trio.join("n4")
    trio.change(Join(Member(N4, 4, rises=True)))
    assert trio.change(Promote(N4)) is Objection.BEHIND
    trio.cut = {"n4"}
    for _ in range(STEADY_TICKS + LAG_TICKS):
        trio.done(append("a", b"x"))
        trio.tick()
    assert trio.leader.replica.group.core.membership.learners == (N4,)
    trio.cut = set()
    trio.tick(STEADY_TICKS + LAG_TICKS)
    assert trio.leader.replica.group.core.membership.learners == ()


def test_pauses_of_a_learner_neither_help_nor_harm_it() -> None:
    """As when it or the leader writes memtables out: under load that comes again and again."""
    trio = Trio().boot()
    trio.join("n4")
    trio.change(Join(Member(N4, 4, rises=True)))
    for _ in range(3):
        trio.tick(2 * HEARD_TICKS)
        trio.cut = {"n4"}
        trio.tick(2 * HEARD_TICKS)  # It counts as heard for the first half.
        trio.cut = set()
    assert STEADY_TICKS > 3 * 3 * HEARD_TICKS
    assert trio.leader.replica.group.core.membership.learners == (N4,)
    trio.tick(3 * HEARD_TICKS)
    assert trio.leader.replica.group.core.membership.learners == ()


def test_one_that_went_since_it_caught_up_is_not_promoted() -> None:
    trio = Trio().boot()
    trio.join("n4")
    trio.change(AddLearner(Member(N4, 4)))
    trio.tick(STEADY_TICKS + LAG_TICKS)
    trio.cut = {"n4"}
    trio.tick(HEARD_TICKS + 2)
    assert trio.change(Promote(N4)) is Objection.BEHIND
    trio.cut = set()
    trio.tick(HEARD_TICKS)
    assert isinstance(trio.change(Promote(N4)), Membership)


def test_one_whose_connection_broke_is_not_counted_on_until_it_answers() -> None:
    trio = Trio().boot()
    trio.join("n4")
    trio.change(AddLearner(Member(N4, 4)))
    trio.tick(STEADY_TICKS + LAG_TICKS)
    trio.leader.replica.lost(N4)
    assert trio.change(Promote(N4)) is Objection.BEHIND
    trio.cut = {"n3"}
    trio.leader.replica.lost(N3)
    token = trio.ask(Remove(N2))
    trio.tick(PATIENCE_TICKS // 2)
    trio.cut = set()
    trio.tick(HEARD_TICKS)
    assert isinstance(trio.leader.changes[token], Membership)
    assert isinstance(trio.change(Promote(N4)), Membership)


def test_who_is_promoted_is_not_counted_on() -> None:
    """n3 is gone; should n4 go, too, before anybody notices, three of four would be needed, and there are two."""
    trio = Trio().boot()
    trio.join("n4")
    trio.cut = {"n3"}
    trio.tick(2 * HEARD_TICKS)
    trio.change(Join(Member(N4, 4, rises=True)))
    trio.tick(STEADY_TICKS + LAG_TICKS)
    assert trio.leader.replica.group.core.membership.learners == (N4,)
    assert isinstance(trio.change(Remove(N3)), Membership)
    trio.tick(1)
    assert trio.leader.replica.group.core.membership.voters == (N1, N2, N4)


def test_a_learner_that_does_not_rise_is_promoted_when_somebody_says_so() -> None:
    trio = Trio().boot()
    trio.join("n4")
    trio.change(AddLearner(Member(N4, 4)))
    trio.tick(STEADY_TICKS + LAG_TICKS)
    assert trio.leader.replica.group.core.membership.learners == (N4,)
    made = trio.change(Promote(N4))
    assert isinstance(made, Membership)
    assert made.voters == (N1, N2, N3, N4)


def test_one_that_comes_back_with_another_disk_takes_the_place_of_itself() -> None:
    trio = Trio().boot()
    trio.change(Remove(N3))
    trio.join("n3")
    trio.nodes["n3"] = type(trio.nodes["n3"])(name="n3", voters=())
    trio.change(Join(Member(N3, 30, rises=True)))
    trio.tick(STEADY_TICKS + LAG_TICKS)
    assert trio.leader.replica.group.core.membership.voters == (N1, N2, N3)
    # Now with an incarnation that is known.
    trio.cut = {"n3"}
    refused = trio.change(Join(Member(N3, 31, rises=True)))
    assert refused is Objection.NAME, "it was heard a moment ago"
    trio.tick(120)
    trio.nodes["n3"] = type(trio.nodes["n3"])(name="n3", voters=())
    trio.cut = set()
    made = trio.change(Join(Member(N3, 31, rises=True)))
    assert isinstance(made, Membership)
    assert (made.voters, made.learners, made.removed) == ((N1, N2), (N3,), (30,))
    trio.tick(STEADY_TICKS + LAG_TICKS)
    assert trio.leader.replica.group.core.membership.voters == (N1, N2, N3)


def test_what_would_leave_too_few_is_not_done() -> None:
    trio = Trio().boot()
    trio.cut = {"n3"}
    trio.tick(70)
    token = trio.ask(Remove(N2))
    trio.tick(PATIENCE_TICKS + 1)
    assert trio.leader.changes[token] is Objection.QUORUM
    made = trio.change(Remove(N3))
    assert isinstance(made, Membership)
    assert made.voters == (N1, N2)


def test_a_new_leader_counts_on_nobody_from_whom_it_has_not_heard() -> None:
    trio = Trio().boot()
    first = trio.leader.replica.group
    second = next(NodeId(name) for name, node in trio.nodes.items() if node.replica.group is not first)
    gone = next(name for name, node in trio.nodes.items() if name not in (first.place.node, second))
    trio.cut = {gone}
    first.transfer_to(second)
    trio.settle()
    assert trio.leader is trio.nodes[second]
    token = trio.ask(Remove(first.place.node))
    trio.tick(PATIENCE_TICKS + 1)
    assert trio.leader.changes[token] is Objection.QUORUM


def test_a_change_waits_a_while_for_voters_that_are_not_heard() -> None:
    trio = Trio().boot()
    trio.cut = {"n3"}
    trio.tick(2 * HEARD_TICKS)
    tokens = [trio.ask(Remove(N2)), trio.ask(AddLearner(Member(N4, 4)))]
    trio.tick(PATIENCE_TICKS // 2)
    leader = trio.leader
    assert not set(tokens) & leader.changes.keys()
    trio.cut = set()
    trio.tick(2 * HEARD_TICKS)
    assert trio.leader is leader
    made = [leader.changes[token] for token in tokens]
    assert [each.nodes for each in made if isinstance(each, Membership)] == [(N1, N3), (N1, N3, N4)]


def test_changes_are_made_one_after_the_other() -> None:
    trio = Trio().boot()
    leader = trio.leader
    tokens = [trio.ask(AddLearner(Member(NodeId(f"n{number}"), number))) for number in (4, 5, 6)]
    trio.settle()
    made = [leader.changes[token] for token in tokens]
    assert [each.learners for each in made if isinstance(each, Membership)] == [(N4,), (N4, N5), (N4, N5, NodeId("n6"))]


def test_only_a_leader_changes_anything() -> None:
    trio = Trio().boot()
    follower = next(name for name, node in trio.nodes.items() if node is not trio.leader)
    assert trio.change(Remove(NodeId(follower)), at=follower) is Objection.NOT_LEADER


def test_what_became_of_a_change_is_unknown_to_a_leader_that_lost_its_lead() -> None:
    trio = Trio().boot()
    old, name = trio.leader, next(name for name, node in trio.nodes.items() if node is trio.leader)
    trio.cut = {name}
    tokens = [trio.ask(wish, name) for wish in (Readdress(N1, "host:9"), Readdress(N2, "host:9"))]
    trio.tick(100)
    assert [old.changes[token] for token in tokens] == [None, Objection.NOT_LEADER]
    trio.cut = set()
    trio.tick(10)
    assert old.replica.group.core.membership == Membership.of("n1", "n2", "n3")


def test_a_leader_that_removes_itself_says_that_it_is_done() -> None:
    trio = Trio().boot()
    old, name = trio.leader, next(name for name, node in trio.nodes.items() if node is trio.leader)
    token = trio.ask(Remove(NodeId(name)))
    trio.tick(10)
    made = old.changes[token]
    assert isinstance(made, Membership)
    assert NodeId(name) not in made.nodes
    trio.cut = {name}
    assert trio.leader.replica.group.core.membership == made


def test_a_membership_survives_restarts() -> None:
    trio = Trio().boot()
    trio.done(create("a"))
    trio.change(AddLearner(Member(N4, 4, "host:4")))
    made = trio.change(Readdress(N1, "host:1"))
    for number in range(50):
        trio.done(append("a", b"%d" % number * 20))
    for name in ("n1", "n2", "n3"):
        trio.restart(name)
    trio.tick(100)
    assert {node.replica.group.core.membership for node in trio.nodes.values()} == {made}


def test_a_membership_comes_with_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 2_000)
    trio = Trio().boot()
    trio.done(create("a"))
    trio.cut = {"n3"}
    trio.tick(70)
    made = trio.change(Readdress(N1, "host:1"))
    assert isinstance(made, Membership)
    for number in range(50):
        trio.done(append("a", b"%d" % number * 40))
    trio.cut = set()
    trio.tick(20)
    assert "n3" in trio.saw(SnapshotInstalled)
    assert trio.nodes["n3"].replica.group.core.membership == made
    assert ("n3", MembershipApplied(made)) in trio.happened, "it is committed, whichever way it came"
    trio.restart("n3")
    assert trio.nodes["n3"].replica.group.core.membership == made


def test_who_joins_after_the_log_was_compacted_gets_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 2_000)
    trio = Trio().boot()
    trio.done(create("a"))
    for number in range(50):
        trio.done(append("a", b"%d" % number * 40))
    trio.join("n4")
    trio.change(Join(Member(N4, 4, rises=True)))
    trio.tick(STEADY_TICKS + LAG_TICKS + 20)
    assert "n4" in trio.saw(SnapshotInstalled)
    assert trio.nodes["n4"].replica.group.core.membership.voters == (N1, N2, N3, N4)
    assert trio.nodes["n4"].content("a") == trio.nodes["n1"].content("a")


@pytest.mark.parametrize(("directory", "itself"), [(7, True), (8, False)])
def test_another_directory_under_the_name_of_the_only_member_is_not_by_itself(directory: int, *, itself: bool) -> None:
    """It comes to that membership on its way through the log: others are, and it needs its ticks to hear them."""
    place = Place(N1, Membership((Member(N1, 7),)), 1, directory=directory)
    group = Group(1, place, MemoryKv(), Now(0, 0), random=lambda _: 0)
    assert (group.by_itself, group.alone) == (itself, itself)
