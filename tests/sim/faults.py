"""What goes wrong, drawn from the seed: each seed lets some kinds happen, and does not know of the others."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from tests.sim.disk import USUAL_SYNC_S
from tests.sim.network import Link
from tests.sim.node import BrokenConnection, Node

if TYPE_CHECKING:
    from tests.sim.world import World

Fault = Callable[["Faults"], Awaitable[None]]
KINDS: dict[str, tuple[Fault, int]] = {}
"""By name; with how often, beside others."""


def fault(weight: int) -> Callable[[Fault], Fault]:
    def note(kind: Fault) -> Fault:
        KINDS[kind.__name__.replace("_", " ")] = kind, weight
        return kind

    return note


class Faults:
    """Lets one happen after the other, several at a time perhaps, until ``stop``."""

    def __init__(self, world: "World", random: Random, kinds: dict[str, tuple[Fault, int]]) -> None:
        self.world, self.random = world, random
        self.rate_s = random.choice((0.5, 0.8, 1.2))
        self.silent = random.random() < 0.4
        """Whether a cut is only noticed by what does not come."""
        names = list(kinds)
        self.kinds = sorted(random.sample(names, random.randint(3, len(names) // 2 + 2)))
        self.count = 0
        self.elections = False
        """Somebody waits for elections, which take their time."""
        self._ends: list[Callable[[], None]] = []
        self._running: list[asyncio.Task[None]] = []
        self.stopped = False

    async def run(self) -> None:
        weights = [KINDS[name][1] for name in self.kinds]
        while not self.stopped:
            await asyncio.sleep(self.random.expovariate(1 / self.rate_s))
            if self.stopped:
                return
            name = self.random.choices(self.kinds, weights)[0]
            self.count += 1
            self.world.marks[name] += 1
            self.world.note("fault", name)
            self._running.append(asyncio.ensure_future(KINDS[name][0](self)))

    def stop(self) -> None:
        """No more; what goes on ends."""
        self.stopped = True
        for task in self._running:
            task.cancel()
        for task in self._running:
            if task.done() and not task.cancelled() and task.exception() is not None:
                task.result()
        ends, self._ends = self._ends, []
        for end in ends:
            end()

    async def lasts(self, seconds: float, end: Callable[[], None]) -> None:
        """Wait, then undo; ``stop`` undoes at once."""
        self._ends.append(end)
        await asyncio.sleep(seconds)
        if end in self._ends:
            self._ends.remove(end)
            end()

    def until_called(self, end: Callable[[], None]) -> Callable[[], None]:
        """Return what undoes it, once; ``stop`` does, too."""
        self._ends.append(end)

        def undo() -> None:
            if end in self._ends:
                self._ends.remove(end)
                end()

        return undo

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        """Undo by and by."""
        self._running.append(asyncio.ensure_future(self.lasts(seconds, end)))

    def later_block(self, links: list[Link], seconds: float) -> None:
        network = self.world.network
        for link in links:
            network.block(link, silent=self.silent)
        self.later(seconds, lambda: [network.unblock(link, silent=self.silent) for link in links] and None)

    def slow(self, node: Node, sync_s: tuple[float, float], seconds: float) -> None:
        """Its syncs take between the two."""
        node.disk.sync_s = sync_s
        self.later(seconds, lambda: setattr(node.disk, "sync_s", USUAL_SYNC_S))

    def cut_off(self, node: Node, others: list[Node], seconds: float) -> None:
        links = [(node.name, other.name) for other in others]
        self.later_block(links + [(b, a) for a, b in links], seconds)

    def isolate(self, nodes: list[Node]) -> Callable[[], None]:
        """Each of these hears nobody and is heard by nobody, until what is returned is called."""
        network, names = self.world.network, [node.name for node in self.world.nodes]
        alone = {node.name for node in nodes}
        links = [(a, b) for a in names for b in names if a != b and alone & {a, b}]
        for link in links:
            network.block(link, silent=self.silent)
        return self.until_called(lambda: [network.unblock(link, silent=self.silent) for link in links] and None)

    async def elected(self) -> Node | None:
        """Who leads next; None if that takes long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.world.observer.next_leader(), 5)
            return self.world.leader
        return None

    def long(self) -> float:
        return self.random.choice((0.3, 0.3, 1.0, 2.5, 4.0)) * self.random.uniform(0.5, 1.5)

    def node(self) -> Node:
        """Any node; the leader as often as not."""
        leader = self.world.leader
        return leader if leader is not None and self.random.random() < 0.5 else self.random.choice(self.world.nodes)

    def block(self, links: list[Link]) -> None:
        self.later_block(links, self.long())

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.world.nodes if other is not node]


