"""Taking in a node that cannot ask for itself: who is believed to wait there, and what it is told."""

import asyncio

import pytest

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.members import Join
from durable_streams_cluster.runtime.introductions import Asked, members_to_wire
from durable_streams_cluster.runtime.operating import Operating
from durable_streams_proto.v1 import peer_pb2 as pb
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest

N1 = Member(NodeId("n1"), 1, "a:4439")
N4 = Member(NodeId("n4"), 4, "d:4439", voter=False, rises=True)
OWN = Said(N1.node, 1, "c-1", (N1,), begun=True)
ADD = ChangeRequest(join=pb.Member(node="n4", address="d:4439", rises=True))


class Belonging:
    """n1 of c-1: the answers of the node at d:4439, and of the leader, are given."""

    said = OWN
    waits_for = ""

    def __init__(self, *answers: Said | ConnectionError, result: "ChangeReply.Result.ValueType") -> None:
        self.contacts = self
        self.answers = list(answers)
        self.told: list[Said] = []
        self.wishes: list[tuple[Asked, str]] = []
        self.reply = ChangeReply(result=result, text="as said", members=members_to_wire([N1, N4]))

    async def introduce(self, address: str, said: Said) -> Said:
        assert address == "d:4439"
        self.told.append(said)
        answer = self.answers.pop(0)
        if isinstance(answer, ConnectionError):
            raise answer
        return answer

    async def change(self, wish: Asked, cluster: str, *, handed_on: bool) -> ChangeReply:
        assert not handed_on
        self.wishes.append((wish, cluster))
        return self.reply


def ask(belonging: Belonging, request: ChangeRequest = ADD) -> ChangeReply:
    operating = Operating(belonging)
    operating.attach(object())
    copy = ChangeRequest()
    copy.CopyFrom(request)
    return asyncio.run(operating.change(copy))


def test_a_node_that_waits_is_taken_in_with_its_own_directory_and_told() -> None:
    belonging = Belonging(Said(N4.node, 4), Said(N4.node, 4), result=ChangeReply.DONE)
    assert ask(belonging) == belonging.reply
    assert belonging.wishes == [(Join(N4), "")]
    assert [said.members for said in belonging.told] == [(), (N1, N4)]
    assert belonging.told[1].cluster == "c-1"


def test_one_that_cannot_be_told_is_a_member_nevertheless() -> None:
    belonging = Belonging(Said(N4.node, 4), ConnectionError("d:4439: gone"), result=ChangeReply.DONE)
    reply = ask(belonging)
    assert reply.result == ChangeReply.DONE
    assert reply.text == "n4 is a member and does not know it yet: d:4439: gone. Next step: ask for the same again"


@pytest.mark.parametrize("result", [ChangeReply.REFUSED, ChangeReply.NO_LEADER, ChangeReply.UNKNOWN])
def test_one_that_is_not_taken_in_is_told_nothing(result: "ChangeReply.Result.ValueType") -> None:
    belonging = Belonging(Said(N4.node, 4), result=result)
    assert ask(belonging).result == result
    assert len(belonging.told) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (ConnectionError("d:4439: refused"), "n4 cannot be reached: d:4439: refused. Next step: start it there"),
        (Said(NodeId("n5"), 5), "at d:4439 is n5, and not n4"),
        (Said(N4.node, 4, "c-2", (), begun=True), "n4 is of cluster c-2. Next step: start it with --join on an empty"),
        (Said(N4.node, 4, initial=((N4.node, "d:4439"),)), "n4 waits to begin a cluster with others. Next step: start"),
    ],
)
def test_who_does_not_wait_is_not_taken_in(answer: Said | ConnectionError, says: str) -> None:
    belonging = Belonging(answer, result=ChangeReply.DONE)
    reply = ask(belonging)
    assert reply.result == ChangeReply.REFUSED
    assert says in reply.text
    assert belonging.wishes == []


def test_who_was_a_member_already_may_be_asked_for_again() -> None:
    belonging = Belonging(Said(N4.node, 4, "c-1", begun=True), Said(N4.node, 4, "c-1"), result=ChangeReply.DONE)
    assert ask(belonging).result == ChangeReply.DONE


def test_what_nobody_can_mean() -> None:
    for request in (ChangeRequest(), ChangeRequest(remove=""), ChangeRequest(promote="no name")):
        with pytest.raises(ValueError, match=r"node has no name|does not know what is asked"):
            ask(Belonging(result=ChangeReply.DONE), request)


def test_before_the_node_is_of_a_cluster_there_is_nothing_to_change() -> None:
    belonging = Belonging(result=ChangeReply.DONE)
    belonging.waits_for = "waits for n2 to begin the cluster"
    reply = asyncio.run(Operating(belonging).change(ADD))
    assert reply.result == ChangeReply.NO_LEADER
    assert reply.text == "this node is of no cluster yet: waits for n2 to begin the cluster"
