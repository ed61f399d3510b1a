"""Pages: made once for all who ask at the same time, and kept within a bound."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.runtime import service as service_module
from durable_streams_cluster.runtime.pages import PageCache
from durable_streams_cluster.streams.meta import StreamRef
from durable_streams_cluster.streams.offsets import START
from tests.runs import alone
from tests.runtime.world import append, create, simulate, started

BOUND = 20_000
SIZES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12_000)), max_size=30)


def page(size: int) -> Page:
    return Page("1-1", "text/plain", False, START, START, alone(b"x" * size), True, False, None, None, {})


@given(SIZES)
def test_the_bound_holds_and_nothing_is_counted_twice(puts: list[tuple[int, int]]) -> None:
    cache = PageCache(BOUND)
    keys = [(StreamRef(1, number), 0, 0, False) for number in range(6)]
    for number, size in puts:
        cache.put(keys[number], page(size))
        held = [found for key in keys if (found := cache.get(key)) is not None]
        assert sum(3 * len(each.bodies[0]) + 512 for each in held) <= BOUND
    cache.put(keys[0], page(100))
    assert cache.get(keys[0]) is not None, "whatever came before, a small page still fits"


def test_a_page_of_many_appends_is_made_once_for_all_who_ask_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "SLICE_RECORDS", 2)

    async def main() -> None:
        world = await started()
        await world.streams.create(create("s"))
        for number in range(9):
            await world.streams.append(append("s", b"%d" % number))
        readers = [asyncio.ensure_future(world.streams.read("s", From.START)) for _ in range(20)]
        await asyncio.sleep(0)  # all have asked, and the first has begun
        readers[0].cancel()  # whoever began it may leave; the others still get it
        first, *others = [await reader for reader in readers[1:]]
        assert isinstance(first, Page)
        assert b"".join(first.bodies) == b"012345678"
        assert all(other is first for other in others)

    simulate(main)
