"""A node in memory under everything at once: requests that race, clients that leave, a disk that hangs, stalls, dies.

Time is simulated, and every step comes from the seed. What must hold at the end: what was acknowledged or seen is there
once, in an order that the clients could see; what was refused is not there; what is unknown is there at most once; and
nobody waits, holds bytes or is watched any more.
"""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.storage.kv import Family, WriteBatch
from durable_streams_cluster.streams.commands import Delete
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.runtime.world import StallingKv, World, settle, simulate, started

LIMITS = replace(
    Limits(),
    proposal_timeout_s=2.0,
    long_poll_timeout_s=4.0,
    sse_lifetime_s=9.0,
    sse_keepalive_s=3.0,
    max_read_bytes=40,
    max_pending_proposals=30,
)
KEPT, WILD = ("k0", "k1"), ("w0", "w1", "w2")
LIFETIMES = ("", "stream-ttl: 1\n", "stream-ttl: 6\n", "stream-expires-at: 2025-06-15T15:06:50Z\n")
STEPS = 250
PRODUCED = 10_000
"""Tokens from here on are those of idempotent producers."""


@dataclass
class Asked:
    """A request, and between which steps it was answered."""

    exchange: Exchange
    path: str
    token: str
    begun: int
    ended: int | None = None


class Journal(StallingKv):
    """Remembers every write, and how many of them were synced."""

    def __init__(self, batches: Iterable[WriteBatch] = ()) -> None:
        super().__init__()
        self.batches: list[WriteBatch] = []
        for batch in batches:
            self.write(batch)
        self.synced = len(self.batches)

    def write(self, batch: WriteBatch) -> None:
        super().write(batch)
        self.batches.append(batch)

    def sync(self) -> int:
        self.synced = len(self.batches)
        return super().sync()


class Storm:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.step = 0
        self.asked: list[Asked] = []
        self.reads: list[Asked] = []
        self.produced: dict[str, list[Asked]] = {path: [] for path in KEPT}

    @property
    def all(self) -> list[Asked]:
        return [*self.asked, *self.reads, *(each for tries in self.produced.values() for each in tries)]

    async def start(self, kv: Journal) -> None:
        self.kv = kv
        self.world = await started(kv, LIMITS)
        world = self.world
        self.jobs = asyncio.ensure_future(Jobs(world.driver, world.streams, world.clock, world.metrics).run())

    async def power_cut(self) -> None:
        """The node dies while a sync is under way; of the writes that were not synced, some are lost."""
        self.world.disk.hold = True
        acts = [self.kept, self.produce, self.produce, self.wild, self.read]
        for act in self.random.sample(acts, len(acts)):  # the first one alone is in the log already
            act()
            await settle()
        self.jobs.cancel()
        self.world.driver.close()
        for asked in self.all:
            asked.exchange.cut()
        await settle()
        survived = self.random.randint(self.kv.synced, len(self.kv.batches))
        await self.start(Journal(self.kv.batches[:survived]))

    def begin(self, request: str) -> Exchange:
        exchange = asgi.parse(request)
        exchange.begin(self.world.app)
        return exchange

    def post(self, path: str, token: str, *headers: str) -> Asked:
        request = "\n".join([f"POST /v1/stream/{path}", "content-type: text/plain", *headers, "", token])
        return Asked(self.begin(request), path, token, self.step)

    def append(self, path: str) -> None:
        self.asked.append(self.post(path, f"{len(self.asked)};"))

    def kept(self) -> None:
        self.append(self.random.choice(KEPT))

    def produce(self) -> None:
        """An idempotent producer: one batch at a time, the same again until it is acknowledged."""
        path = self.random.choice(KEPT)
        tries = self.produced[path]
        if tries and not tries[-1].exchange.done:
            return
        acked = sum(each.exchange.status in (200, 204) for each in tries)
        headers = ("producer-id: p", "producer-epoch: 0", f"producer-seq: {acked}")
        tries.append(self.post(path, f"{PRODUCED + acked};", *headers))

    def wild(self) -> None:
        path, source = self.random.choice(WILD), self.random.choice((*WILD, *KEPT))
        verb = self.random.choice(["append", "close", "delete", "create", "create", "fork", "fork", "get"])
        if verb == "append":
            self.append(path)
            return
        ttl = self.random.choice(LIFETIMES)
        request = {
            "close": f"POST /v1/stream/{path}\nstream-closed: true\n\n",
            "delete": f"DELETE /v1/stream/{path}",
            "create": f"PUT /v1/stream/{path}\ncontent-type: text/plain\n{ttl}\nfirst;",
            "fork": f"PUT /v1/stream/{path}\nstream-forked-from: /v1/stream/{source}\n{ttl}\n",
            "get": f"GET /v1/stream/{path}?offset=-1",
        }[verb]
        self.reads.append(Asked(self.begin(request), path, "", self.step))

    def read(self) -> None:
        path = self.random.choice((*KEPT, *WILD))
        live = self.random.choice(["", "&live=long-poll", "&live=sse"])
        at = self.random.choice(["-1", "now"])
        self.reads.append(Asked(self.begin(f"GET /v1/stream/{path}?offset={at}{live}"), path, at + live, self.step))

    async def trouble(self) -> None:
        what = self.random.choices(["hold", "release", "stall", "leave", "time", "die"], [40, 100, 20, 80, 80, 3])[0]
        if what == "die":
            await self.power_cut()
        elif what == "hold":
            self.world.disk.hold = True
        elif what == "release":
            self.world.disk.release()
        elif what == "stall":
            self.kv.stalls = self.random.choice([1, 2, 3, 600])
        elif what == "leave":
            if self.reads:
                self.random.choice(self.reads).exchange.leave()
        else:
            await asyncio.sleep(self.random.choice([0.003, 0.2, 1.0, 3.0]))

    async def run(self) -> None:
        await self.start(Journal())
        for path in KEPT:
            await self.begin(f"PUT /v1/stream/{path}\ncontent-type: text/plain\n\n").finish()
        for self.step in range(1, STEPS):
            for _ in range(self.random.choice([1, 1, 2, 5])):
                act = self.random.choices([self.kept, self.produce, self.wild, self.read], [3, 1, 4, 3])[0]
                act()
            if self.random.random() < 0.5:
                await settle()
            if self.random.random() < 0.4:
                await self.trouble()
            for asked in self.asked:
                if asked.ended is None and asked.exchange.done:
                    asked.ended = self.step

    async def end(self) -> None:
        self.kv.stalls = 0
        self.world.disk.release()
        for asked in self.all:
            if not asked.exchange.done:
                await asyncio.wait_for(asked.exchange.finish(), 60)
        await settle()
        self.jobs.cancel()


