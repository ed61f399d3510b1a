r"""The protocol as requests and responses, over a real node in memory with simulated time.

A command is a whole request: its first line is the command's, the rest stands below. Other commands:

- ``begin NAME``, below it a request: starts it, and prints what it sent so far; ``more NAME``: what it sent since;
- ``together``, below it requests divided by ``===``: they reach the node in one turn;
- ``leave NAME``: its client goes away; ``wait SECONDS``: time passes;
- ``clock SECONDS``: the wall clock jumps; ``mount PREFIX``: the application is mounted there; ``public URL``;
- ``limit NAME NUMBER``: a node with this limit, empty; ``drain``;
- ``trim PATH POSITION``: what retention does to a stream.

Offsets are as they are on the wire. Headers that every response has are checked, not shown.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from durable_streams_cluster.limits import Limits
from durable_streams_cluster.streams.commands import Trim
from tests.datadriven import Command, run_script, scripts
from tests.gateway import asgi
from tests.runtime.world import JumpingLoop, World, settle, simulate, started

METHODS = {*["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "BREW"]}


class Client:
    """Runs one command at a time on the loop; the node lives as long as the script."""

    def __init__(self, runner: asyncio.Runner, start: Callable[[Limits], Awaitable[World]]) -> None:
        self._runner = runner
        self._start = start
        self._limits = Limits()
        self._world: World = runner.run(self._started())
        self._root = ""
        self._begun: dict[str, tuple[asgi.Exchange, int]] = {}

    async def _started(self) -> World:
        return await self._start(self._limits)

    def handle(self, command: Command) -> str:
        if command.name in METHODS:
            request = f"{command.name} {' '.join(command.words())}\n{command.input}"
            return self._runner.run(self._exchange(request))
        return self._runner.run(getattr(self, f"do_{command.name}")(command))

    async def _exchange(self, request: str) -> str:
        exchange = asgi.parse(request)
        exchange.begin(self._world.app, self._root)
        await exchange.finish()
        return asgi.shown(exchange)

    async def do_together(self, command: Command) -> str:
        exchanges = [asgi.parse(request) for request in command.input.split("\n===\n")]
        for exchange in exchanges:
            exchange.begin(self._world.app, self._root)
        for exchange in exchanges:
            await exchange.finish()
        return "\n===\n".join(map(asgi.shown, exchanges))

    async def do_begin(self, command: Command) -> str:
        name = command.word()
        exchange = asgi.parse(command.input)
        exchange.begin(self._world.app, self._root)
        await settle()
        self._begun[name] = (exchange, len(exchange.pieces))
        shown = asgi.shown(exchange) if exchange.status else "waits"
        return shown + "\nended" * exchange.done

    async def do_more(self, command: Command) -> str:
        """Each piece that was sent since, divided by ``===``; whether it ended."""
        name = command.word()
        await settle()
        exchange, seen = self._begun[name]
        self._begun[name] = (exchange, len(exchange.pieces))
        if exchange.header(b"content-type") != b"text/event-stream":
            return asgi.shown(exchange) if exchange.ended else "ended" if exchange.done else "waits"
        pieces = [piece.decode().removesuffix("\n\n") for piece in exchange.pieces[seen:] if piece]
        return "\n".join(["\n===\n".join(pieces), "ended" if exchange.done else "goes on"]).lstrip()

    async def do_leave(self, command: Command) -> str:
        exchange, _ = self._begun[command.word()]
        exchange.leave()
        await settle()
        return "ended" if exchange.done else "goes on"

    async def do_wait(self, command: Command) -> str:
        await asyncio.sleep(float(command.word()))
        await settle()
        return ""

    async def do_clock(self, command: Command) -> str:
        self._world.clock.wall_offset_ms += int(command.word()) * 1000
        return ""

    async def do_mount(self, command: Command) -> str:
        self._root = command.word("").rstrip("/")
        return ""

    async def do_public(self, command: Command) -> str:
        self._world.app.public_url = command.word().encode()
        return ""

    async def do_limit(self, command: Command) -> str:
        self._limits = replace(self._limits, **{command.word(): int(command.word())})
        self._world = await self._started()
        return ""

    async def do_trim(self, command: Command) -> str:
        path = command.word()
        ref = self._world.group.store.committed.find(path)
        outcome = await self._world.driver.propose(Trim(path, ref.id, int(command.word())), 1)
        return type(outcome).__name__

    async def do_drain(self, _: Command) -> str:
        self._world.app.drain()
        await settle()
        return ""

    def end(self) -> None:
        """Nobody waits any more, and nothing is counted as open."""
        for exchange, _ in self._begun.values():
            exchange.leave()
        self._runner.run(settle())
        assert all(exchange.done for exchange, _ in self._begun.values())
        assert self._world.metrics.live_readers == {"long-poll": 0, "sse": 0}


@pytest.mark.parametrize("path", scripts(__file__, "*.http.txt"), ids=lambda path: path.name.partition(".")[0])
def test_http(path: Path, rewrite: bool) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        client = Client(runner, lambda limits: started(limits=limits))
        run_script(path, client.handle, rewrite=rewrite)
        client.end()


def test_the_cursor_of_an_sse_read_keeps_to_the_clock() -> None:
    """Readers of one stream come back with one cursor, so that caches can collapse them (PROTOCOL 10.1)."""

    async def main() -> None:
        world = await started()
        await asgi_request(world, "PUT /v1/stream/s\ncontent-type: text/plain\n\none")
        read = asgi.parse("GET /v1/stream/s?offset=-1&live=sse")
        read.begin(world.app)
        await settle()
        await asgi_request(world, "POST /v1/stream/s\ncontent-type: text/plain\n\ntwo")
        await settle()
        read.leave()
        await read.finish()
        assert len(set(re.findall(rb'"streamCursor":"(\d+)"', read.body))) == 1

    simulate(main)


async def asgi_request(world: World, request: str) -> None:
    exchange = asgi.parse(request)
    exchange.begin(world.app)
    await exchange.finish()
