"""Policies at work on a running node: lifetimes and bounds given at creation, and streams that are trimmed."""

import asyncio
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from durable_streams_cluster.api import Described, From, OffsetGone, Page
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.policies import parse_policies
from durable_streams_cluster.runtime import retention as retention_module
from durable_streams_cluster.runtime.retention import Retention
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.storage.kv import Family
from durable_streams_cluster.streams.commands import Delete
from durable_streams_cluster.streams.meta import StreamRef
from durable_streams_cluster.streams.offsets import START
from durable_streams_cluster.streams.outcomes import Appended, Created, NotFound, StreamFull
from tests.runtime.world import StallingKv, World, alive, append, content, create, simulate, started


async def with_policies(text: str, world: World | None = None) -> World:
    """A node with these policies."""
    world = world or await started()
    world.streams = LocalStreams(world.driver, world.limits, parse_policies(text))
    return world


async def head(world: World, path: str) -> int:
    meta = await world.streams.head(path)
    assert isinstance(meta, Described)
    return meta.first_offset.position


def records(world: World) -> int:
    """Appends that the store holds."""
    return sum(key[15:16] == b"R" for key, _ in world.kv.scan(Family.DATA, b"S", b"T"))


def test_a_prefix_gives_a_lifetime_and_a_bound() -> None:
    async def main() -> None:
        world = await with_policies("tmp/ ttl=60s max-bytes=10")
        made = await world.streams.create(create("tmp/a"))
        assert isinstance(made, Created)
        assert made.ttl_s == 60
        again = await world.streams.create(create("tmp/a"))
        assert isinstance(again, Created), "what was asked is the same"
        asked = await world.streams.create(create("tmp/b", ttl_s=5))
        other = await world.streams.create(create("keep/a"))
        assert isinstance(asked, Created)
        assert isinstance(other, Created)
        assert (asked.ttl_s, other.ttl_s) == (5, None)
        assert await world.streams.append(append("tmp/b", b"x" * 11)) == StreamFull(10)
        await asyncio.sleep(61)
        assert not await alive(world, "tmp/a")
        assert await alive(world, "keep/a")

    simulate(main)


def test_a_stream_that_grows_is_trimmed_and_read_from_its_head() -> None:
    async def main() -> None:
        world = await with_policies("logs/ retain-bytes=100")
        await world.streams.create(create("logs/a"))
        ends = []
        for number in range(30):
            outcome = await world.streams.append(append("logs/a", b"%010d" % number))
            assert isinstance(outcome, Appended)
            ends.append(outcome.next_offset)
        await world.streams.retention.round()
        assert await head(world, "logs/a") == 200
        assert records(world) == 10
        page = await world.streams.read("logs/a", From.START)
        assert isinstance(page, Page)
        assert (page.start, page.bodies[0]) == (ends[19], b"%010d" % 20)
        assert await world.streams.read("logs/a", ends[19]) == page
        for gone in (START, ends[0], ends[18]):
            assert await world.streams.read("logs/a", gone) == OffsetGone(ends[19])

    simulate(main)


def test_what_was_there_before_the_policy_is_found_by_the_walk() -> None:
    async def main() -> None:
        world = await started()
        for number in range(7):
            await world.streams.create(create(f"logs/{number}"))
            for _ in range(4):
                await world.streams.append(append(f"logs/{number}", b"0123456789"))
        await world.streams.create(create("other"))
        await world.streams.append(append("other", b"x" * 100))
        await with_policies("logs/ retain-bytes=10, logs/6 retain-bytes=20, absent/ retain-age=1s", world)
        kept, retention_module.PER_ROUND = retention_module.PER_ROUND, 3
        try:
            for _ in range(6):
                await world.streams.retention.round()
        finally:
            retention_module.PER_ROUND = kept
        assert [await head(world, f"logs/{number}") for number in range(7)] == [30] * 6 + [20]
        assert await head(world, "other") == 0

    simulate(main)


