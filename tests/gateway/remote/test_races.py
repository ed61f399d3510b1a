"""Readers of one stream while it is written, deleted and closed, and while everything on the way is late or breaks."""

import asyncio
from random import Random

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.gateway.remote import tails
from durable_streams_cluster.streams.commands import Append, Create, Delete
from durable_streams_cluster.streams.outcomes import Appended, Created, NotFound, StreamClosed
from tests.gateway.remote.watcher import Watcher
from tests.gateway.remote.wire import Gateway
from tests.runtime.world import simulate, started

RACES, STEPS = 10, 40


class Race:
    """Whatever happens at whatever time: nobody misses anything, and nobody is left waiting."""

    def __init__(self, gateway: Gateway, chance: Random) -> None:
        self.gateway, self.chance = gateway, chance
        self.local = gateway.world.streams
        self.written: dict[str, bytes] = {}
        """By stream."""
        self.stream = ""
        self.watchers: list[Watcher] = []
        self.counter = 0
        # Mostly at once, sometimes late: what is sent on two calls arrives in any order.
        late_s = chance.choice([0.001, 0.05, 0.5])
        gateway.node.delay = lambda: chance.choice([0.0, 0.0, late_s]) * chance.random()

    async def run(self) -> None:
        await self.create()
        actions = [*[self.append] * 12, *[self.arrive] * 6, *[self.leave] * 3]
        actions += [self.break_off, self.away] * self.chance.choice([0, 1, 4])
        actions += [self.delete, self.close, self.create, self.create] * self.chance.choice([0, 1, 4])
        longest_s = self.chance.choice([0.1, 1, 12])
        for _ in range(STEPS):
            await self.chance.choice(actions)()
            await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.02, longest_s]) * self.chance.random())
        await self.end()

    async def create(self) -> None:
        if isinstance(await self.local.create(Create("s", "text/plain", None, None, False, b"", None)), Created):
            found = await self.local.read("s", From.START)
            assert isinstance(found, Page)
            self.stream = found.stream
            self.written.setdefault(self.stream, b"")

    async def append(self) -> None:
        self.counter += 1
        body = b"%d." % self.counter
        outcome = await self.local.append(Append("s", "text/plain", body, False, None, None))
        if isinstance(outcome, Appended):
            self.written[self.stream] += body
        else:
            assert isinstance(outcome, NotFound | StreamClosed)

    async def delete(self) -> None:
        await self.local.delete(Delete("s"))

    async def close(self) -> None:
        await self.local.append(Append("s", None, b"", True, None, None))

    async def arrive(self) -> None:
        self.watchers.append(Watcher(self.gateway.streams))

    async def leave(self) -> None:
        if self.watchers:
            await self.chance.choice(self.watchers).leave()

    async def break_off(self) -> None:
        self.gateway.node.break_off()

    async def away(self) -> None:
        """For less than the time after which readers are sent away, and long enough there for the next attempt."""
        self.gateway.node.reaches = False
        self.gateway.node.break_off()
        await asyncio.sleep(self.chance.random() * 3)
        self.gateway.node.reaches = True
        await asyncio.sleep(4)

    async def end(self) -> None:
        await asyncio.sleep(60)
        for watcher in self.watchers:
            if watcher.task.cancelled():
                continue
            assert not isinstance(watcher.ended, ClusterError), watcher.ended
            written = self.written.get(watcher.stream, b"")
            if watcher.ended is None:
                assert watcher.stream == self.stream, "the stream is gone, and it waits"
                assert watcher.got == written
            else:
                assert written.startswith(watcher.got)
            if watcher.pages and watcher.pages[-1].closed:
                assert watcher.got == written
            await watcher.leave()
        await asyncio.sleep(tails.LINGER_S + 1)
        assert len(self.gateway.streams.tails) == 0
        assert self.gateway.streams.tails._size == 0
        await self.gateway.aclose()
        assert {task for task in asyncio.all_tasks() if "Tail" in repr(task)} == set()


def test_race(seed: int) -> None:
    async def main() -> None:
        for number in range(RACES):
            await Race(Gateway(await started()), Random(f"{seed} {number}")).run()

    simulate(main)
