"""What the application counts, and what it holds."""

import asyncio

from durable_streams_cluster.limits import KIB, Limits
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.runtime.world import World, simulate, started

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