def test_old_appends_go_by_age() -> None:
    async def main() -> None:
        world = await with_policies("logs/ retain-age=60s")
        await world.streams.create(create("logs/a"))
        for number in range(100):
            await world.streams.append(append("logs/a", b"%02d" % number))
            await asyncio.sleep(1)
        await world.streams.retention.round()
        kept = await content(world, "logs/a")
        assert kept == b"".join(b"%02d" % number for number in range(40, 100))
        await asyncio.sleep(100)
        await world.streams.retention.round()
        assert await content(world, "logs/a") == b""

    simulate(main)


def test_an_idle_node_that_is_restarted_again_and_again_still_forgets_what_is_old() -> None:
    """Cluster time is what the log says: somebody must write it there, also when no stream has a TTL."""
    kv = StallingKv()

    async def day() -> int:
        world = await with_policies("logs/ retain-age=60s", await started(kv))
        if await world.streams.head("logs/a") == NotFound():
            await world.streams.create(create("logs/a"))
            await world.streams.append(append("logs/a"))
        await asyncio.sleep(25)
        await world.streams.retention.round()
        await world.driver.drain()
        return await head(world, "logs/a")

    assert [simulate(day) for _ in range(3)] == [0, 0, 1]


class Counting:
    """How often the times of appends are looked up, and whether others had their turn in between."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = self.turns = 0
        view = world.driver.replica.group.store.committed
        look = view.end_and_time

        def counted(ref: StreamRef, position: int) -> tuple[int, int] | None:
            self.looks += 1
            assert self.turns == self.looks - 1, "the loop had no turn since the last one"
            asyncio.get_running_loop().call_soon(self.turn)
            return look(ref, position)

        monkeypatch.setattr(view, "end_and_time", counted)

    def turn(self) -> None:
        self.turns += 1


def test_by_age_few_appends_are_looked_at_and_the_loop_turns_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read whole, and may have 16 MiB."""

    async def main() -> None:
        world = await with_policies("logs/ retain-age=100s")
        await world.streams.create(create("logs/empty"))
        await world.streams.create(create("logs/a"))
        for number in range(64):
            await world.streams.append(append("logs/a", b"%02d" % number))
            await asyncio.sleep(1)
        counting = Counting(world, monkeypatch)
        for _ in range(10):
            await world.streams.retention.round()
        assert counting.looks == 1, "the oldest one is remembered"
        await asyncio.sleep(37)
        await world.streams.retention.round()
        assert await head(world, "logs/a") == 2
        assert counting.looks <= 10
        await world.streams.retention.round()
        looks = counting.looks
        await asyncio.sleep(1)
        await world.streams.retention.round()
        assert await head(world, "logs/a") == 4
        assert counting.looks <= looks + 8, "one append is to go"

    simulate(main)


def test_a_stream_that_goes_while_its_appends_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world = await with_policies("logs/ retain-age=1s")
        await world.streams.create(create("logs/a"))
        for number in range(64):
            await world.streams.append(append("logs/a", b"%02d" % number))
        await asyncio.sleep(2)
        Counting(world, monkeypatch)
        for turns in range(8):
            trimming = asyncio.ensure_future(world.streams.retention.round())
            for _ in range(turns):
                await asyncio.sleep(0)
            await world.streams.delete(Delete("logs/a"))
            await trimming
            await world.streams.create(create("logs/a"))
            for number in range(64):
                await world.streams.append(append("logs/a", b"%02d" % number))
            await asyncio.sleep(2)

    simulate(main)


def test_only_what_holds_too_much_is_remembered_as_grown() -> None:
    async def main() -> None:
        world = await with_policies("logs/ retain-bytes=100")
        for number in range(20):
            await world.streams.create(create(f"logs/{number}"))
            await world.streams.append(append(f"logs/{number}", b"x" * 110))
            await world.streams.append(append(f"logs/absent-{number}", b"x" * 110))
        assert not world.streams.retention._grown
        await world.streams.append(append("logs/3", b"x"))
        assert list(world.streams.retention._grown) == ["logs/3"]

    simulate(main)


