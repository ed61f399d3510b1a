"""What anybody may do to a process of their own: kill it, stop it for a while, ask it to end."""

import signal

from tests.system.chaos.cluster import Node
from tests.system.chaos.scene import Scene

BETWEEN = (150, 900)
"""Acknowledged appends between two faults."""


async def kill_leader(scene: Scene) -> None:
    """SIGKILL of the leader."""
    await kill(scene, "kill the leader", [await scene.cluster.leader()])


async def kill_one(scene: Scene) -> None:
    """SIGKILL of any node."""
    await kill(scene, "kill one", [scene.chance.choice(scene.cluster.nodes)])


async def kill_all(scene: Scene) -> None:
    """SIGKILL of all nodes within a moment."""
    await kill(scene, "kill all", list(scene.cluster.nodes))


async def kill(scene: Scene, kind: str, nodes: list[Node]) -> None:
    """Kill; back up they come, once the others take appends again, or at once when no others are left."""
    injection = scene.pulse.inject(kind, [node.name for node in nodes])
    for node in nodes:
        node.signal(signal.SIGKILL)
    for node in nodes:
        await scene.ended(node, -signal.SIGKILL)
    if 2 * len(nodes) < len(scene.cluster.nodes):
        await scene.writable(injection)
        await scene.pulse.more(scene.chance.randrange(*BETWEEN))
    await scene.cluster.restart(*nodes)
    await scene.writable(injection)
    await scene.calm(injection)


async def pause_leader(scene: Scene) -> None:
    """SIGSTOP of the leader, for a moment or until long after another one leads; then SIGCONT."""
    await pause(scene, "pause the leader", await scene.cluster.leader())


async def pause_other(scene: Scene) -> None:
    """The same with a follower."""
    await pause(scene, "pause a follower", await scene.cluster.follower(scene.chance.choice))


async def pause(scene: Scene, kind: str, node: Node) -> None:
    long = scene.chance.random() < 0.6
    injection = scene.pulse.inject(kind, [node.name])
    node.pause()
    try:
        if long:
            await scene.writable(injection)
            await scene.pulse.more(scene.chance.randrange(*BETWEEN))
        else:
            await scene.wait(scene.chance.uniform(0.2, 2.5))
    finally:
        node.resume()
    injection.note = "long" if long else "short"
    await scene.writable(injection)
    await scene.calm(injection)


async def term_leader(scene: Scene) -> None:
    """SIGTERM of the leader: it hands over, and nobody notices."""
    await term(scene, "terminate the leader", await scene.cluster.leader())


async def term_other(scene: Scene) -> None:
    """SIGTERM of a follower."""
    await term(scene, "terminate a follower", await scene.cluster.follower(scene.chance.choice))


async def term(scene: Scene, kind: str, node: Node) -> None:
    injection = scene.pulse.inject(kind, [node.name])
    failed = scene.pulse.failed.copy()
    breaks = len(scene.pulse.breaks)
    node.signal(signal.SIGTERM)
    await scene.ended(node, 0)
    await scene.writable(injection)
    await scene.pulse.more(scene.chance.randrange(*BETWEEN))
    scene.pulse.settle()
    await scene.cluster.restart(node)
    await scene.calm(injection, settle=False)
    for what, count in (scene.pulse.failed - failed).items():
        scene.wrong.append(f"{kind} {node.name}: {count} requests were not answered well: {what}")
    if len(scene.pulse.breaks) > breaks:
        scene.wrong.append(f"{kind} {node.name}: {len(scene.pulse.breaks) - breaks} live reads were cut off")
