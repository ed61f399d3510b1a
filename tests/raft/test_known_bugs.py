"""Bugs of consensus that shipped elsewhere, each as the shortest history that shows it; the checker sees every step."""

import pytest

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import (
    NOTHING,
    AppendEntries,
    AppendReply,
    EntryId,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Membership,
    RequestVote,
    Role,
    SnapshotMeta,
    VoteReply,
)
from tests.raft.cluster import Cluster, Packet
from tests.raft.disk import Machine
from tests.raft.history import (
    ELECTION,
    N1,
    N2,
    N3,
    N4,
    N5,
    cluster,
    elect,
    figure_8,
    forge,
    log,
    only,
    pass_time,
    peace,
    write,
)


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """LogCabin #44, canonical/raft #220, PySyncObj #169, NATS #7955; paper, figure 8 (d).

    The entry of term 1 is on three of five, and yet n5, whose last entry is of term 2, may still be elected.
    """
    world = cluster(5, noop=False)
    figure_8(world)
    assert world.nodes[N1].core.log.committed == 0
    world.crash(N1)
    world.restart(N5)
    elect(world, N5, N3, N4)
    write(world, N5, "c")
    world.settle()
    assert log(world, N3) == "2/1 4/2"
    world.restart(N1)
    peace(world)


def test_an_entry_of_an_older_term_is_committed_with_one_of_the_own() -> None:
    """Paper, figure 8 (e): then n5 can not be elected any more."""
    world = cluster(5, noop=False)
    figure_8(world)
    write(world, N1, "c")
    world.settle()
    assert world.nodes[N1].core.log.committed == 2
    world.crash(N1)
    world.restart(N5)
    with pytest.raises(AssertionError, match="is not elected"):
        elect(world, N5, N2, N3, N4)
    world.restart(N1)
    peace(world)
    assert world.checker.chosen[Index(1)] == 1


def test_a_follower_commits_no_further_than_what_the_message_verified() -> None:
    """copycat #265, ScyllaDB #9965, ra #508: the rest of its log may be what another leader left there."""
    world = cluster(5)
    elect(world, N1)
    write(world, N1, "a", "b")
    world.settle()
    only(world, N1, N3)
    write(world, N1, "lost")
    world.settle()
    assert log(world, N3) == "1/1 1/2 1/3 1/4"
    elect(world, N2, N4, N5)
    assert (log(world, N2), world.nodes[N2].core.log.committed) == ("1/1 1/2 1/3 2/4", 4)
    world.cut = {}
    entry = world.nodes[N2].disk.entry(Index(2))
    assert entry is not None
    forge(world, N2, N3, AppendEntries(Term(2), EntryId(Term(1), Index(1)), (entry,), Index(4)))
    world.turn(N3)
    assert world.nodes[N3].core.log.committed == 3
    forge(world, N2, N3, AppendEntries(Term(2), EntryId(Term(1), Index(3)), (), Index(4)))
    world.turn(N3)
    assert world.nodes[N3].core.log.committed == 3
    peace(world)


def test_a_late_append_truncates_nothing_that_agrees_with_it() -> None:
    """hashicorp/raft #113; still in PySyncObj 0.3.17: acknowledged entries disappear."""
    world = cluster()
    elect(world, N1)
    write(world, N1, "a")
    world.duplicate((N1, N2))
    write(world, N1, "b", "c")
    late = world.links[N1, N2][1]
    del world.links[N1, N2][1]
    world.settle()
    world.links[N1, N2].append(late)
    world.settle()
    assert log(world, N2) == "1/1 1/2 1/3 1/4"
    assert world.nodes[N2].disk.durable.last == 4
    assert not world.marks["truncation"]


