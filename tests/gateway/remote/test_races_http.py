"""The races of ``test_races`` as HTTP clients see them: SSE, and long-polls one after the other."""

import asyncio
from dataclasses import replace
from random import Random

from durable_streams_cluster.limits import Limits
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.gateway.remote.test_races import RACES, Race
from tests.gateway.remote.wire import Gateway
from tests.peers.asking import control, events, offset
from tests.runtime.world import simulate, started


class Client:
    """Reads the stream from its start, until it is told that there is no more."""

    def __init__(self, race: "HttpRace") -> None:
        self.race = race
        self.got = b""
        self.deletes = race.deletes
        """How many there had been when it began."""
        self.was_there = race.present
        self.before = race.written[race.stream] if race.present else b""
        self.ended = ""
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> None:
        raise NotImplementedError

    async def finished(self, exchange: Exchange) -> None:
        """Its answer is there, or this client has left."""
        assert exchange._task is not None
        try:
            await asyncio.wait({exchange._task})
        finally:
            exchange.leave()
            await exchange.finish()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    def absent(self) -> None:
        """It was told that there is no such stream, or no more."""
        assert not self.was_there or self.race.deletes > self.deletes, "it was there all the time"
        self.ended = "absent"

    def up_to_date(self) -> None:
        """It was told, for the first time, that it has read all."""
        if self.race.deletes == self.deletes and self.was_there:
            assert self.got.startswith(self.before), "what had been acknowledged before it asked"

    def check(self) -> None:
        assert not self.task.done() or self.task.cancelled() or self.task.result() is None
        if self.task.cancelled():
            return
        all_of_it = [written for written in self.race.written.values() if written.startswith(self.got)]
        assert all_of_it, self.got
        if not self.ended:
            assert self.race.present, "the stream is gone, and it waits"
            assert self.got == self.race.written[self.race.stream]
        elif self.ended == "closed":
            assert self.got in all_of_it


class Sse(Client):
    async def run(self) -> None:
        self.exchange = asgi.parse("GET /v1/stream/s?offset=-1&live=sse")
        self.exchange.begin(self.race.gateway.app)
        await self.finished(self.exchange)
        if self.exchange.status in (404, 410):
            self.absent()
            return
        assert self.exchange.status == 200, self.exchange.body
        if control(self.exchange).get("streamClosed"):
            self.ended = "closed"
        else:
            assert self.race.deletes > self.deletes, "it ended for nothing"
            self.ended = "cut off"

    def check(self) -> None:
        told = False
        for kind, what in events(self.exchange) if self.exchange.status == 200 else ():
            if kind == "data":
                self.got += what.encode()
            elif what.get("upToDate") and not told:
                told = True
                self.up_to_date()
        super().check()


class Poller(Client):
    async def run(self) -> None:
        at, told = "-1", False
        while not self.ended:
            exchange = asgi.parse(f"GET /v1/stream/s?offset={at}&live=long-poll")
            exchange.begin(self.race.gateway.app)
            await self.finished(exchange)
            if exchange.status in (404, 410):
                self.absent()
                return
            assert exchange.status in (200, 204), exchange.body
            self.got += exchange.body
            at = offset(exchange)
            if exchange.header(b"stream-up-to-date") and not told:
                told = True
                self.up_to_date()
            if exchange.header(b"stream-closed"):
                self.ended = "closed"


class HttpRace(Race):
    def __init__(self, gateway: Gateway, chance: Random) -> None:
        super().__init__(gateway, chance)
        self.clients: list[Client] = []
        self.deletes = 0
        self.present = False

    async def create(self) -> None:
        await super().create()
        self.present = True

    async def delete(self) -> None:
        self.deletes += self.present
        self.present = False
        await super().delete()

    async def arrive(self) -> None:
        self.clients.append(self.chance.choice([Sse, Poller])(self))

    async def leave(self) -> None:
        if self.clients:
            await self.chance.choice(self.clients).leave()

    async def end(self) -> None:
        await asyncio.sleep(60)
        for client in self.clients:
            client.check()
            await client.leave()
        await super().end()
        assert self.gateway.metrics.live_readers == {"long-poll": 0, "sse": 0}


def test_race(seed: int) -> None:
    limits = replace(Limits(), sse_lifetime_s=1e6)

    async def main() -> None:
        for number in range(RACES // 2):
            await HttpRace(Gateway(await started(), limits), Random(f"{seed} {number}")).run()

    simulate(main)
