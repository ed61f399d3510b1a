"""What comes in at a peer listener beside the streams: read as what it says, or refused."""

from google.protobuf.message import DecodeError

from durable_streams_cluster.raft import AddLearner, Member, Promote, Readdress, Remove
from durable_streams_cluster.replica.members import Join
from durable_streams_cluster.runtime.greeting import is_cluster, is_node
from durable_streams_cluster.runtime.introductions import (
    Asked,
    Transfer,
    said_from_wire,
    said_to_wire,
    wish_from_wire,
    wish_to_wire,
)
from durable_streams_cluster.settings import parse_address
from durable_streams_proto.v1 import peer_pb2 as pb
from tests.fuzz.refusals import told


def check_introductions(data: bytes) -> None:
    """Any message: nothing but ``ValueError`` may be raised; what is read is lawful, and arrives as it is."""
    try:
        if data[:1] == b"\1":
            _check_wish(pb.ChangeRequest.FromString(data[1:]))
        else:
            _check_said(pb.Introduction.FromString(data[1:]))
    except DecodeError:
        return  # gRPC hands nothing on that is no message.
    except ValueError as error:
        told(error)


def _check_said(message: pb.Introduction) -> None:
    said = said_from_wire(message)
    assert is_node(said.node)
    assert 0 < said.incarnation < 2**63
    assert not said.cluster or is_cluster(said.cluster)
    for each in said.record:
        _check_member(each)
    for node, address in said.initial:
        _check_place(node, address)
    assert said_from_wire(said_to_wire(said)) == said


def _check_wish(message: pb.ChangeRequest) -> None:
    wish: Asked = wish_from_wire(message)
    match wish:
        case Join(member) | AddLearner(member):
            _check_member(member)
        case Promote(node) | Remove(node):
            assert is_node(node)
        case Readdress(node, address):
            _check_place(node, address)
        case Transfer():
            assert wish == "" or is_node(wish)
    again = wish_from_wire(wish_to_wire(wish, message.cluster))
    assert (type(again), again) == (type(wish), wish)


def _check_member(member: Member) -> None:
    assert 0 < member.incarnation < 2**63
    _check_place(member.node, member.address)


def _check_place(node: str, address: str) -> None:
    assert is_node(node)
    try:
        parse_address(address)
    except ValueError as error:
        raise AssertionError(f"{address!r} is taken for an address") from error
