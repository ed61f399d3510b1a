"""A disk that runs full: refused early, while reads and deletes go on, and taken again when there is room."""

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.errors import StorageError, StorageFull
from durable_streams_cluster.limits import MIB, Limits
from durable_streams_cluster.raft import Room
from durable_streams_cluster.runtime.space import DiskSpace
from durable_streams_cluster.storage.kv import Space
from durable_streams_cluster.streams.commands import Append, Delete, Producer
from durable_streams_cluster.streams.outcomes import Appended, Created, Deleted, ProducerFenced
from tests.gateway.asgi import parse
from tests.runtime.world import StallingKv, World, alive, append, content, create, settle, simulate, started

WANTED = 100 * MIB


def room(free: int, wanted: int = WANTED, *, unwritten: int = 0, covered: int = 1000 * MIB) -> Space:
    return Space(free, 1000 * MIB, wanted, unwritten, covered)


async def look(world: World, free: int) -> None:
    world.kv.space = room(free)
    world.driver.look()
    await settle()


# --- The room that is known


def test_it_refuses_below_what_is_wanted_and_takes_a_quarter_above() -> None:
    space = DiskSpace()
    assert space.has(2**60), "nothing was ever seen: in memory"
    for free, refusing in ((101, False), (100, False), (99, True), (124, True), (125, False), (99, True), (500, False)):
        space.see(room(free * MIB))
        assert space.refusing == refusing, free


@given(st.integers(0, 900), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 400))
def test_what_is_let_in_at_a_glance_is_let_in_by_the_rule(
    free: int, unwritten: int, covered: int, spent: int, coming: int
) -> None:
    space = DiskSpace()
    space.see(room(free * MIB, unwritten=unwritten * MIB, covered=covered * MIB))
    space.spend(spent * MIB)
    beyond = max(0, unwritten + spent + coming - covered)
    assert space.has(coming * MIB) == (free >= 100 and free - spent - coming - 2 * beyond >= 100)


def test_what_others_are_told_does_not_change_with_every_byte() -> None:
    space = DiskSpace()
    assert space.room(2**60) is Room.PLENTY, "in memory"
    steps = (
        (125, Room.PLENTY),
        (124, Room.ENOUGH),
        (137, Room.ENOUGH),
        (138, Room.PLENTY),
        (100, Room.ENOUGH),
        (99, Room.LOW),
        (124, Room.LOW),
        (50, Room.LOW),
        (49, Room.NONE),
        (62, Room.NONE),
        (63, Room.LOW),
        (500, Room.PLENTY),
    )
    for free, told in steps:
        space.see(room(free * MIB))
        assert space.room() is told, free