@pytest.mark.parametrize("cache", [0, 10_000])
def test_nothing_is_read_from_before_a_truncation(cache: int) -> None:
    """CockroachDB #36353: the cache of entries still had those that another leader's had replaced."""
    world = cluster(5, cache=cache)
    elect(world, N1)
    only(world, N1)
    write(world, N1, "a", "b", "c")
    elect(world, N2, N3, N4)
    write(world, N2, "d")
    only(world, N1, N2, N3, N4)
    pass_time(world)
    assert (log(world, N1), world.marks["truncation"]) == ("1/1 2/2 2/3", 1)
    elect(world, N1, N2, N3)
    world.cut = {(N2, N5): True, (N3, N5): True, (N4, N5): True}
    pass_time(world)
    assert log(world, N5) == log(world, N1) == "1/1 2/2 2/3 3/4"


def test_a_leader_that_steps_down_appends_nothing_in_the_new_term() -> None:
    """camunda #5360: an entry of the new term by the old leader, beside the one of the new leader."""
    world = cluster()
    elect(world, N1)
    core = world.nodes[N1].core
    forge(world, N2, N1, VoteReply(Term(5), Term(5), granted=False))
    assert core.term == 5
    assert not core.may_propose
    with pytest.raises(AssertionError, match="only a leader"):
        core.propose(EntryKind.COMMANDS, b"late", 0, 0)
    world.turn(N1)
    assert log(world, N1) == "1/1"
    peace(world)


def test_an_acknowledgement_of_an_older_term_counts_for_nothing() -> None:
    """PySyncObj 0.3.17 (``next_node_idx`` has no term): the entries it tells of were replaced since."""
    world = cluster(5)
    elect(world, N1)
    only(world, N1, N3)
    write(world, N1, "a", "b", "c")
    world.deliver((N1, N3))
    world.turn(N3)
    late = world.links[N3, N1].pop().message
    assert late == AppendReply(Term(1), Index(4))
    elect(world, N2, N4, N5)
    only(world, N1, N2, N4, N5)
    pass_time(world)
    elect(world, N1, N2, N4)
    assert log(world, N1) == "1/1 2/2 3/3"
    assert log(world, N3) == "1/1 1/2 1/3 1/4"
    write(world, N1, "d")
    forge(world, N3, N1, late)
    assert world.nodes[N1].core.status().followers[N3].match == 0
    peace(world)


def test_a_vote_that_comes_twice_is_one_vote() -> None:
    """PySyncObj 0.3.17 (``votesCount += 1`` for each message): a leader by two votes of five."""
    world = cluster(5)
    only(world, N1, N2)
    for _ in range(2 * ELECTION):
        world.tick(N1)
        world.turn(N1)
    world.cut = {}
    forge(world, N2, N1, *[VoteReply(Term(0), Term(1), granted=True, pre=True)] * 5)
    assert world.nodes[N1].core.role is Role.PRE_CANDIDATE
    forge(world, N3, N1, VoteReply(Term(0), Term(1), granted=True, pre=True))
    world.turn(N1)
    assert world.nodes[N1].core.role is Role.CANDIDATE
    forge(world, N2, N1, *[VoteReply(Term(1), Term(1), granted=True)] * 5)
    assert world.nodes[N1].core.role is Role.CANDIDATE
    forge(world, N3, N1, VoteReply(Term(1), Term(1), granted=True))
    assert world.nodes[N1].core.role is Role.LEADER


def test_a_vote_of_an_older_term_counts_for_nothing() -> None:
    """As of acknowledgements: it was given for another election, and its giver may have voted for another since."""
    world = cluster(5)
    only(world)
    for term in (1, 2):
        world.cut = {}
        while world.nodes[N1].core.role is not Role.PRE_CANDIDATE:
            world.tick(N1)
            world.turn(N1)
        for name in (N2, N3):
            forge(world, name, N1, VoteReply(Term(term - 1), Term(term), granted=True, pre=True))
        world.turn(N1)
        assert (world.nodes[N1].core.role, world.nodes[N1].core.term) == (Role.CANDIDATE, term)
    for name in (N2, N3):
        forge(world, name, N1, VoteReply(Term(1), Term(1), granted=True))
    assert world.nodes[N1].core.role is Role.CANDIDATE
    forge(world, N2, N1, VoteReply(Term(2), Term(2), granted=True))
    assert world.nodes[N1].core.role is Role.CANDIDATE
    forge(world, N3, N1, VoteReply(Term(2), Term(2), granted=True))
    assert world.nodes[N1].core.role is Role.LEADER


