"""A node among others: whom it believes, what becomes of changes that it is asked for, where it looks for members."""

import asyncio
from collections.abc import Callable

import pytest

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.raft import (
    BecameLeader,
    Member,
    Membership,
    Objection,
    Promote,
    Readdress,
    Remove,
)
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.members import Result
from durable_streams_cluster.runtime import belonging as module
from durable_streams_cluster.runtime.introductions import Transfer, members_from_wire
from durable_streams_cluster.runtime.peers import Identity
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply
from tests.runtime.member import N1, N2, N3, N9, STORED, THREE, Place, place
from tests.runtime.peering import run

# --- Whom it believes.


@pytest.mark.parametrize(
    ("who", "objection"),
    [
        (Identity("c-1", N2, 2), None),
        (Identity("c-1", N9, 9), None),
        (Identity("c-1", N2, 22), None),
        (Identity("c-1", N9, 8), "removed: n9 was removed from the cluster, with its data directory"),
        (Identity("c-1", N3, 8), "removed: n3 was removed from the cluster, with its data directory"),
    ],
    ids=["member", "one that others may know", "in the place of a member", "removed", "removed under another name"],
)
def test_whom_it_speaks_with(who: Identity, objection: str | None) -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.driver.know(*THREE, removed=(7, 8))
            made.driver.apply()
            refusal = made.node._objection(who)
            assert (None if refusal is None else str(refusal)) == objection

    run(play())


def test_who_was_removed_is_heard_until_that_cannot_be_taken_back() -> None:
    """A removal that was never committed was in one log, and its victim led the others: that one log never heard it."""

    async def play() -> None:
        async with place(N2) as made:
            three = Identity("c-1", N3, 3)
            made.driver.know(*THREE[:2], removed=(3,))
            assert made.node._objection(three) is None
            made.driver.apply()
            refusal = made.node._objection(three)
            assert str(refusal) == "removed: n3 was removed from the cluster, with its data directory"

    run(play())


def test_a_member_of_which_no_directory_is_known_may_have_any() -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.driver.know(Member(N2, 0, "127.0.0.1:2"))
            assert made.node._objection(Identity("c-1", N2, 77)) is None

    run(play())


# --- Changes.


def test_a_leader_sees_to_it_and_tells_who_belongs_then() -> None:
    async def play() -> None:
        async with place(N1) as made:
            asked = asyncio.create_task(made.change(Remove(N3)))
            await until(lambda: Remove(N3) in made.driver.wishes)
            made.driver.told[-1](Membership(THREE[:2], (3,)))
            reply = await asked
            assert (reply.result, reply.cluster) == (ChangeReply.DONE, "c-1")
            assert members_from_wire(reply.members) == THREE[:2]
            assert not made.contacts.asked

    run(play())


@pytest.mark.parametrize(
    ("result", "kind", "says"),
    [
        (Objection.BEHIND, ChangeReply.REFUSED, "it has not caught up"),
        (Objection.NOT_LEADER, ChangeReply.NO_LEADER, "this node does not lead"),
        (None, ChangeReply.UNKNOWN, "it may yet happen"),
    ],
)
def test_what_a_leader_says_when_it_is_not_done(result: Result, kind: int, says: str) -> None:
    async def play() -> None:
        async with place(N1) as made:
            asked = asyncio.create_task(made.change(Promote(N3)))
            await until(lambda: Promote(N3) in made.driver.wishes)
            made.driver.told[-1](result)
            reply = await asked
            assert reply.result == kind
            assert says in reply.text

    run(play())


def test_an_asker_that_leaves_or_is_told_to_ask_again_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHANGE_S", 0.01)

    async def play() -> None:
        async with place(N1) as made:
            reply = await made.change(Promote(N3))
            assert (reply.result, "may yet happen" in reply.text) == (ChangeReply.UNKNOWN, True)
            monkeypatch.setattr(module, "CHANGE_S", 60)
            asked = asyncio.create_task(made.change(Promote(N2)))
            await until(lambda: Promote(N2) in made.driver.wishes)
            asked.cancel()
            await asyncio.wait([asked])
            for told in made.driver.told:
                told(Membership(THREE))

    run(play())


def test_a_follower_hands_it_on_once_and_never_twice() -> None:
    async def play() -> None:
        async with place(N2) as made:
            for wish in (Remove(N3), Transfer("n3")):
                made.contacts.asked.clear()
                assert (await made.change(wish, "")).text == "there"
                assert made.contacts.asked == [("127.0.0.1:2", wish, "c-1", True)]
                made.contacts.asked.clear()
                reply = await made.change(wish, handed_on=True)
                assert (reply.result, made.contacts.asked) == (ChangeReply.NO_LEADER, [])
            assert not made.driver.wishes
            assert not made.driver.handed

    run(play())


