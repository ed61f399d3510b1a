"""One seed: a cluster of production nodes in a world that is drawn, in which things go wrong; then they do not."""

import asyncio
import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.errors import ClusterError, CorruptData
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Remove, Role, Settings
from durable_streams_cluster.raft.quorum import is_majority
from durable_streams_cluster.replica import compaction, lead, members, snapshots
from durable_streams_cluster.runtime import driver
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.codecs import decode_installs
from durable_streams_cluster.streams.commands import Append, Create
from tests.history.checker import Bounds, check
from tests.history.records import Recorder, dump
from tests.sim.churn import KINDS as CHURN
from tests.sim.churn import ask_for
from tests.sim.clients import AGAIN, CLOSING, PLAIN, TEXT, WINDOWS, BrokenConnection, Client, Rusher
from tests.sim.disk import SimDisk
from tests.sim.elections import KINDS
from tests.sim.faults import Faults
from tests.sim.loop import VirtualLoop, context_of
from tests.sim.network import Network, Weather
from tests.sim.node import Life, Node
from tests.sim.observer import INSTALLS, Observer
from tests.sim.tails import Tail

LEAST_ACKED, LEAST_FAULTS = 500, 5
SAFETY_S, AT_MOST_S = 8.0, 60.0
SETTLED_S = 60.0
"""After everything was healed, each node is a voter within so long."""
PACE = 50.0
"""Acknowledged writes in a second; clients that come to more have more time between two."""
WRITABLE_S = 12.0
"""After everything was healed, each node takes writes within so long."""
EQUAL_S = 10.0
FULL_BYTES = 6_000
"""So few in flight make a leader refuse."""
BOUNDS: tuple[tuple[Any, str, tuple[int, ...]], ...] = (
    (lead, "MAX_INFLIGHT_BYTES", (FULL_BYTES, 1 << 26, 1 << 26)),
    (compaction, "KEPT_LOG_BYTES", (1_500, 6_000, 30_000, 1 << 24)),
    (compaction, "HELD_LOG_BYTES", (10_000, 1 << 24)),
    (snapshots, "CHUNK_PAIRS", (3, 30, 250)),
    (snapshots, "GIVE_UP_TICKS", (20, 200)),
    (snapshots, "SWEEP_KEYS", (5, 64)),
    (members, "STEADY_TICKS", (10, 30, 100)),
)
"""Of production code, with what a seed may set them to."""


class Result(NamedTuple):
    """What became of a seed."""

    seed: int
    nodes: int
    wrong: list[str]
    acked: int
    faults: int
    marks: Counter[str]
    digest: int
    simulated_s: float
    trace: list[str]


