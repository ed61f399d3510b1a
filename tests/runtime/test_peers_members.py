"""Peers come and go while the transport runs: who is dialed, who is let in, and that nothing is left of who went."""

import asyncio
import threading

import grpc
import pytest

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import MAX_PEERS, PeerLimits
from durable_streams_cluster.raft import Remove
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.greeting import Identity, Reason, Refused, introduce
from durable_streams_cluster.runtime.grpc_asking import Contacts
from durable_streams_cluster.runtime.introductions import Asked
from durable_streams_cluster.runtime.peers import Kind
from durable_streams_cluster.settings import Address
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest, Introduction
from durable_streams_proto.v1.peer_pb2_grpc import PeersStub
from tests.runtime.peering import NOWHERE, Node, connected, run, started

N2 = NodeId("n2")


class Answers:
    """What a node answers to questions."""

    def __init__(self, said: Said) -> None:
        self.said = said
        self.heard: list[Said] = []
        self.changes: list[tuple[Asked, str, bool]] = []

    def introduced(self, said: Said) -> Said:
        self.heard.append(said)
        return self.said

    async def change(self, wish: Asked, cluster: str, *, handed_on: bool) -> ChangeReply:
        self.changes.append((wish, cluster, handed_on))
        return ChangeReply(result=ChangeReply.REFUSED, text="not today")


def test_members_are_dialed_and_former_members_are_not() -> None:
    async def play() -> None:
        one, two, three = Node("n1", "n2"), Node("n2", "n1"), Node("n3")
        async with connected(one, two), started(three):
            one.peers.set_members({three.id: three.address})
            three.peers.set_members({one.id: one.address})
            await one.until(lambda: one.is_connected(three))
            assert list(one.peers.status()) == ["n3"]
            assert not one.send(two, b"to nobody")
            assert one.send(three, b"hello")
            await three.until(lambda: three.received[one.id] == [b"hello"])
            await one.until(lambda: "n2" in one.lost)
            one.peers.set_members({three.id: three.address})
            assert one.send(three, b"again"), "one that stays keeps its streams"
            await three.until(lambda: len(three.received[one.id]) == 2)

    run(play())


def test_a_member_that_is_named_elsewhere_is_dialed_there() -> None:
    async def play() -> None:
        one, two, moved = Node("n1", "n2"), Node("n2", "n1"), Node("n2", "n1")
        async with connected(one, two), started(moved):
            one.connected.clear()
            one.peers.set_members({moved.id: moved.address})
            await one.until(lambda: len(one.connected) == 2)
            assert one.send(moved, b"here")
            await moved.until(lambda: moved.received[one.id] == [b"here"])

    run(play())


def test_one_of_no_cluster_refuses_streams_and_answers_questions() -> None:
    said = Said(NodeId("n1"), 1)

    async def play() -> None:
        answers = Answers(said)
        one, two = Node("n1", cluster="", questions=answers), Node("n2", "n1")
        async with started(one, two):
            await two.until(lambda: two.error("n1") == "FAILED_PRECONDITION: cluster: this is a node of no cluster yet")
            other = Said(N2, 2, "c1", begun=True)
            contacts = Contacts(PeerLimits())
            assert await contacts.introduce(str(one.address), other) == said
            assert answers.heard == [other]
            reply = await contacts.change(str(one.address), Remove(N2), "c1", handed_on=True)
            assert (reply.text, answers.changes) == ("not today", [(Remove(N2), "c1", True)])
            # Then it is of one.
            one.belong(two)
            await one.until(lambda: one.is_connected(two))
            await two.until(lambda: two.is_connected(one))

    run(play())


def test_questions_that_nobody_can_mean_are_refused() -> None:
    async def play() -> None:
        one = Node("n1", questions=Answers(Said(NodeId("n1"), 1)))
        async with started(one), grpc.aio.insecure_channel(str(one.address)) as channel:
            stub = PeersStub(channel)
            for call in (stub.Introduce(Introduction(node="n 1", incarnation=1)), stub.Change(ChangeRequest())):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(play())


def test_whoever_cannot_be_asked_is_no_connection() -> None:
    async def play() -> None:
        contacts, said = Contacts(PeerLimits()), Said(NodeId("n1"), 1)
        for address in ("127.0.0.1:1", "nowhere", "no-such-host.invalid:1"):
            with pytest.raises(ConnectionError, match=r"^(127|nowhere|no-such)"):
                await contacts.introduce(address, said)
            with pytest.raises(ConnectionError, match=r"^(127|nowhere|no-such)"):
                await contacts.change(address, Remove(N2), "")
        nobody = Node("n1")
        async with started(nobody):
            with pytest.raises(ConnectionError, match="INVALID_ARGUMENT: nobody answers here"):
                await contacts.introduce(str(nobody.address), said)

    run(play())