@pytest.mark.parametrize("leader", [None, N9], ids=["nobody", "one that is not known here"])
def test_without_a_leader_the_asker_is_to_ask_again(leader: NodeId | None) -> None:
    async def play() -> None:
        async with place(leader) as made:
            reply = await made.change(Remove(N3))
            assert reply.result == ChangeReply.NO_LEADER
            assert members_from_wire(reply.members) == THREE
            assert not made.contacts.asked

    run(play())


def test_a_leader_that_does_not_answer_may_have_done_it() -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.contacts.answer = ConnectionError("127.0.0.1:2: gone")
            reply = await made.change(Remove(N3))
            assert reply.result == ChangeReply.UNKNOWN
            assert reply.text == "n2 leads, and does not answer: 127.0.0.1:2: gone"

    run(play())


def test_another_cluster_is_asked_for_nothing_here() -> None:
    async def play() -> None:
        async with place(N1) as made:
            reply = await made.change(Remove(N3), "c-2")
            assert reply.result == ChangeReply.REFUSED
            assert reply.text.startswith("this is cluster c-1, and not c-2. A node of that one joins on an empty")
            assert not made.driver.wishes or made.driver.wishes == [Readdress(N1, made.own)]

    run(play())


def test_a_node_of_no_cluster_says_so_and_who_it_is() -> None:
    async def play() -> None:
        made = Place(None, StoredIdentity(N1, 1))
        assert made.node.introduced(Said(N2, 2)) == Said(N1, 1), "also before it knows its own address"
        assert (await made.change(Remove(N3))).result == ChangeReply.NO_LEADER
        await made.node.start()
        try:
            waiting = asyncio.create_task(made.node.be_born(dict.fromkeys((N1, N2), "127.0.0.1:1"), ()))
            await until(lambda: made.node.waits_for == "waits for n2 to begin the cluster")
            reply = await made.change(Remove(N3))
            assert reply.result == ChangeReply.NO_LEADER
            assert reply.text == "this node is of no cluster yet: waits for n2 to begin the cluster"
            waiting.cancel()
            await asyncio.wait([waiting])
        finally:
            await made.node.stop()

    run(play())


@pytest.mark.parametrize("takes_over", [True, False])
@pytest.mark.parametrize(("to", "handed"), [("n3", N3), ("", None)])
def test_another_may_be_let_to_lead(to: str, handed: NodeId | None, *, takes_over: bool) -> None:
    async def play() -> None:
        async with place(N1) as made:
            made.driver.takes_over = takes_over
            reply = await made.change(Transfer(to))
            assert made.driver.handed == [handed]
            assert reply.result == (ChangeReply.DONE if takes_over else ChangeReply.REFUSED)
            if not takes_over:
                assert reply.text.startswith("n3 does not take over" if to else "nobody takes over")

    run(play())


# --- Where members are.


def moved(node: NodeId, incarnation: int, address: str) -> Identity:
    return Identity("c-1", node, incarnation, address)