class World:
    """See the module; everything is drawn from ``seed``."""

    def __init__(self, seed: int, loop: VirtualLoop, *, traces: bool = False) -> None:
        draw = Random(seed)
        self.seed, self.loop = seed, loop
        self.outside = context_of(None)
        self.trace: list[str] | None = [] if traces else None
        self.history = Recorder()
        self.wrong: list[str] = []
        self.marks: Counter[str] = Counter()
        self.observer = Observer()
        self.observer.marks = self.marks
        self.first = draw.choice((1, 3, 3, 3, 5, 5))
        """Nodes that begin the cluster; one alone is joined by two."""
        trickles = draw.random() < 0.4 and self.first > 1
        """Entry by entry, so that there are moments between them."""
        self.settings = Settings(
            window_messages=1 if trickles else draw.choice((2, 64)),
            message_bytes=1 if trickles else draw.choice((400, 1 << 20)),
            cache_bytes=draw.choice((0, 1 << 22)),
            stall_ticks=draw.choice((10, 60)),
        )
        wild = draw.random() < 0.5
        self.network = Network(loop, Random(draw.getrandbits(62)), Weather(draw, wild=wild))
        self.drift = draw.choice((0.0, 0.0005, 0.02))
        self.flush_bytes = draw.choice((20_000, 10**9))
        self._draw = draw
        self.ever: list[Node] = []
        self.nodes: list[Node] = []
        """Those that are in use."""
        self.leaving: set[NodeId] = set()
        """Those whose removal was asked for, and may yet happen."""
        self.moving = False
        for _ in range(self.first):
            self.add()
        for node in self.nodes:
            if self.first > 1:
                node.initial = {each.name: each.address for each in self.nodes}
        while len(self.nodes) < 3:
            self.add([self.nodes[0].address])
        self.spread = draw.choice((1, 4, 30, 30))
        """Of election timeouts, in ticks."""
        for module, name, values in BOUNDS:
            setattr(module, name, draw.choice(values))
        self.faults = Faults(self, Random(draw.getrandbits(62)), KINDS | CHURN)
        # A leader that is full may take what comes behind a letter that it refused.
        self.keeps_order = not wild and not self.faults.silent and lead.MAX_INFLIGHT_BYTES > FULL_BYTES
        self.clients = [Client(self, number, Random(draw.getrandbits(62))) for number in range(draw.randint(8, 14))]
        self.clients += [Rusher(self, 100 + number, Random(draw.getrandbits(62))) for number in range(3)]
        self.rush_until_s = 0.0
        self.tails = [
            Tail(self, number, Random(draw.getrandbits(62)), draw.choice(PLAIN + CLOSING[:1])) for number in range(3)
        ]
        self.acked = self.closed = 0
        self.resting = False
        self.goes_on = asyncio.Event()
        """Clients do something."""
        self.goes_on.set()
        self.forks: list[str] = []
        self.ends: dict[str, list[str]] = {}

    # --------------------------------------------------------------------------------------------------------- events

    def now(self) -> float:
        return self.history.now(self.loop.now_s)

    def ahead(self) -> float:
        """By how much clients slow down, to come to so much and not to much more."""
        return 1.0 if self.acked < PACE * self.loop.now_s or self.faults.stopped else 4.0

    def note(self, who: str, what: object) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.loop.now_s:9.4f} {who}: {what}")

    @property
    def leader(self) -> Node | None:
        """The newest that leads."""
        leading = [node for node in self.nodes if node.core is not None and node.core.role is Role.LEADER]
        return max(leading, key=lambda node: node.core.term if node.core else 0, default=None)

    def named(self, name: NodeId) -> Node:
        """The node of this name."""
        return next(node for node in self.ever if node.name == name)

    def add(self, join: Sequence[str] = ()) -> Node:
        """A machine more, with an empty disk and a name that nobody had."""
        draw = self._draw
        node = Node(self, NodeId(f"n{len(self.ever) + 1}"), Random(draw.getrandbits(62)))
        node.rate = 1 + draw.uniform(-self.drift, self.drift)
        node.disk.flush_bytes = self.flush_bytes
        node.wall_skew_ms = draw.randint(-2000, 2000)
        node.join = join
        self.ever.append(node)
        self.nodes.append(node)
        return node

    def retire(self, node: Node) -> None:
        """It was removed: its process ends, and its disk is never used again."""
        if node in self.nodes:
            self.note(node.name, "is not used any more")
            self.end(node)
            self.nodes.remove(node)

    def may_lose(self, node: Node) -> bool:
        """Whether the others of each membership that anybody may go by are a majority that stays, and is whole."""
        for membership in self.observer.memberships():
            whole = {each.node for each in membership.members if self.observer.is_whole(each)}
            whole -= {*self.leaving, node.name}
            # Learners may be voters in a moment.
            if not (is_majority(whole, membership.voters) and is_majority(whole, membership.nodes)):
                return False
        return True

    def end(self, node: Node, *, power: bool = False) -> None:
        """Its process ends, at once."""
        if node.life is None:
            return
        self.note(node.name, "its power is cut" if power else "ends")
        node.life.end()
        if power:
            self.marks["crash with loss"] += node.disk.cut() > 0
        else:
            node.disk.kill()

    def start(self, node: Node) -> None:
        if node.life is None and node in self.nodes:
            self.note(node.name, "starts")
            # Whoever starts it knows where the others are now.
            node.initial = {name: self.named(name).address for name in node.initial}
            others = [each.address for each in self.nodes if each is not node]
            if not set(node.initial.values()) & set(others):  # Nobody is there any more of whom it was told.
                node.join = others
            node.start()

    def node_failed(self, life: Life, error: BaseException) -> None:
        """A process that cannot go on ends itself; unless its disk failed, it had no reason to."""
        node = life.node
        self.note(node.name, f"fails: {error}")
        if isinstance(error, CorruptData) and node.disk.bad:
            assert node.identity is not None
            assert node.identity.others, f"{node.name} is damaged, and knows nobody to ask"
            node.marked = True
            self.marks["damage found"] += 1
        elif str(error) != "the disk failed":
            self.wrong.append(f"{node.name} failed: {error}")
        self.loop.call_soon(lambda: node.life is life and self.end(node, power=True), context=self.outside)
        self.loop.call_later(0.5, self.start, node, context=self.outside)

    # --------------------------------------------------------------------------------------------------------- phases

    async def run(self) -> None:
        for node in self.nodes:
            node.start()
        await self._create_all()
        running = [asyncio.ensure_future(each.run()) for each in (*self.clients, *self.tails)]
        faults = self.faults
        if self.first == 1:
            await self._grown()
        running.append(asyncio.ensure_future(faults.run()))
        await self._until(lambda: faults.count >= LEAST_FAULTS and not faults.elections, SAFETY_S, AT_MOST_S)
        self.note("world", "is healed")
        self.goes_on.clear()
        self._heal()
        await self._settled()
        await self._writable()
        self.goes_on.set()
        await self._until(lambda: self.acked >= LEAST_ACKED, 1.0, AT_MOST_S)
        self.resting = True
        await asyncio.wait(running[: len(self.clients)], timeout=30)
        self._look_at(running)
        await self._read_all()
        await self._equal()
        await asyncio.sleep(1)
        for tail in self.tails:
            tail.finish()
        self.marks["flush"] += sum(node.disk.flushes for node in self.ever)
        for task in running:
            task.cancel()

    async def _until(self, enough: Any, least_s: float, most_s: float) -> None:
        begun = self.loop.now_s
        while not self.wrong and self.loop.now_s - begun < most_s:
            if self.loop.now_s - begun >= least_s and enough():
                return
            await asyncio.sleep(0.1)

    def _look_at(self, running: list["asyncio.Task[None]"]) -> None:
        for task in running[: len(self.clients)]:
            if not task.done():
                self.wrong.append("a client waits for ever")
            elif not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]

    def _heal(self) -> None:
        self.faults.stop()
        self.spread = 30
        weather, network = self.network.weather, self.network
        weather.loses = weather.doubles = weather.reorders = 0.0
        assert not network.cut
        network.slow.clear()
        for node in self.nodes:
            node.disk.fails = False
            node.disk.bad.clear()
            if node.life is not None and node.life.stopping:
                self.end(node)
            self.start(node)

    async def _grown(self) -> None:
        """Two have joined, and the weather begins: who loses a fifth of all messages is never close behind for long."""
        weather = self.network.weather
        usual = weather.loses, weather.doubles, weather.reorders
        weather.loses = weather.doubles = weather.reorders = 0.0
        await self._settled()
        weather.loses, weather.doubles, weather.reorders = usual
        self.nodes[0].join = [node.address for node in self.nodes[1:]]

    async def _settled(self) -> None:
        """Who was to go is gone, and everybody else has become a voter."""
        begun = self.loop.now_s
        while self.loop.now_s - begun < SETTLED_S and not self.wrong:
            leader = self.leader
            if leader is not None and leader.core is not None and leader.core.may_propose:
                membership = leader.core.membership
                for node in list(self.nodes):  # An operator who was not answered looks again.
                    gone = node.identity is not None and node.identity.incarnation in membership.removed
                    if gone and not node.marked:
                        self.retire(node)
                going = self.leaving & {node.name for node in self.nodes}
                for name in sorted(going):
                    await ask_for(self, Remove(name))
                for name in sorted(set(membership.nodes) - {node.name for node in self.nodes}):
                    await ask_for(self, Remove(name))
                voters = [each for each in membership.members if each.voter and self.observer.is_member(each)]
                there = {node.name for node in self.nodes}
                if not going and there == {each.node for each in voters} == set(membership.nodes):
                    return
            await asyncio.sleep(0.1)
        self.wrong.append(f"not all are voters {SETTLED_S} s after all is well: {self._state()}")

    async def _create_all(self) -> None:
        async def create(path: str) -> None:
            op = client.op("create", path, ttl_s=WINDOWS.get(path))
            command = Create(path, TEXT, WINDOWS.get(path), None, False, b"", None)
            await client.do(op, lambda streams: streams.create(command), retried=True)

        client = self.clients[0]
        await asyncio.gather(*map(create, (*PLAIN, *AGAIN, *WINDOWS, *CLOSING)))

    async def _writable(self) -> None:
        """Every node takes a write within a bound, once what waited is done: a link may carry ten entries a second."""
        await self._until(self._is_idle, 0.0, SETTLED_S)
        self.clients[0].patience_s = 15.0
        begun = self.loop.now_s
        for node in self.nodes:
            while True:
                op = self.clients[0].op("append", "s0", body=self.clients[0].body())
                command = Append("s0", TEXT, op.body.encode(), False, None, None)
                try:
                    answer = await self.clients[0].once(
                        op, lambda streams, command=command: streams.append(command), node.serving
                    )
                except (BrokenConnection, ClusterError, ConnectionRefusedError) as error:
                    op.answered = self.now()
                    op.outcome = "refused" if isinstance(error, ClusterError) and not error.maybe_applied else "unknown"
                    op.why = "not now" if op.outcome == "refused" else ""
                else:
                    self.clients[0].settle(op, answer)
                    break
                if self.loop.now_s - begun > WRITABLE_S:
                    self.wrong.append(f"{node.name} takes no write {WRITABLE_S} s after all is well: {self._state()}")
                    return
                await asyncio.sleep(0.1)

    def _is_idle(self) -> bool:
        lives, leader = [node.serving for node in self.nodes], self.leader
        if leader is None or leader.core is None or leader.core.status().committed < leader.core.log.last:
            return False
        return all(life is not None and life.replica.group.pending == 0 for life in lives)

    def _state(self) -> str:
        return "; ".join(
            f"{node.name} {core.role.value} {core.status().committed} {', '.join(core.membership.voters)}"
            if (core := node.core) is not None
            else f"{node.name} {node.life.belonging.waits_for if node.life is not None else 'is down'}"
            for node in self.nodes
        )

    async def _read_all(self) -> None:
        """Every stream, at every node."""
        client = self.clients[0]
        for node in self.nodes:
            for path in (*PLAIN, *AGAIN, *CLOSING, *self.forks):
                op = client.op("read", path, node=node.name)
                try:
                    found = await client.once(
                        op, lambda streams, path=path: streams.read(path, From.START), node.serving
                    )
                except (BrokenConnection, ClusterError, ConnectionRefusedError) as error:
                    op.answered = self.now()
                    self.wrong.append(f"{node.name} does not answer though all is well: {error!r}")
                    return
                client.settle(op, found)
                assert not isinstance(found, Page) or found.up_to_date

    async def _equal(self) -> None:
        """All replicas come to hold the same."""
        begun = self.loop.now_s
        while self.loop.now_s - begun < EQUAL_S and not self.wrong:
            held = [_held(node) for node in self.nodes]
            if all(each == held[0] for each in held):
                return
            await asyncio.sleep(0.2)
        self.wrong.append(f"the replicas do not come to hold the same: {self._state()}")


