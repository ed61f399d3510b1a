"""What the application counts, and what it holds."""

import asyncio

import pytest

from durable_streams_cluster.limits import KIB, Limits
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.runtime.world import World, content, settle, simulate, started

APPEND = "POST /v1/stream/s\ncontent-type: text/plain\n"
PRODUCER = "producer-id: p\nproducer-epoch: 0\nproducer-seq: 0\n"


async def answered(world: World, request: str) -> Exchange:
    exchange = asgi.parse(request)
    exchange.begin(world.app)
    await exchange.finish()
    return exchange


def test_only_what_was_stored_counts_as_an_append() -> None:
    async def main() -> None:
        world = await started()
        assert (await answered(world, APPEND + "\nnobody")).status == 404
        await answered(world, "PUT /v1/stream/s\ncontent-type: text/plain\n\n")
        assert (await answered(world, "POST /v1/stream/s\ncontent-type: text/html\n\nx")).status == 409
        assert (world.metrics.appends, world.metrics.append_bytes) == (0, 0)
        assert (await answered(world, APPEND + PRODUCER + "\nfive!")).status == 200
        assert (await answered(world, APPEND + PRODUCER + "\nfive!")).status == 204
        assert (await answered(world, "POST /v1/stream/s\nstream-closed: true\n\n")).status == 204
        assert (world.metrics.appends, world.metrics.append_bytes) == (1, 5)

    simulate(main)


def test_large_bodies_count_while_they_wait_to_be_decoded() -> None:
    """Decoded in a thread, they could otherwise gather before it without a bound."""

    async def main() -> None:
        limits = Limits(max_append_bytes=300 * KIB, max_inflight_bytes=400 * KIB)
        world = await started(limits=limits)
        await answered(world, "PUT /v1/stream/s\ncontent-type: application/json\n\n")
        body = '"' + "x" * (299 * KIB) + '"'
        request = f"POST /v1/stream/s\ncontent-type: application/json\n\n{body}"
        exchanges = await asyncio.gather(*(answered(world, request) for _ in range(2)))
        assert [exchange.status for exchange in exchanges] == [204, 429]
        assert (await answered(world, request)).status == 204, "what was held is free again"

    asyncio.run(main())


@pytest.mark.parametrize("come", [[], [b"", b"x"], [b"x", b"y"]], ids=["nothing", "an empty piece", "a piece"])
def test_a_body_that_does_not_come_is_waited_for_as_long_as_is_said(come: list[bytes]) -> None:
    """Before its first byte, too: that wait once had no end, and each such request held a connection for ever."""

    async def main() -> None:
        world = await started(limits=Limits(body_timeout_s=5))
        exchange = Exchange("POST", b"/v1/stream/s", [(b"content-type", b"text/plain")], come)
        exchange.stays_open = True
        began_ms = world.clock.steady_ms()
        exchange.begin(world.app)
        await exchange.finish()
        assert (exchange.status, world.clock.steady_ms() - began_ms) == (408, 5_000)
        assert world.app._buffered == 0

    simulate(main)


def test_a_body_that_comes_late_is_taken_and_a_client_that_leaves_is_not_waited_for() -> None:
    async def main() -> None:
        world = await started()
        await answered(world, "PUT /v1/stream/s\ncontent-type: text/plain\n\n")
        late, gone = (Exchange("POST", b"/v1/stream/s", [(b"content-type", b"text/plain")], []) for _ in range(2))
        for each in (late, gone):
            each.begin(world.app)
        await settle()
        late.come(b"abc")
        gone.leave()
        await late.finish()
        await gone.finish()
        assert (late.status, gone.status) == (204, 400)
        assert await content(world, "s") == b"abc"

    simulate(main)