@fault(3)
async def kill(faults: Faults) -> None:
    """What was written is with the kernel, and stays."""
    node = faults.node()
    faults.world.end(node)
    await faults.lasts(faults.random.uniform(0.01, 2), lambda: faults.world.start(node))


@fault(3)
async def power_cut(faults: Faults) -> None:
    node = faults.node()
    faults.world.end(node, power=True)
    await faults.lasts(faults.random.uniform(0.1, 3), lambda: faults.world.start(node))


@fault(1)
async def power_cut_of_all(faults: Faults) -> None:
    nodes = faults.world.nodes
    for node in nodes:
        faults.world.end(node, power=True)
    await asyncio.gather(
        *(faults.lasts(faults.random.uniform(0.1, 1), lambda node=node: faults.world.start(node)) for node in nodes)  # type: ignore[misc]
    )


@fault(3)
async def term(faults: Faults) -> None:
    """SIGTERM, and a new start; many batches are under way to a leader that hands over."""
    node = faults.node()
    life = node.life
    if life is None or life.paused or not life.serves:
        return
    if node is faults.world.leader:
        faults.world.rush_until_s = faults.world.loop.now_s + 0.5
        await asyncio.sleep(faults.random.uniform(0.0, 0.1))
        if node.life is not life:
            return
    with contextlib.suppress(BrokenConnection, TimeoutError):
        await asyncio.wait_for(life.ask(life.stop, 0.0, 0.0), timeout=12)
    if node.life is life:
        faults.world.end(node)
        await faults.lasts(faults.random.uniform(0.05, 1), lambda: faults.world.start(node))


@fault(2)
async def pause(faults: Faults) -> None:
    life = faults.node().life
    if life is None or life.paused:
        return
    life.paused = True
    await faults.lasts(faults.long(), lambda: faults.world.loop.go_on(life))


@fault(3)
async def partition(faults: Faults) -> None:
    """Some on one side, the rest on the other."""
    random, nodes = faults.random, faults.world.nodes
    side = {faults.node().name, *(node.name for node in nodes if random.random() < 0.3)}
    names = [node.name for node in nodes]
    faults.block([(a, b) for a in names for b in names if (a in side) != (b in side)])


@fault(3)
async def one_way_partition(faults: Faults) -> None:
    """What one node sends is lost, or what is sent to it."""
    node = faults.node()
    links = [(node.name, other.name) for other in faults.others(node)]
    if faults.random.random() < 0.5:
        links = [(b, a) for a, b in links]
    faults.block(links if faults.random.random() < 0.6 else links[:1])


@fault(2)
async def pair_cut(faults: Faults) -> None:
    node = faults.node()
    other = faults.random.choice(faults.others(node))
    faults.block([(node.name, other.name), (other.name, node.name)])


@fault(2)
async def reset(faults: Faults) -> None:
    """Connections break, and are made anew."""
    node = faults.node()
    for other in faults.others(node):
        if faults.random.random() < 0.7:
            faults.world.network.break_off((node.name, other.name))
            faults.world.network.break_off((other.name, node.name))


@fault(2)
async def clog(faults: Faults) -> None:
    """A link is slow for a while."""
    node = faults.node()
    other = faults.random.choice(faults.others(node))
    slow, link = faults.world.network.slow, (node.name, other.name)
    slow[link] = faults.random.choice((0.05, 0.3, 1.5))
    await faults.lasts(faults.long(), lambda: slow.pop(link, None) and None)


@fault(2)
async def slow_disk(faults: Faults) -> None:
    faults.slow(faults.node(), faults.random.choice(((0.01, 0.05), (0.1, 0.4))), faults.long())


@fault(2)
async def stalled_disk(faults: Faults) -> None:
    """Syncs do not end."""
    disk = (faults.world.leader or faults.node()).disk
    disk.stalled += 1
    await faults.lasts(faults.random.choice((0.3, 1.5, 4.5, 4.5)), lambda: setattr(disk, "stalled", disk.stalled - 1))


@fault(2)
async def write_stall(faults: Faults) -> None:
    """The store takes no write."""
    disk = faults.node().disk
    disk.refuses = True
    await faults.lasts(faults.long() / 2, lambda: setattr(disk, "refuses", False))


@fault(1)
async def write_hiccups(faults: Faults) -> None:
    """The store takes every other write at the first try only."""
    disk = faults.node().disk
    disk.refuses_some = 0.5
    await faults.lasts(faults.long(), lambda: setattr(disk, "refuses_some", 0.0))


@fault(1)
async def disk_error(faults: Faults) -> None:
    """The next sync fails: the process must end, and what it had written may be lost."""
    node = faults.node()
    if node.life is not None:
        node.disk.fails = True


@fault(1)
async def wall_jump(faults: Faults) -> None:
    faults.node().wall_skew_ms += faults.random.choice((-3_600_000, -10_000, 10_000, 3_600_000))