def check_appends(storm: Storm, path: str, content: str) -> None:
    there = content.split(";")[:-1]
    assert len(set(there)) == len(there), "nothing is stored twice"
    place = {token: number for number, token in enumerate(there)}
    acked: list[Asked] = []
    for asked in storm.asked:
        if asked.path != path:
            continue
        token, status = asked.token[:-1], asked.exchange.status
        if status == 204:
            assert token in place, f"{token} was acknowledged"
            acked.append(asked)
        elif status in (429, 503):
            assert token not in place, f"{token} was refused"
        elif status is not None:
            assert b"outcome_unknown" in asked.exchange.body
    for one in acked:
        for other in acked:
            if one.ended is not None and one.ended < other.begun:
                assert place[one.token[:-1]] < place[other.token[:-1]], "in the order that the clients saw"


def check_producer(tries: list[Asked], content: str) -> None:
    acked = [each.token for each in tries if each.exchange.status in (200, 204)]
    assert all(each.exchange.status in (200, 204, 429, 503, 504, None) for each in tries)
    there = [token for token in re.findall(r"\d+;", content) if int(token[:-1]) >= PRODUCED]
    assert there[: len(acked)] == acked, "each once, in order"
    assert len(there) <= len(acked) + 1, "and at most the one that was not acknowledged"


def check_read(storm: Storm, asked: Asked, content: str) -> None:
    exchange = asked.exchange
    if exchange.status not in (200, 204):
        assert exchange.status in (429, 503, None), exchange.status
        return
    if "sse" in asked.token:
        text = "".join(re.findall(r"data:(\d[\d;]*)\n", exchange.body.decode()))
        ends = re.findall(rb'"streamNextOffset":"\d+_(\d+)"', exchange.body)
        end = int(ends[-1]) if ends else 0
    else:
        text = exchange.body.decode()
        end = int((exchange.header(b"stream-next-offset") or b"").partition(b"_")[2])
    assert text == content[end - len(text) : end], "what is stored up to where it says that it is"
    assert len(text) == end or not asked.token.startswith("-1"), "all of it"
    if exchange.header(b"stream-up-to-date") is not None:
        known = [each for each in storm.asked if each.ended is not None and each.ended < asked.begun]
        for each in known:
            if each.path == asked.path and each.exchange.status == 204:
                assert ";" + each.token in ";" + content[:end], "what was acknowledged before it was asked"


async def drop_everything(world: World) -> None:
    """Delete what is left, forks before their sources; then nothing but the group's own state may be in the store."""
    for _ in (*KEPT, *WILD):
        for path in (*KEPT, *WILD):
            await world.streams.delete(Delete(path))
    assert {key[:1] for key, _ in world.kv.scan(Family.DATA, b"", b"\xff")} == {b"G", b"O"}


def test_a_storm_loses_doubles_and_invents_nothing(seed: int) -> None:
    async def main() -> None:
        storm = Storm(Random(seed))
        await storm.run()
        await storm.end()
        world = storm.world
        assert not world.fatal
        assert (world.driver.admission.waiting, world.driver.admission.inflight_bytes, world.group.pending) == (0, 0, 0)
        assert not world.driver.tails._waiting
        assert world.metrics.live_readers == {"long-poll": 0, "sse": 0}
        assert (world.streams._making, world.app.live._encoding, world.app._buffered) == ({}, {}, 0)
        assert not world.app.live._fanout.tails
        again = await started(world.kv, replace(LIMITS, max_read_bytes=10**6))
        for path in (*KEPT, *WILD):
            exchange = asgi.parse(f"GET /v1/stream/{path}?offset=-1")
            exchange.begin(again.app)
            await exchange.finish()
            if path in KEPT:
                assert exchange.status == 200
                check_appends(storm, path, exchange.body.decode())
                check_producer(storm.produced[path], exchange.body.decode())
                for asked in storm.reads:
                    if asked.path == path:
                        check_read(storm, asked, exchange.body.decode())
        await drop_everything(again)

    simulate(main)
