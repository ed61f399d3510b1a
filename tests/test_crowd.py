"""Readers that do not read: pages get small, what cannot be small is refused, and what they hold is counted."""

import asyncio
from dataclasses import replace

import pytest

from durable_streams_cluster.api import Page
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import Overloaded
from durable_streams_cluster.limits import KIB, Limits
from durable_streams_cluster.streams.offsets import START
from tests.gateway.serving import serving, until
from tests.runs import alone
from tests.runtime.world import append, create, simulate, started

LIMITS = replace(Limits(), max_unsent_bytes=100 * KIB, pressed_read_bytes=10 * KIB)


def page(size: int) -> Page:
    return Page("s", "text/plain", False, START, START, alone(b"x" * size), True, False, None, None, {})


@pytest.mark.parametrize(
    ("unsent", "asked", "small", "middle", "large"),
    [
        (0, None, True, True, True),
        (50 * KIB - 1, None, True, True, True),
        (50 * KIB, 10 * KIB, True, True, False),
        (99 * KIB, 10 * KIB, True, False, False),
        (1000 * KIB, 10 * KIB, True, False, False),
    ],
)
def test_what_is_unsent_decides_on_the_next_page(
    unsent: int, asked: int | None, small: bool, middle: bool, large: bool
) -> None:
    crowd = Crowd(LIMITS)
    crowd.unsent_bytes = lambda: unsent
    assert crowd.page_bytes() == asked
    assert [crowd.has_room(page(size * KIB)) for size in (10, 40, 1000)] == [small, middle, large]
    if not large:
        with pytest.raises(Overloaded):
            crowd.admit(page(1000 * KIB))


def test_a_page_is_as_small_as_asked_and_never_splits_an_append() -> None:
    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        for _ in range(10):
            await world.streams.append(append("s", b"x" * 100))
        sizes = []
        for most in (None, 250, 1, None):
            found = await world.streams.read("s", START, most)
            assert isinstance(found, Page)
            sizes.append(len(found.bodies))
        assert sizes == [10, 2, 1, 10]

    simulate(main)


def test_what_clients_do_not_take_is_counted_and_who_takes_nothing_is_cut() -> None:
    limits = replace(Limits(), max_unsent_bytes=2 * 1024 * KIB)

    async def app(_scope: object, _receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": bytes(32 * 1024 * KIB)})  # type: ignore[operator]

    async def main() -> None:
        async with serving(app, limits) as world:
            state = world.server.state
            client = await world.connect()
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await until(lambda: state.unsent_bytes > 0)
            assert state.pressed
            for _ in range(3):
                world.pass_time(1)
            await until(lambda: not state.connections)
            assert state.unsent_bytes == 0
            assert not state.stalled
            assert state.refused["slow_reader"] == 1

    asyncio.run(main())
