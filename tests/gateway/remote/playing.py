"""What these tests share: a gateway in front of a node that has a stream ``s`` of text, and what is done there."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

from durable_streams_cluster.limits import Limits
from durable_streams_cluster.streams.commands import Append, Create, Delete
from tests.gateway.remote.watcher import Watcher
from tests.gateway.remote.wire import Gateway
from tests.runtime.world import settle, simulate, started


def play(script: Callable[[Gateway], Awaitable[None]], limits: Limits | None = None) -> None:
    """Nothing is left of the gateway afterwards, and nothing failed unseen."""

    async def main() -> None:
        unseen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        gateway = Gateway(await started(), limits)
        await create(gateway)
        await script(gateway)
        await gateway.aclose()
        await settle()
        streams = gateway.streams
        assert streams.tails._size == sum(tail.recent.size for tail in streams.tails._tails.values())
        assert (streams.waiting, streams.inflight_bytes) == (0, 0)
        assert (streams._running, streams._following, gateway.node.open) == ({}, {}, [])
        gc.collect()
        assert unseen == []

    simulate(main)


async def create(gateway: Gateway, path: str = "s", ttl_s: int | None = None) -> None:
    await gateway.world.streams.create(Create(path, "text/plain", ttl_s, None, False, b"", None))


async def append(gateway: Gateway, body: bytes, path: str = "s") -> None:
    await gateway.world.streams.append(Append(path, "text/plain", body, False, None, None))


async def close(gateway: Gateway, body: bytes = b"") -> None:
    await gateway.world.streams.append(Append("s", "text/plain" if body else None, body, True, None, None))


async def delete(gateway: Gateway) -> None:
    await gateway.world.streams.delete(Delete("s"))


async def watched(gateway: Gateway, count: int = 1, path: str = "s") -> list[Watcher]:
    """So many readers that wait."""
    watchers = [Watcher(gateway.streams, path) for _ in range(count)]
    await asyncio.gather(*(each.is_open.wait() for each in watchers))
    await settle()
    return watchers


async def gone(*watchers: Watcher) -> None:
    await asyncio.gather(*(each.leave() for each in watchers))
