"""Nodes that come, go and move, disks that are wiped or damaged, and snapshots that are cut short."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.raft import Remove
from durable_streams_cluster.replica import compaction
from durable_streams_cluster.runtime.introductions import Asked
from durable_streams_cluster.settings import Address, parse_address
from durable_streams_proto.v1.peer_pb2 import ChangeReply
from tests.sim.faults import KINDS, Faults, fault
from tests.sim.node import BrokenConnection, Life, Node

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["KINDS"]

FEWEST, MOST = 3, 6
"""Nodes at a time; the most are there only while one takes another's place."""
ASKS_S = 10.0
"""An operator waits so long for an answer, then looks again."""


async def ask_for(world: "World", wish: Asked) -> bool:
    """As an operator does, of any node; whether it is done for sure."""
    life = world.faults.random.choice(world.nodes).serving
    if life is None:
        return False

    async def change(life: Life) -> ChangeReply:
        return await life.belonging.change(wish, "", handed_on=False)

    with contextlib.suppress(BrokenConnection, TimeoutError, ClusterError):
        reply = await asyncio.wait_for(life.ask(lambda: change(life), 0.001, 0.001), ASKS_S)
        world.note("operator", f"{wish}: {reply.result} {reply.text}")
        return bool(reply.result == ChangeReply.DONE)
    return False


def add(faults: Faults) -> Node:
    """A node of a name that nobody has, told of some that there are."""
    world = faults.world
    told = faults.random.sample(world.nodes, faults.random.randint(1, len(world.nodes)))
    node = world.add([each.address for each in told])
    world.start(node)
    return node


@fault(6)
async def coming_and_going(faults: Faults) -> None:
    """An empty node joins; or, if there are many, a member is removed, perhaps the leader, and ends a moment later."""
    world, random, few = faults.world, faults.random, len(faults.world.nodes) < MOST - 1
    if few and random.random() < (0.5 if len(world.nodes) > FEWEST else 1.0):
        world.marks["comes"] += 1
        add(faults)
        return
    node = faults.node()
    if not world.may_lose(node):
        return  # An operator looks how the others are.
    world.leaving.add(node.name)
    for _ in range(4):
        if node in world.nodes and len(world.nodes) > FEWEST and await ask_for(world, Remove(node.name)):
            world.marks["goes"] += 1
            faults.later(random.uniform(0.0, 2.0), lambda: world.retire(node))
            return
        await asyncio.sleep(random.uniform(0.2, 1.0))


@fault(3)
async def replace(faults: Faults) -> None:
    """The machine of one node is gone for good, and another one is put in its place."""
    world, node = faults.world, faults.node()
    if len(world.nodes) >= MOST or not world.may_lose(node):
        return
    lose(faults, node)
    add(faults)
    for _ in range(10):
        await asyncio.sleep(faults.random.uniform(0.2, 1.5))
        if node not in world.nodes or node.life is not None:
            return  # It went otherwise, or somebody started it again.
        if await ask_for(world, Remove(node.name)):
            world.marks["replaced"] += 1
            world.retire(node)
            return


def lose(faults: Faults, node: Node) -> None:
    """All that it had."""
    faults.world.end(node, power=faults.random.random() < 0.5)
    faults.world.note(node.name, "is wiped")
    node.wipe()


@fault(3)
async def wiped_disk(faults: Faults) -> None:
    """A node comes back with an empty directory."""
    node = faults.node()
    if faults.world.may_lose(node):
        lose(faults, node)
        await faults.lasts(faults.random.uniform(0.05, 2.0), lambda: faults.world.start(node))


@fault(3)
async def damaged_disk(faults: Faults) -> None:
    """Something of what a node wrote is not there any more, or another thing is."""
    world, node = faults.world, faults.node()
    if not world.may_lose(node):
        return
    world.end(node, power=faults.random.random() < 0.5)
    if node.identity is not None and node.identity.begun and node.disk.damage():
        world.note(node.name, f"is damaged: {node.disk.bad}")
    await faults.lasts(faults.random.uniform(0.05, 1.0), lambda: world.start(node))


@fault(1)
async def move(faults: Faults) -> None:
    """A node listens elsewhere from now on; nobody else moves while it has not told."""
    world, node = faults.world, faults.node()
    if world.moving or not all(each.identity is not None and each.identity.begun for each in world.nodes):
        return
    world.moving = True
    world.end(node)
    place = parse_address(node.address)
    node.address = str(Address(place.host, place.port + 1))
    await faults.lasts(faults.random.uniform(0.05, 1.0), lambda: world.start(node))
    await asyncio.sleep(10)
    world.moving = False


@fault(6)
async def broken_snapshot(faults: Faults) -> None:
    """Somebody needs a snapshot; while it is on its way, who sends it ends, or who gets it, or the connection."""
    world, random, node = faults.world, faults.random, faults.node()
    compaction.KEPT_LOG_BYTES = min(1_500, compaction.KEPT_LOG_BYTES)  # Until this seed is over.
    await asyncio.sleep(random.uniform(0.1, 1.0))
    if len(world.nodes) < MOST - 1:
        add(faults)
    elif world.may_lose(node):
        lose(faults, node)
        faults.later(0.1, lambda: world.start(node))
    with contextlib.suppress(TimeoutError):
        ends = await asyncio.wait_for(world.observer.next_chunk(), 10)
        await asyncio.sleep(random.choice((0.0, 0.01, 0.2)) * random.random())
        sender, receiver = (world.named(name) for name in ends)
        world.marks["snapshot cut short"] += 1
        match random.randrange(3):
            case 0:
                world.network.break_off(ends)
            case 1:
                _strike(faults, sender)
            case _:
                _strike(faults, receiver)


def _strike(faults: Faults, node: Node) -> None:
    world = faults.world
    world.end(node, power=faults.random.random() < 0.5)
    faults.later(faults.random.uniform(0.02, 1.0), lambda: world.start(node))
