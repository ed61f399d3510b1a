"""Cluster time is the leader's: no other node's clock runs away with it."""

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import Membership
from durable_streams_cluster.raft.messages import Heartbeat
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.storage.memory import MemoryKv

LEADER, HERE = NodeId("n1"), NodeId("n2")
DAY_MS = 86_400_000


class Follower:
    def __init__(self) -> None:
        members = Membership.of(LEADER, HERE, "n3")
        self.kv = MemoryKv()
        self.replica = Replica(Place(HERE, members, 9), self.kv, Now(0, 0), random=lambda _: 0)

    def hears(self, cluster_ms: int, steady_ms: int) -> None:
        self.replica.deliver(LEADER, [Heartbeat(Term(1), Index(0), 0, cluster_ms)])
        self.kv.write(self.replica.turn(Now(steady_ms, 0)).batch)
        self.replica.written()

    def time(self, steady_ms: int) -> int:
        return self.replica.group.time.at(Now(steady_ms, 0))


def test_a_follower_whose_clock_is_fast_does_not_get_ahead() -> None:
    """After a day, 100 ppm are nine seconds: elected then, it would have ended every window so much too early."""
    follower = Follower()
    for cluster_ms in range(0, DAY_MS, DAY_MS // 100):
        follower.hears(cluster_ms, cluster_ms + cluster_ms // 10_000)
    last = DAY_MS // 100 * 99
    steady_ms = last + last // 10_000
    assert follower.time(steady_ms) == last
    assert follower.time(steady_ms + 2_000) == last + 2_000, "and from what it heard it counts on"


def test_what_is_heard_late_does_not_turn_time_back() -> None:
    follower = Follower()
    follower.hears(5_000, 100)
    follower.hears(4_000, 200)
    assert follower.time(200) == 5_100