def test_one_that_was_not_heard_of_gets_answers_if_it_says_where_it_listens() -> None:
    async def play() -> None:
        one, added, silent = Node("n1"), Node("n4", cluster=""), Node("n5", "n1")
        async with started(one, added, silent):
            added.belong(one)
            silent.dials(one)
            await one.until(lambda: added.id in one.peers.status() and one.is_connected(added))
            assert one.send(added, b"welcome")
            await added.until(lambda: added.received[one.id] == [b"welcome"])
            assert one.moved == [("n4", str(added.address))], "once for both streams"
            await silent.until(lambda: silent.is_connected(one))
            assert silent.id not in one.peers.status()

    run(play())


def test_one_that_moved_and_says_so_is_found() -> None:
    async def play() -> None:
        one, moved = Node("n1", "n2"), Node("n2", cluster="")
        async with started(one, moved):
            one.peers.readdress(N2, NOWHERE)
            moved.belong(one)
            await one.until(lambda: one.is_connected(moved))
            assert one.peers.addresses == {N2: moved.address}
            assert one.moved == [(N2, str(moved.address))]

    run(play())


def test_one_that_does_not_belong_any_more_is_not_heard_and_is_told_why() -> None:
    async def play() -> None:
        removed: set[str] = set()
        gone = Refused(Reason.INCARNATION, "it was removed")
        one = Node("n1", "n2", "n3", accept=lambda who: gone if who.node in removed else None)
        two, three = Node("n2", "n1"), Node("n3", "n1")
        async with started(one, two, three):
            for node in (two, three):
                await node.until(lambda node=node: node.is_connected(one))  # type: ignore[misc]
                await one.until(lambda node=node: one.is_connected(node))  # type: ignore[misc]
            removed.add("n2")
            one.peers.set_members({three.id: three.address})
            two.send(one, b"a word")
            two.send(one, b"a large word", Kind.BULK)
            told = "FAILED_PRECONDITION: incarnation: it was removed"
            await two.until(lambda: two.error("n1") == told)
            assert one.received[two.id] == []
            assert three.send(one, b"still here")
            await one.until(lambda: one.received[three.id] == [b"still here"])

    run(play())


def test_who_speaks_to_this_node_is_answered_whatever_membership_it_has_come_to() -> None:
    """One that joined learned of a membership without the leader that told it: it hung up, and was told no more."""

    async def play() -> None:
        joined, leader = Node("n1", cluster=""), Node("n2", cluster="")
        async with started(joined, leader):
            joined.belong()
            leader.belong(joined)
            await joined.until(lambda: "n2" in joined.peers.status() and joined.is_connected(leader))
            joined.peers.set_members({NodeId("n3"): NOWHERE})
            assert list(joined.peers.status()) == ["n3", "n2"]
            assert joined.send(leader, b"go on")
            await leader.until(lambda: leader.received[joined.id] == [b"go on"])

    run(play())


def test_no_more_are_dialed_than_there_may_be() -> None:
    async def play() -> None:
        one = Node("n1")
        async with started(one), grpc.aio.insecure_channel(str(one.address)) as channel:
            one.peers.set_members({NodeId(f"m{number}"): NOWHERE for number in range(MAX_PEERS - 1)})
            for number in range(3):
                who = Identity("c1", NodeId(f"s{number}"), 1, "127.0.0.1:1")
                call = PeersStub(channel).Raft(metadata=introduce(who, one.id))
                await call.initial_metadata()
                call.cancel()
            assert len(one.peers.status()) == MAX_PEERS

    run(play())


def test_many_changes_leave_nothing_behind() -> None:
    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two):
            tasks, threads = len(asyncio.all_tasks()), threading.active_count()
            for number in range(60):
                others = {NodeId(f"m{number}{each}"): Address("127.0.0.1", 1 + each) for each in range(4)}
                one.peers.set_members({two.id: two.address, **others})
                await asyncio.sleep(0)
                one.peers.set_members({two.id: two.address})
                await asyncio.sleep(0)
            assert list(one.peers.status()) == ["n2"]
            async with asyncio.timeout(20):
                while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0.01)
            assert threading.active_count() <= threads + 1, "the one that looks up names"
            assert one.send(two, b"still here")
            await two.until(lambda: two.received[one.id] == [b"still here"])

    run(play())