def _held(node: Node) -> object:
    """All that a node shows, whatever the install epoch."""
    kv = node.disk.kv
    if kv is None:
        return None
    pairs = list(kv.whole())
    shown = max((decode_installs(value).current for key, value in pairs if key == INSTALLS), default=0)
    return crc32(
        b"".join(
            keys.with_epoch(key, 0) + value
            for key, value in pairs
            if keys.epoch_of(key) in (None, shown) and key != INSTALLS
        )
    )


@contextlib.contextmanager
def simulated() -> Iterator[VirtualLoop]:
    """A loop, and a disk of its own in the driver's place of one; afterwards, all is as it was, bounds too."""
    usual = [(module, name, getattr(module, name)) for module, name, _ in BOUNDS]
    loop, disk = VirtualLoop(), driver.Disk
    driver.Disk = SimDisk  # type: ignore[misc, assignment]
    try:
        yield loop
    finally:
        driver.Disk = disk  # type: ignore[misc]
        for module, name, value in usual:
            setattr(module, name, value)
        loop.drop()
        with contextlib.suppress(RuntimeError):
            loop.close()


def run(seed: int, *, traces: bool = False) -> Result:
    """Run one seed."""
    with simulated() as loop:
        world = World(seed, loop, traces=traces)
        try:
            # What a process had not begun when it ended never begins.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            loop.run_until_complete(world.run())
        except AssertionError as error:
            world.wrong.append(f"{type(error).__name__}: {error}")
        world.wrong += [f"{type(error).__name__}: {error}" for error in loop.failures]
        if not world.wrong and (world.acked < LEAST_ACKED or world.faults.count < LEAST_FAULTS):
            world.wrong.append(f"it came to {world.acked} acknowledged writes and {world.faults.count} faults only")
        if not world.wrong:
            world.wrong += check(world.history.ops, Bounds(early=0.03 + world.drift))
    digest = crc32(dump(world.history.ops), world.network.digest)
    for what, count in world.network.counts.items():
        world.marks[f"message {what}"] += count
    return Result(
        seed,
        len(world.ever),
        world.wrong,
        world.acked,
        world.faults.count,
        world.marks,
        digest,
        loop.now_s,
        world.trace or [],
    )
