"""How a node says it is, and how it gathers what the others say: who leads, who is behind, who does not answer."""

import asyncio
from random import Random

from durable_streams_cluster import __version__
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.raft import Member, Membership
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.reports import CATCH_UP_S, Reports, Standing
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_proto.v1.peer_pb2 import Follower, ReportReply
from tests.runtime.world import SimulatedClock, create, simulate, started

MEMBERS = tuple(Member(NodeId(f"n{number}"), number, f"h{number}:4439", voter=number < 4) for number in range(1, 5))
STORED = StoredIdentity(NodeId("n1"), 1, "c-1", MEMBERS, begun=True)
FINE = Standing((), draining=False)


class Others:
    """Answer as a test says; who is not in ``reports`` does not."""

    def __init__(self, **reports: ReportReply) -> None:
        self.reports = {f"h{name[1:]}:4439": report for name, report in reports.items()}
        self.asked: list[tuple[str, str]] = []

    async def report(self, address: str, cluster: str) -> ReportReply:
        self.asked.append((address, cluster))
        if address not in self.reports:
            raise ConnectionError(f"{address}: no answer within 2 s")
        return self.reports[address]


def one_of_four(others: Others) -> Reports:
    """n1, which has never heard from the others."""
    clock = SimulatedClock()
    kv = MemoryKv()
    place = Place(NodeId("n1"), Membership(MEMBERS), 1)
    replica = Replica(place, kv, Now(clock.steady_ms(), 0), random=Random(1).randrange)
    driver = Driver(replica, kv, clock, Limits(), Metrics(), lambda _: None)
    return Reports(STORED, driver, lambda: FINE, others)


def report(name: str, term: int, **more: object) -> ReportReply:
    return ReportReply(node=name, incarnation=int(name[1:]), term=term, **more)  # type: ignore[arg-type]


def leads(name: str, term: int, committed: int, **match: int) -> ReportReply:
    followers = [Follower(node=node, match=index) for node, index in match.items()]
    return report(
        name, term, role=ReportReply.LEADER, leader=name, committed_index=committed, last_index=99, followers=followers
    )


def test_a_node_alone_says_how_it_is() -> None:
    async def play() -> None:
        world = await started()
        await world.streams.create(create("a"))
        stored = StoredIdentity(NodeId("n1"), 7, "c-1", begun=True)
        standing = Standing(["disk: almost full"], draining=True)
        reply = await Reports(stored, world.driver, lambda: standing, None).gather(members_only=False)
        assert (reply.cluster, reply.leader, reply.term, reply.current) == ("c-1", "n1", 1, True)
        (row,) = reply.members
        assert row.reachable
        assert (row.lag, row.HasField("match_index")) == (0, False)
        said = row.report
        assert (said.node, said.incarnation, said.version, said.role) == ("n1", 7, __version__, ReportReply.LEADER)
        assert (said.first_index, said.last_index, said.committed_index, said.applied_index) == (1, 2, 2, 2)
        assert (said.disk_free, said.disk_size) == (0, 0), "it has none"
        assert (list(said.not_ready), said.draining) == (["disk: almost full"], True)

    simulate(play)


def test_the_leader_of_the_newest_term_says_how_far_the_others_are() -> None:
    async def play() -> None:
        others = Others(n2=leads("n2", 4, 90, n1=1, n3=1), n3=leads("n3", 5, 50, n1=48, n2=60, n4=10))
        reply = await one_of_four(others).gather(members_only=False)
        assert (reply.leader, reply.term, reply.current) == ("n3", 5, False)
        assert [row.reachable for row in reply.members] == [True, True, True, False]
        assert [row.lag for row in reply.members] == [2, 0, 0, 40]
        assert [row.match_index for row in reply.members] == [48, 60, 0, 10]
        assert reply.members[3].error == "h4:4439: no answer within 2 s"
        assert [row.member.voter for row in reply.members] == [True, True, True, False]
        assert sorted(others.asked) == [(f"h{number}:4439", "c-1") for number in (2, 3, 4)]

    simulate(play)


def test_a_leader_that_does_not_answer_is_known_by_those_that_follow_it() -> None:
    async def play() -> None:
        reply = await one_of_four(Others(n3=report("n3", 6, leader="n2"))).gather(members_only=False)
        assert (reply.leader, reply.term) == ("n2", 6)
        assert not any(row.HasField("lag") or row.HasField("match_index") for row in reply.members)

    simulate(play)


def test_who_answers_in_a_members_place_is_not_that_member() -> None:
    async def play() -> None:
        wiped = report("n3", 1)
        wiped.incarnation = 33
        reply = await one_of_four(Others(n2=report("n9", 1), n3=wiped)).gather(members_only=False)
        assert [row.reachable for row in reply.members] == [True, False, False, False]
        assert "n9 answers" in reply.members[1].error
        assert "n3 answers, with data directory 33" in reply.members[2].error

    simulate(play)


def test_only_members_are_known_without_asking_anybody_and_in_bounded_time() -> None:
    async def play() -> None:
        others = Others()
        reports = one_of_four(others)
        before = asyncio.get_running_loop().time()
        reply = await reports.gather(members_only=True)
        assert asyncio.get_running_loop().time() - before <= CATCH_UP_S + 0.01
        assert [row.member.node for row in reply.members] == ["n1", "n2", "n3", "n4"]
        assert not any(row.reachable for row in reply.members)
        assert not reply.current
        assert others.asked == []

    simulate(play)
