"""Live readers: through the service as ``gateway.live`` does it, or through the gateway itself, as SSE."""

import asyncio
import json
import re
from collections.abc import MutableMapping
from random import Random
from typing import TYPE_CHECKING, Any

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.streams.offsets import parse
from tests.history.records import START, Op
from tests.sim.node import BrokenConnection, Life

if TYPE_CHECKING:
    from tests.sim.world import World

EVENT = re.compile(rb"event: (data|control)\n((?:data:.*\n)+)\n")
CONNECTION_S = 8.0
SOON_S = 0.02


class Tail:
    """Goes on at another node where it was, whenever one ends its connection."""

    def __init__(self, world: "World", number: int, random: Random, path: str) -> None:
        self.sse = random.random() < 0.5
        self.world, self.name, self.random, self.path = world, f"r{number}", random, path
        self.at = START
        self.done = False

    async def run(self) -> None:
        while not self.done:
            life = self.random.choice(self.world.nodes).serving
            if life is None:
                await asyncio.sleep(0.05)
                continue
            try:
                follow = self.follow_events if self.sse else self.follow
                await life.ask(lambda: follow(life), 0.0003, 0.0003)  # noqa: B023
                await asyncio.sleep(0.01)
            except (BrokenConnection, ClusterError):
                self.world.marks["live read went on elsewhere"] += 1
                await asyncio.sleep(self.random.uniform(0.01, 0.2))

    async def follow(self, life: Life) -> None:
        """As ``gateway.live`` does, in the node's process: register, read, wait."""
        streams = life.streams
        ends_s = self.world.loop.now_s + CONNECTION_S
        moved, woken = True, False
        with streams.watch(self.path) as watch:
            while not self.done and self.world.loop.now_s < ends_s and not life.draining:
                at = parse(self.at) if self.at != START else From.START
                page = await streams.read(self.path, at, fresh=not woken)
                if not isinstance(page, Page):
                    moved = woken = await watch.wait(0.5)
                    continue
                if page.bodies and not moved and not watch.moved:
                    self.world.wrong.append(f"{self.path} moved at {life.node.name}, and nobody woke {self.name}")
                if page.bodies or page.closed:
                    self.deliver(b"".join(page.bodies), str(page.next), closed=page.closed)
                if page.up_to_date:
                    # Who was woken for nothing looks again soon: what it was woken for may be here only now.
                    moved = woken = await watch.wait(SOON_S if woken and not page.bodies else 1.0)

    async def follow_events(self, life: Life) -> None:
        """One request to the gateway; what it sends arrives at once."""
        got = bytearray()
        left: asyncio.Future[None] = self.world.loop.create_future()
        self.world.loop.call_later(CONNECTION_S, lambda: left.done() or left.set_result(None))
        query = f"offset={self.at if self.at != START else -1}&live=sse".encode()
        path = f"/v1/stream/{self.path}"
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query}

        async def receive() -> MutableMapping[str, Any]:
            await left
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.world.marks["live read by SSE"] += message["status"] == 200
            elif not self.done:
                got.extend(message["body"])
                self._events(got)

        await life.app({**scope, "headers": [], "client": (self.name, 1)}, receive, send)

    def _events(self, got: bytearray) -> None:
        data = b""
        for kind, lines in EVENT.findall(got):
            text = b"\n".join(line[5:].removeprefix(b" ") for line in lines.split(b"\n")[:-1])
            if kind == b"data":
                data += text
                continue
            control = json.loads(text)
            if data or control.get("streamClosed"):
                self.deliver(data, control["streamNextOffset"], closed=control.get("streamClosed", False))
            data = b""
        got.clear()

    def deliver(self, body: bytes, to: str, *, closed: bool) -> None:
        now = self.world.now()
        op = Op(kind="live", path=self.path, client=self.name, sent=now, answered=now, outcome="acked")
        op.body, op.start, op.next, op.closed = body.decode(), self.at, to, closed
        self.at = op.next
        self.done = closed
        self.world.history.add(op)

    def finish(self) -> None:
        """It was given all the time it needs."""
        if self.done:
            return
        self.done = True
        now = self.world.now()
        op = Op(kind="live", path=self.path, client=self.name, sent=now, answered=now, outcome="acked", last=True)
        op.start = op.next = self.at
        self.world.history.add(op)