def test_it_dials_who_belongs() -> None:
    async def play() -> None:
        async with place(N2) as made:
            assert made.dialed == {"n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}
            made.driver.know(*THREE[:2], Member(N9, 9, "127.0.0.1:9"))
            assert made.dialed == {"n2": "127.0.0.1:2", "n9": "127.0.0.1:9"}

    run(play())


def test_it_dials_members_where_it_heard_of_them_last() -> None:
    """n2 moved while nobody led, so no membership says so; then this node moved. Neither found the other."""
    stored = StoredIdentity(N1, 1, "c-1", THREE, begun=True, others=((N2, "127.0.0.1:22"), (N9, "127.0.0.1:9")))

    async def play() -> None:
        async with place(None, stored) as made:
            assert made.dialed == {"n2": "127.0.0.1:22", "n3": "127.0.0.1:3"}

    run(play())


def test_it_dials_whom_it_was_told_of_when_it_joined() -> None:
    """The log had told it nothing yet; it moved, and the leader, whom it did not dial, looked where it was before."""
    joined = StoredIdentity(N1, 1, "c-1", begun=True, others=STORED.others)

    async def play() -> None:
        async with place(None, joined) as made:
            assert made.dialed == {"n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}
            # The log is cut, to before it named anybody.
            made.driver.know(*THREE)
            made.driver.know()
            assert made.dialed == {"n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}

    run(play())


def test_only_a_leader_lets_the_membership_say_that_a_member_moved() -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.node.peers.found(moved(N3, 3, "127.0.0.1:33"))
            assert made.dialed["n3"] == "127.0.0.1:33"
            assert not made.driver.wishes
            # Later it is this node that leads. And it moved, too.
            made.driver.core.leader = N1
            made.driver.say(BecameLeader(N1, Term(2)))
            assert sorted(made.driver.wishes, key=str) == [Readdress(N1, made.own), Readdress(N3, "127.0.0.1:33")]
            made.driver.wishes.clear()
            made.driver.know(Member(N1, 1, made.own), THREE[1], Member(N3, 3, "127.0.0.1:33"))
            made.node.peers.found(moved(N2, 2, "127.0.0.1:22"))
            assert made.driver.wishes == [Readdress(N2, "127.0.0.1:22")]
            made.node.peers.found(moved(N9, 9, "127.0.0.1:9"))
            assert N9 not in [wish.node for wish in made.driver.wishes if isinstance(wish, Readdress)], "no member"

    run(play())


def test_a_change_of_something_else_does_not_send_it_back_to_where_a_member_was() -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.node.peers.found(moved(N2, 2, "127.0.0.1:22"))
            made.driver.know(*THREE[:2])
            assert made.dialed == {"n2": "127.0.0.1:22"}
            made.driver.know(THREE[0], Member(N2, 2, "127.0.0.1:222"))
            assert made.dialed == {"n2": "127.0.0.1:222"}, "what is news in the membership came after it"

    run(play())


def test_a_member_whose_address_is_not_on_record_is_not_forgotten() -> None:
    """A directory from before there were such records: of its node no address is known until it says it."""

    async def play() -> None:
        nowhere = Member(N2, 2)
        async with place(N2, StoredIdentity(N1, 1, "c-1", (THREE[0], nowhere), begun=True)) as made:
            made.driver.know(THREE[0], nowhere)
            made.node.peers.found(moved(N2, 2, "127.0.0.1:2"))
            made.driver.know(THREE[0], nowhere, THREE[2])
            assert made.dialed == {"n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}

    run(play())


def test_a_leader_without_an_address_on_record_says_where_it_is() -> None:
    async def play() -> None:
        async with place(N1) as made:
            made.driver.core.membership = Membership((Member(N1, 1),))
            made.driver.say(BecameLeader(N1, Term(1)))
            assert made.driver.wishes == [Readdress(N1, made.own)]

    run(play())


def test_a_stranger_of_the_cluster_is_dialed_until_it_is_known_not_to_belong() -> None:
    async def play() -> None:
        async with place(N2) as made:
            made.node.peers.found(moved(N9, 9, "127.0.0.1:9"))
            assert made.dialed["n9"] == "127.0.0.1:9"
            made.driver.know(*THREE, removed=(9,))
            assert "n9" not in made.dialed

    run(play())


def test_after_the_end_nothing_is_begun() -> None:
    async def play() -> None:
        async with place(N2) as made:
            pass
        before = asyncio.all_tasks()
        made.driver.know(*THREE, Member(N9, 9, "127.0.0.1:9"))
        made.node.peers.found(moved(N9, 9, "127.0.0.1:99"))
        assert asyncio.all_tasks() == before

    run(play())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


def test_the_directory_knows_whom_to_ask_if_its_store_is_damaged_later() -> None:
    async def play() -> None:
        async with place(N1) as here:
            assert here.kept == [], "it is on record"
            here.driver.know(*THREE, Member(N9, 9, "127.0.0.1:9"))
            here.driver.know(*THREE[:2], Member(N9, 9, "127.0.0.1:9"))
        assert here.kept[-1].others == ((N2, "127.0.0.1:2"), (N9, "127.0.0.1:9"))
        assert here.kept[-1].record == THREE

    run(play())


def test_one_that_joined_forgets_nobody_before_the_log_tells_it_who_belongs() -> None:
    """Damaged in the middle of its first snapshot, it would have had nobody to ask."""
    joined = StoredIdentity(N1, 1, "c-1", begun=True, others=STORED.others)

    async def play() -> None:
        async with place(None, joined) as here:
            pass
        assert here.kept == []
        # Nor when it hears of one of them before that: it would dial nobody else after the next start.
        async with place(None, joined) as here:
            here.node.peers.found(moved(N3, 3, "127.0.0.1:33"))
        assert [dict(each.others) for each in here.kept] == [{"n2": "127.0.0.1:2", "n3": "127.0.0.1:33"}]

    run(play())
