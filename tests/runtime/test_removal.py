"""A node that was removed from its cluster: how it comes to know, and what those get who ask it for something."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.errors import OutcomeUnknown, Unavailable
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.raft import Entry, EntryId, EntryKind, Member, Membership, Remove
from durable_streams_cluster.raft.membership import encode
from durable_streams_cluster.raft.messages import NOTHING, AppendEntries, Heartbeat, entry_crc
from durable_streams_cluster.replica.exchange import Forward
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.runtime.removal import STEPS_ASIDE
from durable_streams_cluster.streams.commands import Delete
from tests.runtime.followers import HERE, NEXT, OTHER, Followers, leading, one_of
from tests.runtime.member import N1, N2, N3, place
from tests.runtime.peering import run
from tests.runtime.world import StallingKv, settle, simulate, started

THREE = Membership((Member(HERE, 1), Member(NEXT), Member(OTHER)))
TERM = Term(1)


def membership(index: int, members: Membership) -> Entry:
    entry = Entry(TERM, Index(index), EntryKind.MEMBERSHIP, 1, 0, 0, encode(members))
    return replace(entry, crc=entry_crc(ONLY_GROUP, entry))


async def following(kv: StallingKv | None = None) -> tuple[Driver, Followers]:
    """The first of three, led by the next one, and no longer than that is heard."""
    driver, others = one_of(THREE, kv)
    await driver.start()
    others.deliver(NEXT, Heartbeat(TERM, Index(0), 0))
    await settle()
    assert driver.replica.group.core.leader == NEXT
    return driver, others


def forwarded(others: Followers) -> int:
    return sum(len(message.proposals) for _, message in others.heard if isinstance(message, Forward))


async def refused_with(waits: Coroutine[Any, Any, object] | asyncio.Future[Any]) -> str:
    with pytest.raises(Unavailable) as error:
        await waits
    return str(error.value)


def got(answer: Answer) -> list[object]:
    told: list[object] = []
    answer.then(told.append)
    return told


def test_what_waits_for_a_leader_is_sent_elsewhere_at_once() -> None:
    async def main() -> None:
        driver, _ = one_of(THREE)
        await driver.start()
        reading = asyncio.ensure_future(driver.barrier())
        writing = driver.propose(Delete("s"), 100)
        await settle()
        assert not reading.done()
        assert got(writing) == []
        driver.removal.told("n2")
        (error,) = got(writing)
        assert isinstance(error, Unavailable)
        assert await refused_with(reading) == str(error) == STEPS_ASIDE
        assert (driver.admission.waiting, driver.admission.inflight_bytes) == (0, 0)
        assert await refused_with(driver.barrier()) == STEPS_ASIDE
        with pytest.raises(Unavailable, match="this node was removed from its cluster"):
            driver.propose(Delete("s"), 100)
        driver.close()

    simulate(main)


def test_what_a_leader_was_given_may_be_stored_and_nobody_hears_that_it_is_not() -> None:
    async def main() -> None:
        driver, others = await following()
        writing = driver.propose(Delete("s"), 100)
        await settle()
        assert forwarded(others) == 1
        driver.removal.told("n2")
        for peer in (NEXT, OTHER):
            others.leave(peer)
        await asyncio.sleep(Limits().proposal_timeout_s - 1)
        driver.give_up_overdue()
        assert got(writing) == [], "its outcome may be on its way"
        await asyncio.sleep(2)
        driver.give_up_overdue()
        (error,) = got(writing)
        assert isinstance(error, OutcomeUnknown)
        driver.close()

    simulate(main)


def test_its_end_waits_for_nobody() -> None:
    async def main() -> None:
        driver, others = await following()
        writing = driver.propose(Delete("s"), 100)
        await settle()
        assert forwarded(others) == 1
        driver.removal.told("n2")
        began = asyncio.get_running_loop().time()
        driver.removal.end()
        (error,) = got(writing)
        assert isinstance(error, OutcomeUnknown)
        await driver.drain()
        assert asyncio.get_running_loop().time() - began < 0.5
        driver.close()

    simulate(main)


def test_who_is_told_while_it_ends_waits_no_longer() -> None:
    async def main() -> None:
        driver, others = await following()
        writing = driver.propose(Delete("s"), 100)
        await settle()
        assert forwarded(others) == 1
        driver.removal.end()
        ending = asyncio.ensure_future(driver.drain())
        await settle()
        assert got(writing) == [], "a member waits for its leader"
        assert not ending.done()
        driver.removal.told("n2")
        (error,) = got(writing)
        assert isinstance(error, OutcomeUnknown)
        await settle()
        assert ending.done()
        driver.close()

    simulate(main)


def test_one_that_led_hands_over_to_nobody() -> None:
    async def main() -> None:
        driver, followers = await leading()
        driver.removal.told("n2")
        assert not await driver.hand_over.run()
        assert followers.told == []
        driver.close()

    simulate(main)


def test_its_own_log_says_so_once_that_is_committed_and_again_at_the_next_start() -> None:
    async def main() -> None:
        kv = StallingKv()
        driver, others = await following(kv)
        left = Membership(THREE.members[1:], removed=(1,))
        others.deliver(NEXT, AppendEntries(TERM, NOTHING, (membership(1, THREE), membership(2, left)), Index(1)))
        await settle()
        assert driver.replica.group.core.membership == left
        assert not driver.removal.known, "it may yet be taken back"
        assert driver.removal.text == ""
        others.deliver(NEXT, AppendEntries(TERM, EntryId(TERM, Index(2)), (), Index(2)))
        await settle()
        assert driver.removal.text.startswith("removed from the cluster, as its own log says; its data is kept")
        driver.close()

        again, _ = one_of(THREE, kv)
        starting = asyncio.ensure_future(again.start())
        await settle()
        assert again.removal.known
        assert starting.done()
        serving = asyncio.ensure_future(again.is_served())
        await asyncio.sleep(60)
        assert not serving.done(), "it is never served again, and its process goes on"
        serving.cancel()
        again.close()

    simulate(main)


def test_the_removal_of_another_one_is_nothing_to_it() -> None:
    async def main() -> None:
        driver, others = await following()
        left = Membership(THREE.members[:2], removed=(3,))
        others.deliver(NEXT, AppendEntries(TERM, NOTHING, (membership(1, left),), Index(1)))
        await settle()
        assert driver.replica.group.core.applied_membership == left
        assert not driver.removal.known
        driver.close()

    simulate(main)


def test_its_live_reads_end() -> None:
    async def main() -> None:
        world = await started()
        jobs, ended = Jobs(world.driver, world.streams, world.clock, world.metrics), 0

        def end() -> None:
            nonlocal ended
            ended += 1

        jobs.end_live = end
        chores = asyncio.ensure_future(jobs.run())
        await asyncio.sleep(3)
        assert ended == 0
        world.driver.removal.told("n2")
        await asyncio.sleep(2)
        assert ended
        chores.cancel()

    simulate(main)


def test_operators_are_told_once_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        driver, _ = one_of(THREE)
        driver.removal.data_dir = "/somewhere"
        with caplog.at_level(logging.WARNING):
            for by in ("n2", "n3", "n2"):
                driver.removal.told(by)
        text = (
            "removed from the cluster, as n2 says; its data is kept. Next step: stop this node; to let it join again, "
            "empty /somewhere and start it with --join"
        )
        assert driver.removal.text == text
        assert [record.message for record in caplog.records] == [f"this node was {text}"]
        driver.close()

    simulate(main)


def test_a_peer_says_so_and_whoever_asks_for_a_change_hears_of_it() -> None:
    async def play() -> None:
        async with place(None) as made:
            assert "ask again in a moment" in (await made.change(Remove(N2))).text
            made.node.peers._told_removed(N3)
            assert made.driver.removal.by == [NodeId("n3")]
            assert (await made.change(Remove(N1))).text == "removed, says n3"
        made.node.peers._told_removed(N2)
        assert made.driver.removal.by == [N3], "what comes after its end is not heard"

    run(play())