def test_an_answer_to_a_heartbeat_of_an_earlier_life_confirms_no_read() -> None:
    """As of acknowledgements: rounds are counted anew after a restart, and only the term tells the lives apart."""
    world = cluster()
    elect(world, N1)
    for token in ("a", "b", "c"):
        world.read(N1, token)
        world.turn(N1)
    world.deliver((N1, N2), 2)
    world.turn(N2)
    late = world.links[N2, N1].pop().message
    assert late == HeartbeatReply(Term(1), 3)
    world.crash(N1)
    world.restart(N1)
    elect(world, N1)
    only(world)
    world.read(N1, "d")
    world.turn(N1)
    forge(world, N2, N1, late)
    ready = world.ready(N1)
    assert ready is None or not ready.reads


def test_a_tail_of_another_leader_is_gone_with_a_snapshot() -> None:
    """However long it is: it is not that the log reaches beyond the snapshot that makes it the leader's."""
    world = cluster(5, cache=0)
    elect(world, N1)
    only(world, N1)
    write(world, N1, "a", "b", "c", "d")
    elect(world, N2, N3, N4)
    write(world, N2, "e")
    world.settle()
    world.compact(N2, Index(4))
    world.cut = {}
    peace(world)
    assert world.marks["snapshot installed"]
    assert world.nodes[N1].core.log.newest == world.nodes[N2].core.log.newest


@pytest.mark.parametrize("synced", [True, False])
def test_a_vote_survives_a_restart_or_was_never_given(synced: bool) -> None:
    """PySyncObj #202 (fixed in 0.3.16), etcd #14143 and its kin: after a restart the same member voted once more."""
    world = cluster()
    for _ in range(2 * ELECTION):
        world.tick(N1)
        world.turn(N1)
    for link in ((N1, N2), (N2, N1), (N1, N2)):
        while world.links[link]:
            world.deliver(link)
        world.nodes[N2].stalled = not synced and link == (N1, N2) and world.nodes[N1].core.role is Role.CANDIDATE
        world.turn(link[1])
    voted = [packet.message for packet in world.links[N2, N1]]
    assert voted == ([VoteReply(Term(1), Term(1), granted=True)] if synced else [])
    world.crash(N2)
    world.restart(N2)
    assert world.nodes[N2].core.status().hard_state.vote == (N1 if synced else None)
    assert world.nodes[N2].core.term == (1 if synced else 0)
    peace(world)


def test_a_vote_in_a_term_that_was_known_before_survives_too() -> None:
    """The same bugs, where the term was stored some time before the vote."""
    world = cluster()
    forge(world, N3, N2, VoteReply(Term(4), Term(4), granted=False))
    world.turn(N2)
    forge(world, N1, N2, RequestVote(Term(4), NOTHING))
    world.turn(N2)
    world.crash(N2)
    world.restart(N2)
    forge(world, N3, N2, RequestVote(Term(4), NOTHING))
    world.turn(N2)
    assert [packet.message for packet in world.links[N2, N3]] == [VoteReply(Term(4), Term(4), granted=False)]


def test_whatever_a_crash_leaves_each_entry_is_applied_once_to_the_state_it_left() -> None:
    """etcd 3.5 post-mortem: the applied mark was saved apart from the data, and replicas went different ways."""
    for keep in range(12):
        world = cluster()
        elect(world, N1)
        world.nodes[N2].stalled = True
        for data in ("a", "b", "c"):
            write(world, N1, data)
            world.settle()
        world.crash(N2, keep)
        world.restart(N2)
        peace(world)
        assert world.nodes[N2].disk.visible.machine == world.nodes[N1].disk.visible.machine


