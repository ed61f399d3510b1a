"""Faults that go after elections: leaders and voters that fail in the moment in which it matters most."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import wraps

from tests.sim.faults import KINDS, Fault, Faults, fault
from tests.sim.node import BrokenConnection, Node

__all__ = ["KINDS"]


def election(weight: int) -> Callable[[Fault], Fault]:
    """As ``fault``, of what waits for elections: one at a time, and the spread of their timeouts is its own."""

    def keep(play: Fault) -> Fault:
        @wraps(play)
        async def alone(faults: Faults) -> None:
            if faults.elections:
                return
            spread, faults.elections = faults.world.spread, True
            try:
                await play(faults)
            finally:
                faults.world.spread, faults.elections = spread, False

        return fault(weight)(alone)

    return keep


@election(3)
async def unlucky_leaders(faults: Faults) -> None:
    """The leader is struck, and those that are elected next, while they replicate what they found; and come back."""
    random, world = faults.random, faults.world
    for number in range(random.randint(3, 6)):
        if number:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(world.observer.next_leader(), 5)
            await _moment(faults)
        node = world.leader
        if node is not None:
            _strike(faults, node)


async def _moment(faults: Faults) -> None:
    node = faults.world.leader
    if node is None or faults.random.random() < 0.5:
        await asyncio.sleep(faults.random.choice((0.001, 0.01, 0.1)) * faults.random.random())
    else:
        await faults.world.observer.next_apply(node.name)


def _strike(faults: Faults, node: Node) -> None:
    random, world = faults.random, faults.world
    away_s = random.uniform(2.0, 4.5)
    match random.randrange(4):
        case 0:
            world.end(node, power=random.random() < 0.5)
            faults.later(random.choice((0.1, 1.0, away_s)), lambda: world.start(node))
        case 1:
            spared = random.choice(faults.others(node))
            faults.cut_off(node, [other for other in faults.others(node) if other is not spared], away_s)
        case _:
            faults.cut_off(node, faults.others(node), away_s)


@election(2)
async def unlucky_voters(faults: Faults) -> None:
    """The leader ends, several stand at once, and the power of those that vote fails: they must not vote again."""
    random, world = faults.random, faults.world
    world.spread = 1
    for node in random.sample(world.nodes, random.randint(0, 2)):  # Its own vote comes late, and so does what it asks.
        faults.slow(node, random.choice(((0.02, 0.06), (0.1, 0.4))), 4.0)
    leader = world.leader
    if leader is not None:
        world.end(leader)
        faults.later(random.uniform(0.5, 3), lambda: world.start(leader))
    for _ in range(random.randint(2, 6)):
        with contextlib.suppress(TimeoutError):
            voted = world.observer.next_vote if random.random() < 0.7 else world.observer.next_told
            node = await asyncio.wait_for(voted(), 5)
            await asyncio.sleep(random.choice((0.0, 0.001, 0.02)) * random.random())
            world.end(node, power=True)
            faults.later(random.choice((0.005, 0.05, 0.5)), lambda node=node: world.start(node))  # type: ignore[misc]


@election(5)
async def voter_between(faults: Faults) -> None:
    """Two sides that do not hear each other want the vote of a leader that ended; its power fails when one has it."""
    random, world = faults.random, faults.world
    voter = world.leader
    if voter is None:
        return
    world.spread = 1
    others = random.sample(faults.others(voter), len(world.nodes) - 1)
    early, late = others[: len(others) // 2], others[len(others) // 2 :]
    faults.later_block([link for a in early for b in late for link in ((a.name, b.name), (b.name, a.name))], 4.0)
    for node in late:  # These stand first, and ask when their own vote is durable.
        faults.slow(node, (0.3, 0.5), 3.0)
    for node in (*early, voter):
        node.hesitates = 10 if node is voter else 2
    stand_at_will = faults.until_called(lambda: [setattr(node, "hesitates", 0) for node in world.nodes] and None)
    world.end(voter)
    await asyncio.sleep(0.02)
    world.start(voter)
    if random.random() < 0.5:
        faults.slow(voter, (0.02, 0.06), 3.0)
    with contextlib.suppress(TimeoutError):
        while await asyncio.wait_for(world.observer.next_told(), 5) is not voter:
            pass
        await asyncio.sleep(random.choice((0.0, 0.005)))
        world.end(voter, power=True)
        faults.later_block([(node.name, voter.name) for node in early], 1.0)
        await asyncio.sleep(0.005)
        world.start(voter)
        await asyncio.sleep(1.0)
    stand_at_will()


@fault(4)
async def hand_overs(faults: Faults) -> None:
    """The lead goes from one to the next, while many batches are under way."""
    for _ in range(faults.random.randint(2, 5)):
        leader = faults.world.leader
        if leader is not None:
            await _hand_over(faults, leader)
            await asyncio.sleep(faults.random.uniform(0.0, 0.5))


async def _hand_over(faults: Faults, leader: Node) -> None:
    """What is on its way to a leader is refused one after the other, while the next leader is heard of already."""
    random, world, life = faults.random, faults.world, leader.life
    if life is None or life.paused or life.stopping or not life.serves:
        return
    slow = world.network.slow
    links = [(other.name, leader.name) for other in faults.others(leader) if random.random() < 0.5]
    slow.update({link: random.choice((0.03, 0.1)) for link in links})
    mend = faults.until_called(lambda: [slow.pop(link, None) for link in links] and None)
    world.rush_until_s = world.loop.now_s + 0.5
    await asyncio.sleep(random.uniform(0.05, 0.2))
    with contextlib.suppress(BrokenConnection, TimeoutError):
        await asyncio.wait_for(life.ask(life.driver.hand_over.run, 0.0, 0.0), timeout=5)
    mend()


@election(2)
async def contested_elections(faults: Faults) -> None:
    """Leaders are cut off, several stand in the same term, and what they are told is told twice."""
    random, world = faults.random, faults.world
    weather, doubles = world.network.weather, world.network.weather.doubles
    world.spread, weather.doubles = random.choice((1, 2, 4)), 0.5
    calm = faults.until_called(lambda: setattr(weather, "doubles", doubles))
    for _ in range(random.randint(2, 4)):
        leader = world.leader
        if leader is not None:
            faults.cut_off(leader, faults.others(leader), random.uniform(1.0, 2.5))
        if await faults.elected() is None:
            break
    calm()


@election(3)
async def figure_eight(faults: Faults) -> None:
    """Two leaders are cut off by turns, each with what it alone has (Raft paper, figure 8).

    The first one brings others what it wrote and nobody got. The second one, cut off in the moment it was elected, has
    a newer entry in its place; it comes back when the first one is gone again, and has just applied something.
    """
    random, world = faults.random, faults.world
    first = world.leader
    if first is None:
        return
    alone = faults.isolate([first])
    second = await faults.elected()
    if second is not None and second is not first:
        spare = random.sample([node for node in world.nodes if node not in (first, second)], len(world.nodes) // 2 - 1)
        away = faults.isolate([second, *spare])
        alone()
        third = await faults.elected()
        if third is not None and third not in (second, *spare):
            await world.observer.next_apply(third.name)
            alone = faults.isolate([third])
        away()
        await faults.elected()
    alone()


@fault(3)
async def fresh_majority(faults: Faults) -> None:
    """Slow disks; then the power of a bare majority fails, and who could help it out is cut off for long."""
    random, world = faults.random, faults.world
    nodes = random.sample(world.nodes, len(world.nodes))
    hit, rest = nodes[: len(nodes) // 2 + 1], nodes[len(nodes) // 2 + 1 :]
    for node in random.sample(hit, random.randint(0, len(hit))):
        faults.slow(node, random.choice(((0.03, 0.1), (0.1, 0.4))), 1.0)
    await asyncio.sleep(random.uniform(0.1, 0.8))
    for node in rest:
        faults.cut_off(node, faults.others(node), random.uniform(3.0, 5.0))
    for node in hit:
        world.end(node, power=True)
        faults.later(random.uniform(0.05, 0.5), lambda node=node: world.start(node))  # type: ignore[misc]
