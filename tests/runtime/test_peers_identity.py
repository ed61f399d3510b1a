"""Who gets no word in: strangers, namesakes, those who were wiped, and connections that were replaced."""

import asyncio
import contextlib
import logging

import grpc
import pytest

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import Begun, EntryId
from durable_streams_cluster.runtime.greeting import Reason, Refused, introduce
from durable_streams_cluster.runtime.peers import Identity, Kind, Lane
from durable_streams_proto.v1.peer_pb2 import Envelope
from durable_streams_proto.v1.peer_pb2_grpc import PeersStub
from tests.runtime.peering import Node, connected, run, started

WIPED = Refused(Reason.INCARNATION, "it was wiped")
STRANGERS = {
    "cluster": Identity("c2", NodeId("n2"), 1),
    "itself": Identity("c1", NodeId("n1"), 1),
    "malformed": Identity("c1", NodeId("n2"), -1),
    "incarnation": Identity("c1", NodeId("n2"), 2),
}


@pytest.mark.parametrize("reason", [*STRANGERS, "target"])
def test_strangers_get_no_word_in(reason: str) -> None:
    who = STRANGERS.get(reason, Identity("c1", NodeId("n2"), 1))
    target = NodeId("n3" if reason == "target" else "n1")

    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two), grpc.aio.insecure_channel(str(one.address)) as channel:
            for method in (PeersStub(channel).Raft, PeersStub(channel).Bulk):
                call = method(metadata=introduce(who, target))
                assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
                assert (await call.details()).startswith(f"{reason}: ")
                # Who sends something at once may see gRPC's own word for a call that ends meanwhile.
                call = method(metadata=introduce(who, target))
                with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                    await call.write(Envelope(payloads=[b"let me in"]))
                assert await call.code() is not grpc.StatusCode.OK
            assert two.send(one, b"fine")
            await one.until(lambda: len(one.received[two.id]) == 1)
            assert one.received == {two.id: [b"fine"]}
            assert f'peer_rejected_total{{reason="{reason}"}} 4.0' in one.metrics.render().decode()

    run(play())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Node("n2", "n1", cluster="c2"), "FAILED_PRECONDITION: cluster: this is a node of cluster c2"),
        (Node("n3", "n1"), "FAILED_PRECONDITION: target: this is n3"),
        (Node("n2", "n1", accept=lambda who: WIPED), "FAILED_PRECONDITION: incarnation: it was wiped"),
    ],
    ids=["cluster", "target", "incarnation"],
)
def test_a_dialer_that_is_refused_says_so_once_and_tries_on(
    other: Node, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        one = Node("n1", "n2")
        async with started(one), started(other):
            caplog.clear()
            one.peers.readdress(NodeId("n2"), other.address)
            await one.until(lambda: one.error("n2") == one.error("n2", Lane.BULK) == said)
            tries = len(one.pauses) + 16
            await one.until(lambda: len(one.pauses) >= tries)
            assert 2.5 <= one.pauses[-1] <= 5.0
            assert one.connected == one.lost == []
            assert not one.peers.send(NodeId("n2"), b"x", Kind.RAFT)

    with caplog.at_level(logging.WARNING):
        run(play())
    own = [record.getMessage() for record in caplog.records if said in record.getMessage()]
    assert len(own) == 2, "once for each stream"
    assert sum("refused a peer from ipv4:127.0.0.1" in record.getMessage() for record in caplog.records) == 1


def test_a_dialer_believes_no_other_incarnation_either() -> None:
    async def play() -> None:
        one, two = Node("n1", "n2", incarnation=1), Node("n2", "n1", incarnation=1)
        async with connected(one, two):
            port = two.peers.port
            await two.peers.stop()
            async with started(Node("n2", "n1", incarnation=2, port=port)):
                await one.until(lambda: one.error("n2").startswith("incarnation: n2 was incarnation 1, and comes as 2"))
                assert not any(lane.connected for lane in one.peers.status()[two.id].values())

    run(play())


def test_the_newest_stream_of_a_peer_is_the_one() -> None:
    who = Identity("c1", NodeId("n2"), 1)

    async def play() -> None:
        one = Node("n1", "n2")
        async with started(one), grpc.aio.insecure_channel(str(one.address)) as channel:
            old = PeersStub(channel).Raft(metadata=introduce(who, one.id))
            await old.initial_metadata()
            await old.write(Envelope(payloads=[b"1"]))
            await one.until(lambda: one.received[who.node] == [b"1"])
            new = PeersStub(channel).Raft(metadata=introduce(who, one.id))
            await new.initial_metadata()
            await old.write(Envelope(payloads=[b"late"]))
            assert await old.code() is grpc.StatusCode.OK, "the old one has ended"
            await new.write(Envelope(payloads=[b"2"]))
            await one.until(lambda: one.received[who.node] == [b"1", b"2"])
            new.cancel()

    run(play())


def test_whoever_has_forgotten_is_refused_at_both_ends_and_told() -> None:
    """As an old image of n2 is: n1 neither hears it nor speaks to it, and n2 hears from n1 what it has to act on."""
    begun = Begun(1, Term(3), EntryId(Term(3), Index(5)))

    def accept(who: Identity) -> Refused | None:
        return Refused(Reason.IMAGE, "it forgot") if who.begun == begun else None

    async def play() -> None:
        one, two = Node("n1", accept=accept), Node("n2")
        async with started(one, two):
            one.belong(two)
            two.peers.belong(Identity("c1", two.id, 1, str(two.address), begun), {one.id: one.address})
            await two.until(lambda: (one.id, "it forgot") in two.told_old)
            await one.until(lambda: one.error("n2") == "old-image: it forgot")
            assert not two.send(one, b"a vote")
            assert not one.send(two, b"an entry")
            assert one.told_old == []
            assert 'peer_rejected_total{reason="old-image"}' in one.metrics.render().decode()

    run(play())


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.IMAGE])
def test_no_other_refusal_says_that_it_has_forgotten(reason: Reason) -> None:
    async def play() -> None:
        one, two = Node("n1", accept=lambda _: Refused(reason, "no")), Node("n2", "n1")
        async with started(one, two):
            await two.until(lambda: two.error("n1") == f"FAILED_PRECONDITION: {reason.value}: no")
            assert two.told_old == []
            assert set(two.told_removed) == ({one.id} if reason is Reason.REMOVED else set())


def test_who_was_removed_while_it_was_connected_is_told_so() -> None:
    async def play() -> None:
        gone: set[NodeId] = set()
        one = Node("n1", "n2", accept=lambda who: Refused(Reason.REMOVED, "for good") if who.node in gone else None)
        two = Node("n2", "n1")
        async with connected(one, two):
            assert two.told_removed == []
            gone.add(two.id)
            one.peers.set_members({})
            two.send(one, b"it does not know yet")
            await two.until(lambda: two.told_removed != [])
            assert set(two.told_removed) == {one.id}
            assert one.told_removed == []

    run(play())
