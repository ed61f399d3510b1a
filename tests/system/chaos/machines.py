"""What disks, power and clocks may do."""

import asyncio
import errno
import signal

from tests.system.chaos.cluster import Node
from tests.system.chaos.processes import BETWEEN
from tests.system.chaos.scene import Scene
from tests.system.power.shim import Kind, Rule

DAY_S = 24 * 3600


async def slow_sync_leader(scene: Scene) -> None:
    """Each sync of the leader's log takes long, or hangs for so long that it gives up its lead."""
    await _slow(scene, "slow syncs of the leader", await scene.cluster.leader())


async def slow_sync_other(scene: Scene) -> None:
    """The same with a follower: nobody waits for it."""
    await _slow(scene, "slow syncs of a follower", await scene.cluster.follower(scene.chance.choice))


async def _slow(scene: Scene, kind: str, node: Node) -> None:
    delay_ms = scene.chance.choice([50.0, 300.0, 1500.0, 5000.0])
    injection = scene.pulse.inject(kind, [node.name])
    injection.note = f"{delay_ms:.0f} ms each"
    scene.disks.slow(node, Rule({Kind.SYNC}, "*.log", delay_ms=delay_ms))
    await scene.writable(injection)
    await scene.wait(scene.chance.uniform(2.0, 6.0))
    scene.disks.shim_of(node).clear()
    await scene.writable(injection)
    await scene.calm(injection)


async def fail_sync_leader(scene: Scene) -> None:
    """A sync of the leader's log fails: the node ends, for nobody knows what is stored."""
    await _fail(scene, "failing sync of the leader", await scene.cluster.leader())


async def fail_sync_other(scene: Scene) -> None:
    """The same with a follower."""
    await _fail(scene, "failing sync of a follower", await scene.cluster.follower(scene.chance.choice))


async def _fail(scene: Scene, kind: str, node: Node) -> None:
    injection = scene.pulse.inject(kind, [node.name])
    scene.disks.slow(node, Rule({Kind.SYNC}, "*.log", error=errno.EIO, skip=scene.chance.randrange(5)))
    await scene.ended(node, 1)
    await scene.writable(injection)
    await scene.pulse.more(scene.chance.randrange(*BETWEEN))
    scene.disks.shim_of(node).clear()
    await scene.cluster.restart(node)
    await scene.calm(injection)


async def cut_power(scene: Scene) -> None:
    """All nodes lose power at once; each disk keeps what was synced, and of the rest whatever chance wants."""
    nodes = scene.cluster.nodes
    injection = scene.pulse.inject("power cut of all", [node.name for node in nodes])
    for node in nodes:
        node.signal(signal.SIGKILL)
    for node in nodes:
        await scene.ended(node, -signal.SIGKILL)
    loss = await asyncio.to_thread(scene.power.cut, scene.chance)
    scene.pulse.begin_again()  # the power is back: nobody could do anything before
    injection.note = f"{loss.dropped} of {loss.unsynced} unsynced bytes dropped"
    await scene.cluster.restart(*nodes)
    await scene.writable(injection)
    await scene.calm(injection)


async def jump_clock(scene: Scene) -> None:
    """The wall clocks of some nodes, or of all, jump by hours up to a month, and back."""
    nodes = scene.cluster.nodes
    chosen = scene.chance.choice([[await scene.cluster.leader()], nodes, [scene.chance.choice(nodes)]])
    injection = scene.pulse.inject("clock jump", [node.name for node in chosen])
    offsets = [scene.chance.choice((-1, 1)) * scene.chance.randrange(2 * 3600, 30 * DAY_S) for _ in chosen]
    injection.note = ", ".join(f"{offset:+d} s" for offset in offsets)
    for node, offset_s in zip(chosen, offsets, strict=True):
        scene.clocks.set_clock(node, offset_s)
    for node, offset_s in zip(chosen, offsets, strict=True):
        await scene.clocks.shown(node, offset_s)
    await scene.writable(injection)
    # More than a round of the job that ends streams: it runs once a second.
    await scene.wait(2.0)
    for node in chosen:
        scene.clocks.set_clock(node, 0)
    for node in chosen:
        await scene.clocks.shown(node, 0)
    await scene.calm(injection)
