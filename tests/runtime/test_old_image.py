"""A data directory that has forgotten something: its node is refused, and acts on that."""

from msgspec.structs import replace

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import (
    Begun,
    EntryId,
    Heartbeat,
)
from durable_streams_cluster.runtime.greeting import Reason
from durable_streams_cluster.runtime.peers import Identity
from tests.runtime.member import BEGUN, N2, N3, place
from tests.runtime.peering import run


def test_a_life_that_has_forgotten_what_an_earlier_one_showed_is_refused_for_that() -> None:
    async def play() -> None:
        async with place(N2) as made:
            first = Identity("c-1", N2, 2, begun=Begun(1, Term(4), EntryId(Term(4), Index(9))))
            assert made.node._objection(first) is None
            made.driver.core.lives.heard(N2, Heartbeat(Term(4), Index(0), 0, 0, Index(12)), own_entry=False)
            assert made.node._objection(first) is None, "it is the one that showed it"
            refusal = made.node._objection(replace(first, begun=replace(first.begun, life=2)))
            assert refusal is not None
            assert refusal.reason is Reason.IMAGE
            other = replace(first, incarnation=3, begun=replace(first.begun, life=3))
            assert made.node._objection(other) is None, "nobody asks what another directory has forgotten"
            assert made.node._objection(replace(first, begun=None)) is None

    run(play())


def test_it_says_with_what_it_began() -> None:
    async def play() -> None:
        async with place(N2) as made:
            assert made.node.peers._dialing.identity.begun == BEGUN

    run(play())


def test_whoever_is_told_that_its_directory_is_an_old_image_ends_as_with_a_damaged_one() -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.node.peers._told_old(N3, "it forgot")
            (failure,) = made.driver.failures
            assert isinstance(failure, CorruptData)
            assert str(failure).startswith("n3 says: it forgot. It has forgotten what it promised, and is used no more")
            assert "Next step: " in str(failure)

    run(play())
