"""To whom a leader hands over, of the voters that it knows something of."""

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Follower, RaftCore, Room
from durable_streams_cluster.raft.progress import State


def successor(core: RaftCore, worst: Room) -> NodeId | None:
    """Of the voters that take what they are sent, or have it all, the one that has most.

    One that would refuse appends for want of room comes last; of those that would not, room decides between equals
    only: who drains waits until the other one has everything. Those with less room than ``worst`` do not count.
    None when it does not lead, or nothing is known to arrive anywhere: others end, too, or are cut off.
    """
    status = core.status()
    known = status.followers
    last = status.last.index

    def takes(each: Follower) -> bool:
        return each.state is State.REPLICATE or (each.room is Room.NONE and each.match == last)

    def worth(node: NodeId) -> tuple[bool, bool, int, int]:
        each = known[node]
        return each.active, each.room < Room.LOW, each.match, -each.room

    voters = [node for node in core.membership.voters if node in known]
    return max((node for node in voters if known[node].room <= worst and takes(known[node])), key=worth, default=None)
