"""Who belongs: the steps between memberships, and histories with them whose bugs shipped elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import MAX_MEMBERS
from durable_streams_cluster.raft import (
    FEATURE_LEVEL,
    NOTHING,
    AddLearner,
    AppendEntries,
    AppendReply,
    Change,
    Entry,
    EntryKind,
    HardState,
    Member,
    Membership,
    Objection,
    Promote,
    RaftCore,
    Readdress,
    Remove,
    ReplicaId,
    Role,
    changed,
)
from durable_streams_cluster.raft.membership import REMEMBERED, Memberships, decode, encode, voters_apart
from tests.raft.checker import GROUP
from tests.raft.disk import Batch, Disk
from tests.raft.history import N1, N2, N3, N4, cluster, elect, forge, pass_time, peace, write

NAMES = [NodeId(f"n{number}") for number in range(1, 8)]
names = st.sampled_from(NAMES)
changes = st.one_of(
    st.builds(AddLearner, st.builds(Member, names, st.integers(1, 12), st.just("host:1"))),
    st.builds(Promote, names),
    st.builds(Remove, names),
    st.builds(Readdress, names, st.sampled_from(("host:1", "host:2"))),
)


@given(st.lists(changes, max_size=30))
def test_any_majority_before_a_step_and_any_after_it_share_a_voter(steps: list[Change]) -> None:
    now = Membership.of("n1", "n2", "n3")
    for step in steps:
        made = changed(now, step)
        if isinstance(made, Objection):
            continue
        assert made != now
        assert voters_apart(now, made) <= 1
        assert made.voters
        assert list(made.nodes) == sorted(dict.fromkeys(made.nodes))
        assert not {each.incarnation for each in made.members if each.incarnation} & set(made.removed)
        assert sorted(made.voters + made.learners) == list(made.nodes)
        now = made
    assert decode(encode(now)) == now


def three() -> Membership:
    return Membership(tuple(Member(NodeId(f"n{number}"), number, f"host:{number}") for number in range(1, 4)))


def test_a_learner_joins_is_promoted_and_leaves() -> None:
    learner = Member(N4, 4, "host:4", voter=True, rises=True)
    joined = changed(three(), AddLearner(learner))
    assert isinstance(joined, Membership)
    assert (joined.voters, joined.learners) == ((N1, N2, N3), (N4,))
    promoted = changed(joined, Promote(N4))
    assert isinstance(promoted, Membership)
    assert promoted.member(N4) == Member(N4, 4, "host:4")
    left = changed(promoted, Remove(N4))
    assert left == Membership(three().members, removed=(4,))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (AddLearner(Member(N1, 1)), Objection.NOTHING),
        (AddLearner(Member(N1, 9)), Objection.NAME),
        (AddLearner(Member(N4, 1)), Objection.COPY),
        (Promote(N4), Objection.UNKNOWN),
        (Promote(N1), Objection.NOTHING),
        (Remove(N4), Objection.UNKNOWN),
        (Readdress(N1, "host:1"), Objection.NOTHING),
        (Readdress(N4, "host:1"), Objection.UNKNOWN),
    ],
)
def test_a_step_that_leads_nowhere_says_why(change: Change, why: Objection) -> None:
    assert changed(three(), change) is why


def test_the_last_voter_stays_even_beside_learners() -> None:
    alone = changed(Membership.of("n1"), AddLearner(Member(N2, 2)))
    assert isinstance(alone, Membership)
    assert changed(alone, Remove(N1)) is Objection.LAST


def test_a_directory_that_was_removed_does_not_come_back() -> None:
    left = changed(three(), Remove(N3))
    assert isinstance(left, Membership)
    assert changed(left, AddLearner(Member(N3, 3))) is Objection.REMOVED
    assert isinstance(changed(left, AddLearner(Member(N3, 30))), Membership)


def test_no_more_join_than_are_supported() -> None:
    full = Membership(tuple(Member(NodeId(f"n{number:02}"), number) for number in range(1, MAX_MEMBERS + 1)))
    assert changed(full, AddLearner(Member(NodeId("x"), 99))) is Objection.FULL


def test_what_is_remembered_of_former_members_is_bounded() -> None:
    now = Membership.of("n1")
    for number in range(1, REMEMBERED + 10):
        for change in (AddLearner(Member(N2, number)), Remove(N2)):
            made = changed(now, change)
            assert isinstance(made, Membership)
            now = made
    assert now.removed == tuple(range(10, REMEMBERED + 10))


def test_what_this_build_does_not_know_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="format 2"):
        decode(encode(three()).replace(b"\x92\x01", b"\x92\x02", 1))
    with pytest.raises(ValueError, match="malformed"):
        decode(b"\xc1")


def test_a_membership_is_the_newest_in_the_log_and_goes_with_its_entry() -> None:
    one, two, other = Membership.of("n1"), Membership.of("n1", "n2"), Membership.of("n1", "n3")
    known = Memberships(one)
    known.append(Index(3), two)
    known.append(Index(5), other)
    assert (known.newest, known.newest_index, known.applied) == (other, 5, one)
    assert [known.at(Index(index)) for index in (2, 3, 4, 5)] == [one, two, two, other]
    known.truncate(Index(5))
    assert (known.newest, known.newest_index) == (two, 3)
    known.mark_applied(Index(4))
    assert (known.newest, known.newest_index, known.applied) == (two, 0, two)
    known.truncate(Index(5))
    assert known.newest == two
    known.append(Index(6), one)
    known.restore(other)
    assert (known.newest, known.newest_index) == (other, 0)


# --------------------------------------------------------------------------------------------------------- histories


def test_what_a_former_member_acknowledges_counts_for_nothing() -> None:
    """NATS #7589: an acknowledgement of a member that was removed made an entry committed that one of two had."""
    world = cluster()
    elect(world, N1)
    world.cut = {}
    world.settle()
    world.change(N1, Remove(N3))
    world.settle()
    world.cut = dict.fromkeys(((N1, N2), (N2, N1)), True)
    write(world, N1, "a")
    newest, committed = world.nodes[N1].core.log.last, world.nodes[N1].core.log.committed
    forge(world, N3, N1, AppendReply(Term(1), newest))
    world.turn(N1)
    assert world.nodes[N1].core.log.committed == committed < newest


