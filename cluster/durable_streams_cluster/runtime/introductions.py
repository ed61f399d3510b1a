"""What nodes say of themselves and ask of a leader, to protobuf and back. Pure; what cannot be is refused."""

from collections.abc import Iterable

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import AddLearner, Member, Promote, Readdress, Remove
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.members import Join, Wish
from durable_streams_cluster.runtime.greeting import is_cluster, is_node
from durable_streams_cluster.settings import parse_address
from durable_streams_proto.v1 import peer_pb2 as pb


class Transfer(str):
    """Let this node lead; empty: whoever has most."""

    __slots__ = ()


Asked = Wish | Transfer


def said_to_wire(said: Said) -> pb.Introduction:
    """See :func:`said_from_wire`."""
    return pb.Introduction(
        node=said.node,
        incarnation=said.incarnation,
        cluster=said.cluster,
        record=members_to_wire(said.record),
        begun=said.begun,
        initial=[pb.Member(node=node, address=address) for node, address in said.initial],
        members=members_to_wire(said.members),
    )


def said_from_wire(message: pb.Introduction) -> Said:
    """What a node says of itself. Raises ValueError for what no node says."""
    if message.cluster and not is_cluster(message.cluster):
        raise ValueError("the cluster has no name")
    return Said(
        _node(message.node),
        _incarnation(message.incarnation),
        message.cluster,
        members_from_wire(message.record),
        message.begun,
        tuple((_node(each.node), _address(each.address)) for each in message.initial),
        members_from_wire(message.members),
    )


def members_to_wire(members: Iterable[Member]) -> list[pb.Member]:
    """See :func:`members_from_wire`."""
    return [_member_to_wire(each) for each in members]


def members_from_wire(members: Iterable[pb.Member]) -> tuple[Member, ...]:
    """Members of a cluster. Raises ValueError for what no member is."""
    return tuple(map(_member, members))


def wish_to_wire(wish: Asked, cluster: str, *, handed_on: bool = False) -> pb.ChangeRequest:
    """See :func:`wish_from_wire`; ``cluster`` is the asker's."""
    request = pb.ChangeRequest(cluster=cluster, handed_on=handed_on)
    match wish:
        case Join(member):
            request.join.CopyFrom(_member_to_wire(member))
        case AddLearner(member):
            request.add.CopyFrom(_member_to_wire(member))
        case Promote(node):
            request.promote = node
        case Remove(node):
            request.remove = node
        case Readdress(node, address):
            request.readdress.CopyFrom(pb.Readdress(node=node, address=address))
        case Transfer():
            request.transfer = wish
    return request


def wish_from_wire(request: pb.ChangeRequest) -> Asked:
    """What is asked for. Raises ValueError for what this build does not know, or nobody can mean."""
    match request.WhichOneof("wish"):
        case "join":
            return Join(_member(request.join))
        case "add":
            return AddLearner(_member(request.add))
        case "promote":
            return Promote(_node(request.promote))
        case "remove":
            return Remove(_node(request.remove))
        case "readdress":
            return Readdress(_node(request.readdress.node), _address(request.readdress.address))
        case "transfer":
            return Transfer(_node(request.transfer) if request.transfer else "")
        case _:
            raise ValueError("this build does not know what is asked for")


def _member_to_wire(member: Member) -> pb.Member:
    return pb.Member(
        node=member.node,
        incarnation=member.incarnation,
        address=member.address,
        voter=member.voter,
        rises=member.rises,
    )


def _member(message: pb.Member) -> Member:
    incarnation, address = _incarnation(message.incarnation), _address(message.address)
    return Member(_node(message.node), incarnation, address, message.voter, message.rises)


def _node(name: str) -> NodeId:
    if not is_node(name):
        raise ValueError("a node has no name, or one that no node has")
    return NodeId(name)


def _incarnation(number: int) -> int:
    if not 0 < number < 2**63:
        raise ValueError("a node has no incarnation")
    return number


def _address(text: str) -> str:
    parse_address(text)
    return text