def test_what_is_taken_from_a_leader_is_written_twice() -> None:
    space = DiskSpace()
    space.see(room(WANTED // 2 + 20))
    assert space.room(10) is Room.LOW
    assert space.room(11) is Room.NONE
    space.spend(20)
    assert space.room() is Room.LOW
    assert space.room(1) is Room.NONE


def test_a_little_is_spared_as_long_as_all_that_memtables_hold_can_be_written_out() -> None:
    space = DiskSpace()
    assert space.spares(WANTED)
    space.see(room(WANTED // 8 + 300, unwritten=100, covered=WANTED))
    assert space.spares(50)
    assert not space.spares(51)
    space.spend(20)  # less is free, and more is to be written out
    assert space.spares(40)
    assert not space.spares(41)


def test_what_is_coming_must_not_touch_what_is_wanted() -> None:
    space = DiskSpace()
    space.see(room(WANTED + 10))
    assert space.has(10)
    assert not space.has(11)
    assert not space.refusing, "smaller ones go on"


def test_what_was_written_since_the_look_counts() -> None:
    space = DiskSpace()
    space.see(room(WANTED + 100))
    space.spend(60)
    space.begin_look()
    space.spend(30)
    assert space.has(10)
    assert not space.has(11)
    space.see(room(WANTED + 40))  # knows of the 60, not of the 30
    assert space.free == WANTED + 10
    assert space.has(10)
    assert not space.has(11)


def test_what_memtables_hold_beyond_what_is_usual_takes_room_twice_more() -> None:
    space = DiskSpace()
    space.see(room(WANTED + 100, unwritten=30, covered=50))
    assert space.has(40)  # of 70, 20 are beyond
    assert space.has(46)
    assert not space.has(47)
    space.spend(20)
    assert space.has(26)
    assert not space.has(27)


def test_what_does_not_stay_may_have_half_of_what_is_wanted() -> None:
    space = DiskSpace()
    space.see(room(WANTED - 1, covered=10 * MIB))
    assert not space.has(1)
    assert space.has(20 * MIB, stays=False)
    assert not space.has(30 * MIB, stays=False)
    space.see(room(WANTED // 2 - 1))
    assert not space.has(1, stays=False)


def test_it_says_what_it_sees() -> None:
    space = DiskSpace()
    assert (str(space), dict(space.metrics())) == ("in memory", {})
    space.see(room(70 * MIB))
    assert str(space) == "70 of 1000 MiB free, 100 wanted"
    assert space.metrics() == {
        "free_bytes": 70 * MIB,
        "size_bytes": 1000 * MIB,
        "reserve_bytes": WANTED,
        "refusing": 1,
    }


# --- A node on such a disk


def test_a_full_disk_refuses_what_grows_and_does_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = await started()
        for path in ("s", "t"):
            await world.streams.create(create(path, ttl_s=100))
        await world.streams.append(append("s", b"kept"))
        await look(world, WANTED - 1)
        with pytest.raises(StorageFull, match="nothing was stored"):
            await world.streams.append(append("s"))
        with pytest.raises(StorageFull, match="nothing was stored"):
            await world.streams.create(create("new"))
        assert await content(world, "s") == b"kept"
        assert not await alive(world, "new")
        assert isinstance(await world.streams.create(create("s", ttl_s=100)), Created), "it is there: nothing grows"
        closed = await world.streams.append(Append("t", "text/plain", b"", True, None, None))
        assert isinstance(closed, Appended)
        assert closed.closed
        assert isinstance(await world.streams.delete(Delete("t")), Deleted)
        await asyncio.sleep(50)
        assert isinstance(await world.streams.read("s", From.START), Page)  # renews the window: a touch is recorded
        await asyncio.sleep(200)
        assert not await alive(world, "s"), "expiry goes on"
        assert len(caplog.records) == 1
        assert "where it leads, appends and new streams get 507; reads, deletes, expiry go on" in caplog.text

    with caplog.at_level(logging.WARNING):
        simulate(main)


def test_a_batch_that_is_there_is_answered_on_a_full_disk() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))

        async def batch(epoch: int, seq: int) -> object:
            return await world.streams.append(Append("s", "text/plain", b"x", False, None, Producer("p", epoch, seq)))

        await batch(1, 0)
        await look(world, WANTED - 1)
        again = await batch(1, 0)
        assert isinstance(again, Appended)
        assert again.duplicate
        assert isinstance(await batch(0, 7), ProducerFenced)
        for epoch, seq in ((1, 1), (1, 2), (2, 0), (2, 1)):  # a gap may be closed by what is in flight
            with pytest.raises(StorageFull):
                await batch(epoch, seq)

    simulate(main)


def test_what_only_asks_is_refused_before_its_entries_fill_the_disk() -> None:
    """The same body sent again and again stores nothing, and is an entry of the log each time."""

    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        batch = Append("s", "text/plain", b"x" * MIB, False, None, Producer("p", 0, 0))
        assert isinstance(await world.streams.append(batch), Appended)
        await look(world, WANTED // 2 + MIB)
        with pytest.raises(StorageFull):
            await world.streams.append(batch)
        with pytest.raises(StorageFull):
            await world.streams.create(replace(create("s"), body=b"x" * MIB))
        assert isinstance(await world.streams.create(create("s")), Created), "without a body it takes next to nothing"
        await look(world, WANTED // 2 + 3 * MIB)
        assert isinstance(await world.streams.append(batch), Appended)

    simulate(main)


def test_room_again_is_used_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        await look(world, WANTED - 1)
        with pytest.raises(StorageFull):
            await world.streams.append(append("s"))
        await look(world, WANTED * 5 // 4)
        assert isinstance(await world.streams.append(append("s")), Appended)
        assert "appends are taken again" in caplog.text

    with caplog.at_level(logging.INFO):
        simulate(main)


def test_what_is_in_flight_counts_twice() -> None:
    async def main() -> None:
        world = await started(limits=Limits(max_inflight_bytes=64 * MIB))
        await world.streams.create(create("s"))
        await look(world, WANTED + 5 * MIB)
        world.disk.hold = True
        first = asyncio.ensure_future(world.streams.append(append("s", b"x" * MIB)))
        await settle()
        with pytest.raises(StorageFull):
            await world.streams.append(append("s", b"x" * 2 * MIB))
        world.disk.release()
        assert isinstance(await first, Appended)

    simulate(main)


def test_a_node_looks_before_it_serves() -> None:
    async def main() -> None:
        kv = StallingKv()
        kv.space = room(1)
        world = await started(kv)
        with pytest.raises(StorageFull):
            await world.streams.create(create("s"))

    simulate(main)


def test_over_http_it_is_507_with_the_next_step() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        await look(world, WANTED - 1)
        for request in ("POST /v1/stream/s", "PUT /v1/stream/new"):
            exchange = parse(f"{request}\nContent-Type: text/plain\n\nx")
            exchange.begin(world.app)
            await exchange.finish()
            assert (exchange.status, exchange.header(b"retry-after")) == (507, b"5")
            error = json.loads(exchange.body)["error"]
            assert error["code"] == "storage_full"
            assert "delete streams" in error["message"]

    simulate(main)


def test_a_fault_that_a_look_finds_ends_the_node() -> None:
    async def main() -> None:
        world = await started()
        world.disk.failure = StorageError("compaction failed in 000012.sst")
        world.driver.look()
        world.driver.look()  # one at a time
        await settle()
        assert world.fatal == [world.disk.failure]

    simulate(main)


def test_a_stall_that_only_a_flush_ends_is_ended_by_one() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        world.kv.stalls, world.kv.flushable = 3, True
        before = world.disk.flushes
        assert isinstance(await world.streams.append(append("s")), Appended)
        assert world.disk.flushes - before >= 3

    simulate(main)
