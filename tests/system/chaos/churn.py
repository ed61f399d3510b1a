"""Nodes that come and go for good: disks that are lost, clusters that grow and shrink, members that are replaced."""

import asyncio
import signal

from tests.system.chaos import members
from tests.system.chaos.cluster import Node
from tests.system.chaos.processes import BETWEEN
from tests.system.chaos.pulse import Injection
from tests.system.chaos.scene import Scene


async def wipe(scene: Scene) -> None:
    """A minority loses its disks and comes back by the same command, while as many others lag: stopped, or killed.

    Where too few are left, appends wait for those that lag: the pause begins when they are let go on.
    """
    nodes, most = scene.cluster.nodes, (len(scene.cluster.nodes) - 1) // 2
    lag, lost = scene.chance.randint(1, most), scene.chance.randint(1, most)
    leader = await scene.cluster.leader()
    # One of two times the leader is among them, as one that lags or as one that is wiped.
    chosen = scene.chance.sample(nodes, lag + lost)
    if leader not in chosen and scene.chance.random() < 0.5:
        chosen[scene.chance.randrange(lag + lost)] = leader
    lagging, wiped = chosen[:lag], chosen[lag:]
    killed = scene.chance.random() < 0.5
    injection = scene.pulse.inject("wipe", [node.name for node in chosen])
    away, gone = (" and ".join(node.name for node in those) for those in (lagging, wiped))
    injection.note = f"({away} {'killed' if killed else 'stopped'} before, {gone} wiped)"
    for node in lagging:
        await _away(scene, node, killed=killed)
    await scene.writable(injection)
    await scene.pulse.more(scene.chance.randrange(*BETWEEN))
    await _lose(scene, wiped)
    for node in wiped:
        node.launch()
    await scene.wait(scene.chance.uniform(0.0, 4.0))
    if 2 * len(chosen) >= len(nodes):
        scene.pulse.begin_again()
    for node in lagging:
        if killed:
            node.launch()
        else:
            node.resume()
    await asyncio.gather(*(members.ready(node) for node in (*wiped, *(lagging if killed else ()))))
    await _calm(scene, injection)


async def _away(scene: Scene, node: Node, *, killed: bool) -> None:
    if not killed:
        node.pause()
        return
    node.signal(signal.SIGKILL)
    await scene.ended(node, -signal.SIGKILL)


async def _lose(scene: Scene, nodes: list[Node]) -> None:
    """Kill, and empty their directories."""
    for node in nodes:
        node.signal(signal.SIGKILL)
    for node in nodes:
        await scene.ended(node, -signal.SIGKILL)
        members.wipe(node)


async def tour(scene: Scene) -> None:
    """Two nodes more, or two fewer: 1, 3, 5, 3, 1, and again."""
    world, here = scene.growing, len(scene.cluster.nodes)
    if here in {1, world.most}:
        world.rises = here == 1
    await (_grow(scene) if world.rises else _shrink(scene))


async def _grow(scene: Scene) -> None:
    """By ``serve --join``: two at once, or one after the other."""
    world, here = scene.growing, len(scene.cluster.nodes)
    free = [node for node in (*world.nodes, *world.spares) if node not in scene.cluster.nodes]
    chosen = scene.chance.sample(free, 2)
    together = scene.chance.random() < 0.5
    injection = scene.pulse.inject(f"grow {here} to {here + 2}", [node.name for node in chosen])
    injection.note = "both at once" if together else "one after the other"
    for group in [chosen] if together else [[each] for each in chosen]:
        await members.join(scene.cluster, *group)
    await _calm(scene, injection)


async def _shrink(scene: Scene) -> None:
    """By ``admin remove``: the leader and another one, whichever comes first."""
    here, leader = len(scene.cluster.nodes), await scene.cluster.leader()
    chosen = [leader, await scene.cluster.follower(scene.chance.choice)]
    scene.chance.shuffle(chosen)
    injection = scene.pulse.inject(f"shrink {here} to {here - 2}", [node.name for node in chosen])
    injection.note = f"({leader.name} led)"
    for node in chosen:
        await _let_go(scene, node)
    await _calm(scene, injection)


async def _let_go(scene: Scene, node: Node) -> None:
    """Removed for good: then its process is ended, and its directory deleted."""
    await members.remove(scene.cluster, node)
    await scene.wait(scene.chance.choice([0.0, 1.0]))
    node.signal(signal.SIGTERM)
    await scene.ended(node, 0)
    members.wipe(node)


async def replace_in_its_place(scene: Scene) -> None:
    """Each node in turn is ended or killed, and an empty one joins under its name, at its addresses."""
    node = scene.cluster.nodes[0]  # Who came last is last: each has its turn.
    asked = scene.chance.random() < 0.5
    injection = scene.pulse.inject("replace in its place", [node.name])
    injection.note = "SIGTERM" if asked else "SIGKILL"
    node.signal(signal.SIGTERM if asked else signal.SIGKILL)
    await scene.ended(node, 0 if asked else -signal.SIGKILL)
    await scene.writable(injection)
    scene.cluster.nodes.remove(node)
    await members.join(scene.cluster, node)
    await _calm(scene, injection)


async def replace_by_another(scene: Scene) -> None:
    """One more joins under a new name, then the old one is removed: no majority ever lacks a voter."""
    node, name = scene.cluster.nodes[0], scene.changing.new_name()
    spare = next(each for each in (*scene.changing.nodes, *scene.changing.spares) if each not in scene.cluster.nodes)
    spare.name = name
    injection = scene.pulse.inject("replace by another", [node.name, name])
    leads = await scene.cluster.leader() is node
    injection.note = f"by {name}{', leads' if leads else ''}"
    await members.join(scene.cluster, spare)
    await _let_go(scene, node)
    await _calm(scene, injection)


async def _calm(scene: Scene, injection: Injection) -> None:
    await members.settled(scene.cluster)
    await scene.writable(injection)
    await scene.calm(injection)