def test_a_stream_that_is_deleted_or_made_again_meanwhile_is_left_alone() -> None:
    async def main() -> None:
        world = await with_policies("logs/ retain-bytes=10")
        for _ in range(2):
            await world.streams.create(create("logs/a"))
            for _ in range(5):
                await world.streams.append(append("logs/a", b"0123456789"))
            trimming = asyncio.ensure_future(world.streams.retention.round())
            deleting = asyncio.ensure_future(world.streams.delete(Delete("logs/a")))
            making = asyncio.ensure_future(world.streams.create(create("logs/a")))
            await asyncio.gather(trimming, deleting, making)
            assert await head(world, "logs/a") == 0
            await world.streams.delete(Delete("logs/a"))

    simulate(main)


def test_what_cannot_be_proposed_now_is_trimmed_later() -> None:
    async def main() -> None:
        world = await with_policies(
            "logs/ retain-bytes=10", await started(limits=replace(Limits(), max_pending_proposals=1))
        )
        await world.streams.create(create("logs/a"))
        for _ in range(5):
            await world.streams.append(append("logs/a", b"0123456789"))
        world.disk.hold = True
        waiting = asyncio.ensure_future(world.streams.create(create("b")))
        await asyncio.sleep(0)
        await world.streams.retention.round()
        world.disk.release()
        await waiting
        assert await head(world, "logs/a") == 0
        await world.streams.retention.round()
        assert await head(world, "logs/a") == 40

    simulate(main)


def test_without_a_policy_nothing_is_looked_at() -> None:
    async def main() -> None:
        world = await with_policies("tmp/ ttl=5s")
        idle = Retention(world.driver, parse_policies("tmp/ ttl=5s"))
        idle.grew("tmp/a")
        await idle.round()
        assert not idle._grown

    simulate(main)


def test_the_list_is_in_order_and_shows_only_what_lives() -> None:
    async def main() -> None:
        world = await started()
        for path in ("b", "a/2", "a", "a/10", "a.b", "ä", "z/x", "gone", "due"):
            await world.streams.create(create(path, ttl_s=5 if path == "due" else None))
        await world.streams.delete(Delete("gone"))
        await world.streams.append(append("a/2", b"xy"))
        await asyncio.sleep(6)
        every = await world.streams.list_streams("", "", 100)
        assert [each.path for each in every] == ["a", "a.b", "a/10", "a/2", "b", "z/x", "ä"]
        assert [each.path for each in await world.streams.list_streams("a/", "", 100)] == ["a/10", "a/2"]
        assert [each.path for each in await world.streams.list_streams("a", "a", 100)] == ["a.b", "a/10", "a/2"]
        assert [each.path for each in await world.streams.list_streams("a", "a.b", 1)] == ["a/10"]
        assert await world.streams.list_streams("a", "b", 5) == []
        assert await world.streams.list_streams("nothing", "", 5) == []
        walked, after = [], ""
        while page := await world.streams.list_streams("", after, 2):
            walked += page
            after = page[-1].path
        assert walked == every
        listed = every[3]
        assert changed(listed, path="a/10", next_offset=START) == every[2]
        assert listed.next_offset.position == 2

    simulate(main)


def test_a_long_list_skips_what_is_gone_without_ending_early() -> None:
    async def main() -> None:
        world = await started()
        for number in range(350):
            await world.streams.create(create(f"s/{number:04d}", ttl_s=5 if number < 330 else None))
        await asyncio.sleep(6)
        assert [each.path for each in await world.streams.list_streams("s/", "", 10)] == [
            f"s/{number:04d}" for number in range(330, 340)
        ]

    simulate(main)