def test_a_read_that_is_confirmed_in_the_turn_in_which_the_lead_is_lost_is_not_answered() -> None:
    """etcd #20418, #21375: of two signals that were both there the wrong one was taken, and the read was stale."""
    world = cluster()
    elect(world, N1)
    world.read(N1, "r")
    world.turn(N1)
    world.deliver((N1, N2))
    world.turn(N2)
    world.links[N3, N1].append(Packet(Heartbeat(Term(2), Index(0), 0)))
    world.deliver((N2, N1))
    world.deliver((N3, N1))
    ready = world.ready(N1)
    assert ready is not None
    assert (ready.reads, ready.failed_reads) == ((), ("r",))


def test_a_snapshot_older_than_what_is_applied_does_not_stop_replication() -> None:
    """ra #508, its second half: the follower answered nothing that the leader could go on from."""
    world = cluster(cache=0)
    elect(world, N1)
    write(world, N1, "a", "b")
    world.settle()
    old = world.nodes[N1].disk.visible.machine
    write(world, N1, "c", "d")
    world.settle()
    before = world.nodes[N3].disk.visible.machine
    forge(world, N1, N3, InstallSnapshot(Term(1), SnapshotMeta(old.applied, Membership.of(*world.names))))
    ready = world.ready(N3)
    assert ready is not None
    assert ready.snapshot is None
    assert [each.message for each in ready.send_now] == [AppendReply(Term(1), Index(5))]
    assert world.nodes[N3].disk.visible.machine == before
    write(world, N1, "e")
    peace(world)
    assert world.nodes[N3].core.log.committed == 6


def _snapshot(world: Cluster, machine: Machine) -> InstallSnapshot:
    world.nodes[N3].arrived[machine.applied] = machine
    return InstallSnapshot(Term(1), SnapshotMeta(machine.applied, Membership.of(*world.names)))


@pytest.mark.parametrize("newest_first", [False, True])
def test_two_snapshots_before_the_first_is_written(newest_first: bool) -> None:
    """etcd #18055: a panic; here the newer one is taken, in whichever order they come."""
    world = cluster(cache=0)
    elect(world, N1)
    world.cut = {(N1, N3): True}
    write(world, N1, "a", "b")
    world.settle()
    first = _snapshot(world, world.nodes[N1].disk.visible.machine)
    write(world, N1, "c", "d")
    world.settle()
    second = _snapshot(world, world.nodes[N1].disk.visible.machine)
    world.cut = {}
    forge(world, N1, N3, *([second, first] if newest_first else [first, second]))
    ready = world.ready(N3)
    assert ready is not None
    assert ready.snapshot == second.meta
    world.turn(N3)
    write(world, N1, "e")
    peace(world)
    assert world.nodes[N3].disk.visible.machine == world.nodes[N1].disk.visible.machine


def test_a_group_of_one_leads_for_ever() -> None:
    """KAFKA-16144: the only voter counted the quorum it had not heard from, and resigned."""
    world = cluster(1)
    elect(world, N1)
    for _ in range(10 * ELECTION):
        world.tick(N1)
        world.turn(N1)
    assert world.nodes[N1].core.role is Role.LEADER
    assert world.nodes[N1].core.term == 1


def test_a_log_that_lost_what_it_acknowledged_is_no_short_log() -> None:
    """NATS #7587: a truncated log was taken for one that is behind, and its owner voted and led."""
    world = cluster()
    elect(world, N1)
    write(world, N1, "a", "b", "c")
    world.settle()
    node = world.nodes[N2]
    world.crash(N2)
    node.disk.durable.machine = Machine()
    for number in (3, 4):
        del node.disk.durable.entries[Index(number)]
    node.disk.durable.last = Index(2)
    node.disk.crash()
    assert list(world.start(N2)) == [N1], "whoever led remembers, and refuses it"
    # Whoever heard it nevertheless would not take it for one that is behind, either.
    with pytest.raises(AssertionError, match="acknowledged log entry 4 and has 2: its disk was replaced"):
        peace(world)
