"""Several nodes whose disks run full: another one leads, a majority without room refuses, and each says so."""

import asyncio
import logging

import pytest
from msgspec.structs import replace

from durable_streams_cluster.errors import StorageFull
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.raft import (
    SCANT_BYTES,
    AppendEntries,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Room,
    entry_crc,
)
from durable_streams_cluster.replica.exchange import Forward, Reason
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.making_way import LOOKS, PAUSE_MS, MakingWay
from durable_streams_cluster.storage.kv import Space
from durable_streams_cluster.streams.commands import Delete
from tests.runtime.followers import NEXT, OTHER, Followers, leading
from tests.runtime.world import append, create, settle, simulate

WANTED = 100 * MIB


async def look(driver: Driver, free_mib: int) -> None:
    driver._kv.space = Space(free_mib * MIB, 1000 * MIB, WANTED, 0, 1000 * MIB)  # type: ignore[attr-defined]
    driver.look()
    await asyncio.sleep(0.5)  # heartbeats and their answers


def making_way(driver: Driver) -> MakingWay:
    return MakingWay(driver.replica.group, driver.hand_over, driver._clock)


async def looks(way: MakingWay, count: int = LOOKS) -> None:
    for _ in range(count):
        way.look()
        await settle()


def told(followers: Followers) -> list[NodeId]:
    """Who is told to stand, each once."""
    return list(dict.fromkeys(followers.told))


@pytest.mark.parametrize(("free", "enough"), [(124, LOOKS), (100, LOOKS), (99, 1), (10, 1)])
def test_a_leader_whose_disk_runs_full_lets_one_with_room_lead(free: int, enough: int) -> None:
    async def main() -> None:
        driver, followers = await leading()
        way = making_way(driver)
        followers.rooms = {NEXT: Room.ENOUGH, OTHER: Room.PLENTY}
        await look(driver, free)
        await looks(way, enough - 1)
        assert not followers.told, "perhaps all are on one disk, and the others do not know yet"
        await looks(way, 1)
        assert told(followers) == [OTHER]
        driver.close()

    simulate(main)


def test_it_goes_on_where_nobody_has_plenty() -> None:
    async def main() -> None:
        driver, followers = await leading()
        way = making_way(driver)
        await look(driver, 125)
        await looks(way)
        assert not followers.told, "it has plenty itself"
        followers.rooms = {NEXT: Room.ENOUGH, OTHER: Room.LOW}
        await look(driver, 99)
        await looks(way)
        assert not followers.told
        driver.close()

    simulate(main)


def test_it_makes_way_once_in_a_while() -> None:
    async def main() -> None:
        driver, followers = await leading()
        way = making_way(driver)
        await look(driver, 99)
        await looks(way)
        await asyncio.sleep(10)  # Who was told did not stand.
        followers.told.clear()
        await looks(way, 3 * LOOKS)
        assert not followers.told
        await asyncio.sleep(PAUSE_MS / 1000)
        await looks(way)
        assert followers.told
        driver.close()

    simulate(main)


def test_a_follower_gives_the_leader_what_its_own_disk_has_no_room_for() -> None:
    async def main() -> None:
        driver, followers = await leading()
        await look(driver, 10)
        with pytest.raises(StorageFull):
            driver.propose(create("s"), 1)
        term = driver.replica.group.core.term
        followers.deliver(OTHER, Heartbeat(Term(term + 1), Index(0), 0))
        await settle()
        driver.propose(create("s"), 1)
        await settle()
        given = [each for to, each in followers.heard if to == OTHER and isinstance(each, Forward)]
        assert [proposal.command for each in given for proposal in each.proposals] == [create("s")]
        way = making_way(driver)
        await looks(way)
        assert not followers.told, "it does not lead"
        driver.close()

    simulate(main)


def test_a_majority_without_room_refuses_what_only_takes_room(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        driver, followers = await leading()
        way = making_way(driver)
        await driver.propose(create("s"), 1)
        await look(driver, 500)
        followers.rooms = {NEXT: Room.LOW}
        await asyncio.sleep(1)
        await driver.propose(append("s"), 1)
        followers.rooms = {NEXT: Room.LOW, OTHER: Room.NONE}
        await asyncio.sleep(1)
        way.look()
        with pytest.raises(StorageFull):
            driver.propose(append("s"), 1)
        assert driver.admission.refuses(append("s"), 1) is Reason.FULL
        await driver.propose(create("s"), 1)
        await driver.propose(Delete("s"), 1)
        await driver.barrier()
        followers.rooms = {NEXT: Room.LOW}
        await asyncio.sleep(1)
        way.look()
        await driver.propose(create("s"), 1)
        assert [record.getMessage() for record in caplog.records if record.name.endswith("making_way")] == [
            "the disks of too many other members are almost full: appends and new streams get 507",
            "enough members have room again: appends are taken",
        ]
        driver.close()

    with caplog.at_level(logging.INFO):
        simulate(main)


def test_a_follower_that_takes_nothing_says_so_once_and_tells_its_leader(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        driver, followers = await leading()
        way = making_way(driver)
        term = Term(driver.replica.group.core.term + 1)
        await look(driver, 40)
        followers.deliver(OTHER, Heartbeat(term, Index(0), 0))
        await settle()
        await looks(way)
        before = driver.replica.group.core.log.last
        followers.heard.clear()
        message = AppendEntries(term, driver.replica.group.core.log.newest, (entry(term, Index(before + 1)),), Index(0))
        followers.deliver(OTHER, message)
        await settle()
        assert followers.heard[-1] == (OTHER, HeartbeatReply(term, 0, Room.NONE))
        assert driver.replica.group.core.log.last == before
        await look(driver, 100)
        followers.deliver(OTHER, message)
        await settle()
        assert driver.replica.group.core.log.last == before + 1
        await looks(way)
        assert [record.getMessage() for record in caplog.records if record.name.endswith("making_way")] == [
            "the disk is full: entries of the leader are not taken; what is here is shown",
            "there is room: entries of the leader are taken",
        ]
        driver.close()

    with caplog.at_level(logging.INFO):
        simulate(main)


def entry(term: Term, index: Index) -> Entry:
    bare = Entry(term, index, EntryKind.COMMANDS, 1, 0, 0, bytes(SCANT_BYTES + 1))
    return replace(bare, crc=entry_crc(ONLY_GROUP, bare))
