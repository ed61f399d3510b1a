"""What clients are told through a stand-alone gateway is what a node tells them, to the byte."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from durable_streams_cluster.limits import Limits
from tests.datadriven import run_script, scripts
from tests.gateway import asgi, test_http_scripts
from tests.gateway.remote.wire import Gateway
from tests.peers.asking import ask
from tests.runtime.world import JumpingLoop, World, simulate, started

T = TypeVar("T")
SCRIPTS = scripts(test_http_scripts.__file__, "*.http.txt")


class Behind(World):
    """A node whose application is that of a gateway in front of it."""

    gateway: Gateway


async def behind_a_gateway(limits: Limits) -> Behind:
    world = cast("Behind", await started(limits=limits))
    gateway = world.gateway = Gateway(world)
    world.app, world.metrics = gateway.app, gateway.metrics
    return world


async def both(script: Callable[[World], Awaitable[T]]) -> tuple[T, T]:
    """What it makes of a node, and of a gateway."""
    world = await behind_a_gateway(Limits())
    try:
        return await script(await started()), await script(world)
    finally:
        await world.gateway.aclose()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name.partition(".")[0])
def test_http(path: Path) -> None:
    """The scripts of a node, as they are."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        begun: list[Behind] = []

        async def start(limits: Limits) -> World:
            begun.append(await behind_a_gateway(limits))
            return begun[-1]

        client = test_http_scripts.Client(runner, start)
        run_script(path, client.handle)
        client.end()
        for each in begun:
            runner.run(each.gateway.aclose())


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
@pytest.mark.parametrize("source", ["there", "missing", "deleted"])
@pytest.mark.parametrize("asked_type", ["", "content-type: application/json", "content-type: text/plain"])
def test_a_fork_with_a_body(source: str, content_type: str, asked_type: str) -> None:
    """Of which type the body is the source decides, which may not be there."""

    async def told(world: World) -> str:
        if source != "missing":
            await ask(world, f"PUT /v1/stream/source\ncontent-type: {content_type}\n\n[1]")
        if source == "deleted":
            await ask(world, "PUT /v1/stream/other\nstream-forked-from: /v1/stream/source\n\n")
            await ask(world, "DELETE /v1/stream/source")
        headers = "\n".join(filter(None, ["stream-forked-from: /v1/stream/source", asked_type]))
        made = await ask(world, f"PUT /v1/stream/fork\n{headers}\n\n[2, 3]")
        read = await ask(world, "GET /v1/stream/fork?offset=-1")
        return f"{asgi.shown(made)}\n{asgi.shown(read)}"

    async def main() -> None:
        direct, through = await both(told)
        assert through == direct

    simulate(main)