def test_a_leader_that_removes_itself_leads_until_the_others_have_it() -> None:
    """KAFKA-17608: a leader that removed itself ended in an error. Thesis 4.2.2."""
    world = cluster()
    elect(world, N1)
    world.cut = {}
    world.settle()
    world.cut = {link: True for link in world.links if N1 in link}
    world.change(N1, Remove(N1))
    world.settle()
    assert world.nodes[N1].core.role is Role.LEADER, "its own disk is no majority of the two that stay"
    world.cut = {}
    world.settle()
    pass_time(world)
    assert world.nodes[N1].core.role is Role.FOLLOWER
    assert world.leaders in ([N2], [N3])
    assert world.nodes[N2].core.membership.voters == (N2, N3)


def test_who_alone_has_the_entry_that_removes_it_may_still_be_elected() -> None:
    """Thesis 4.2.2: of two, the leader removes itself, and stops before the other has the entry.

    Found by ``test_random``: the other cannot be elected without the vote of a node whose log is newer than its own,
    and that one counted itself out.
    """
    world = cluster(2)
    elect(world, N2)
    world.settle()
    world.cut = dict.fromkeys(world.links, True)
    world.change(N2, Remove(N2))
    world.settle()
    world.crash(N2)
    world.restart(N2)
    assert world.nodes[N2].core.membership.voters == (N1,)
    world.cut = {}
    pass_time(world)
    assert world.leaders == [N1]
    assert world.nodes[N1].core.membership.voters == (N1,)


def test_a_leader_with_learners_alone_counts_no_quorum() -> None:
    """KAFKA-16144, with a learner that is away: the only voter has its majority at hand."""
    world = cluster(1)
    elect(world, N1)
    world.join(N2)
    world.change(N1, Remove(N2))
    assert not isinstance(world.change(N1, AddLearner(Member(N2))), Objection)
    world.settle()
    world.crash(N2)
    pass_time(world)
    assert world.leaders == [N1]
    assert not world.marks["a majority was not heard from for an election timeout"]


def test_a_new_directory_does_not_take_the_place_of_the_one_before_it() -> None:
    """A wiped node that joins anew finds in the log that its name was alone once: it led at once, by its own vote."""
    alone = Membership((Member(N1, 1),))
    both = Membership((Member(N1, 1), Member(N2, 2, voter=False)))
    entries = tuple(
        Entry(Term(1), Index(number), EntryKind.MEMBERSHIP, FEATURE_LEVEL, 0, 0, encode(membership))
        for number, membership in enumerate((both, alone), 1)
    )
    roles = []
    for incarnation in (1, 7):
        disk = Disk(None)
        core = RaftCore(GROUP, ReplicaId(N1, incarnation), Membership(), HardState(), disk, NOTHING, random=lambda _: 0)
        core.step(N2, AppendEntries(Term(2), NOTHING, entries, Index(2)))
        for _ in range(200):
            core.tick()
            if (ready := core.ready()) is not None:
                disk.write(Batch(ready))
                disk.sync(ready.number)
                core.persisted(ready.number)
        assert core.membership == alone
        roles.append(core.role)
    assert roles == [Role.LEADER, Role.FOLLOWER]


def test_an_empty_disk_neither_stands_nor_decides_a_vote() -> None:
    """NATS #7038: a node that came back without its disk elected one that lacked what was committed."""
    world = cluster()
    elect(world, N1, N2)
    write(world, N1, "a")
    world.settle()
    world.crash(N1)
    world.join(N4)
    world.cut = {link: True for link in world.links if N2 in link}
    pass_time(world)
    assert world.leaders == [], "n3 lacks an entry, and n4, who would vote for it, is nobody"
    world.restart(N1)
    world.cut = {}
    world.names = (N1, N2, N3)
    world.crash(N4)
    peace(world)
