"""A node that waits to join and cannot reach anybody: an operator has it taken in, and it is told."""

import asyncio

import pytest

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.birth import Birth
from durable_streams_cluster.runtime.introductions import Asked, said_from_wire, said_to_wire
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply
from tests.runtime.world import settle, simulate

N1 = Member(NodeId("n1"), 1, "a:4439")
N4 = Member(NodeId("n4"), 4, "d:4439", voter=False, rises=True)


class Nobody:
    """Whoever is asked does not answer."""

    async def introduce(self, address: str, said: Said) -> Said:
        raise ConnectionError(address)

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        raise ConnectionError(f"{address}: no route")


def waiting(kept: list[StoredIdentity]) -> Birth:
    async def keep(stored: StoredIdentity) -> None:
        kept.append(stored)

    return Birth(StoredIdentity(NodeId("n4"), 4), "d:4439", keep, Nobody())


def said(*members: Member, cluster: str = "c-1") -> Said:
    return Said(N1.node, N1.incarnation, cluster, (N1,), True, members=members)


def test_it_is_a_member_once_it_is_told_so() -> None:
    async def play() -> None:
        kept: list[StoredIdentity] = []
        birth = waiting(kept)
        joining = asyncio.create_task(birth.run({}, ["a:4439"]))
        await settle()
        assert birth.waits_for == "cannot join by a:4439: no route"
        told = said_from_wire(said_to_wire(said(N1, N4)))
        assert birth.introduced(told) == Said(NodeId("n4"), 4), "it is not one before that is on its disk"
        await asyncio.wait_for(joining, 60)
        assert kept == [StoredIdentity(NodeId("n4"), 4, "c-1", begun=True, others=((N1.node, N1.address),))]
        assert birth.members == {"n1": "a:4439", "n4": "d:4439"}

    simulate(play)


@pytest.mark.parametrize(
    "told",
    [
        said(),
        said(N1),
        said(N1, Member(NodeId("n4"), 5, "d:4439")),
        said(N1, Member(NodeId("n5"), 4, "d:4439")),
        said(N1, N4, cluster=""),
    ],
    ids=["an introduction", "others", "another directory", "another name", "no cluster"],
)
def test_nothing_else_makes_it_one(told: Said) -> None:
    async def play() -> None:
        kept: list[StoredIdentity] = []
        birth = waiting(kept)
        joining = asyncio.create_task(birth.run({}, ["a:4439"]))
        await settle()
        birth.introduced(told)
        await asyncio.sleep(5)
        assert not joining.done()
        assert kept == []
        joining.cancel()

    simulate(play)
