"""What nodes say and ask, to protobuf and back: whatever can be said arrives, and what cannot be is a ValueError."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import AddLearner, Member, Promote, Readdress, Remove
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.members import Join
from durable_streams_cluster.runtime.introductions import (
    Asked,
    Transfer,
    members_from_wire,
    members_to_wire,
    said_from_wire,
    said_to_wire,
    wish_from_wire,
    wish_to_wire,
)
from durable_streams_proto.v1 import peer_pb2 as pb

NODES = st.text("aZ9._-", max_size=62).map(lambda rest: NodeId("n" + rest))
ADDRESSES = st.sampled_from(("host:1", "127.0.0.1:65535", "[::1]:4439", "n1.peers.svc.cluster.local:0"))
MEMBERS = st.builds(Member, NODES, st.integers(1, 2**63 - 1), ADDRESSES, st.booleans(), st.booleans())
SAID = st.builds(
    Said,
    NODES,
    st.integers(1, 2**63 - 1),
    st.just("") | st.text("aZ9._-", min_size=1, max_size=64),
    st.lists(MEMBERS, max_size=4).map(tuple),
    st.booleans(),
    st.lists(st.tuples(NODES, ADDRESSES), max_size=4).map(tuple),
)
WISHES: st.SearchStrategy[Asked] = st.one_of(
    MEMBERS.map(Join),
    MEMBERS.map(AddLearner),
    NODES.map(Promote),
    NODES.map(Remove),
    st.builds(Readdress, NODES, ADDRESSES),
    NODES.map(Transfer) | st.just(Transfer("")),
)


@given(SAID)
def test_what_a_node_says_arrives(said: Said) -> None:
    message = pb.Introduction.FromString(said_to_wire(said).SerializeToString())
    assert said_from_wire(message) == said


@given(st.lists(MEMBERS))
def test_members_arrive(members: list[Member]) -> None:
    assert members_from_wire(members_to_wire(members)) == tuple(members)


@given(WISHES, st.text(max_size=5), st.booleans())
def test_what_is_asked_for_arrives(wish: Asked, cluster: str, handed_on: bool) -> None:
    message = pb.ChangeRequest.FromString(wish_to_wire(wish, cluster, handed_on=handed_on).SerializeToString())
    arrived = wish_from_wire(message)
    assert (type(arrived), arrived) == (type(wish), wish)
    assert (message.cluster, message.handed_on) == (cluster, handed_on)


NO_NODES = ("", "-n1", ".", "n 1", "n\n1", "n\u00e9", "n" * 64)
NO_INCARNATIONS = (0, 2**63, 2**64 - 1)
NO_ADDRESSES = ("", "host", ":1", "host:", "host:65536", "host:-1", "ho st:1", "::1:1", "[x]:1", "host:1\n", "1.2:1")


def introduction(**changed: Any) -> pb.Introduction:
    return pb.Introduction(**{"node": "n1", "incarnation": 1, **changed})


def member(**changed: Any) -> pb.Member:
    return pb.Member(**{"node": "n1", "incarnation": 1, "address": "host:1", **changed})


MALFORMED_MEMBERS = [
    *(member(node=name) for name in NO_NODES),
    *(member(incarnation=number) for number in NO_INCARNATIONS),
    *(member(address=text) for text in NO_ADDRESSES),
    pb.Member(),
]
MALFORMED_SAID = [
    *(introduction(node=name) for name in NO_NODES),
    *(introduction(incarnation=number) for number in NO_INCARNATIONS),
    *(introduction(cluster=text) for text in (" ", "c\n", "c" * 65, "\u00e9")),
    *(introduction(record=[member(), each]) for each in MALFORMED_MEMBERS),
    *(introduction(initial=[member(node=name)]) for name in NO_NODES),
    *(introduction(initial=[member(address=text)]) for text in NO_ADDRESSES),
    pb.Introduction(),
]
MALFORMED_WISHES = [
    pb.ChangeRequest(),
    *(pb.ChangeRequest(join=each) for each in MALFORMED_MEMBERS),
    *(pb.ChangeRequest(add=each) for each in MALFORMED_MEMBERS),
    *(pb.ChangeRequest(promote=name) for name in NO_NODES),
    *(pb.ChangeRequest(remove=name) for name in NO_NODES),
    *(pb.ChangeRequest(transfer=name) for name in NO_NODES if name),
    *(pb.ChangeRequest(readdress=pb.Readdress(node=name, address="host:1")) for name in NO_NODES),
    *(pb.ChangeRequest(readdress=pb.Readdress(node="n1", address=text)) for text in NO_ADDRESSES),
]


def test_what_the_malformed_are_made_from_is_lawful() -> None:
    assert said_from_wire(introduction(record=[member()], initial=[member()])).record
    assert wish_from_wire(pb.ChangeRequest(join=member())) == Join(Member(NodeId("n1"), 1, "host:1", voter=False))


@pytest.mark.parametrize(
    ("read", "messages"), [(said_from_wire, MALFORMED_SAID), (wish_from_wire, MALFORMED_WISHES)], ids=["said", "wish"]
)
def test_what_is_malformed_is_refused(read: Callable[[Any], object], messages: list[Any]) -> None:
    for message in messages:
        with pytest.raises(ValueError, match=r"."):
            read(message)


def test_members_that_are_none_are_refused() -> None:
    for message in MALFORMED_MEMBERS:
        with pytest.raises(ValueError, match=r"."):
            members_from_wire([message])
