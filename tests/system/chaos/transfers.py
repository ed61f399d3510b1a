"""Snapshots that are broken off: at any moment one end is killed, asked to end, or does not answer for a while."""

import asyncio
import signal

from tests.system.chaos import members
from tests.system.chaos.cluster import Node
from tests.system.chaos.scene import Scene

BEGIN_LIMIT = 60.0
MOST = 3
"""Breaks of one transfer."""
SILENT_S = 4.0
"""A connection whose other end does not answer for 2.5 s is broken."""


async def begin_transfer(scene: Scene, node: Node) -> None:
    """Empty a node and start it again; returns when a snapshot is on its way to it."""
    node.signal(signal.SIGKILL)
    await scene.ended(node, -signal.SIGKILL)
    members.wipe(node)
    node.launch()
    await _begun(scene, node)


async def _begun(scene: Scene, node: Node) -> None:
    async with asyncio.timeout(BEGIN_LIMIT):
        while True:
            if await under_way(scene, node):
                return
            await asyncio.sleep(members.AGAIN_S)


async def under_way(scene: Scene, node: Node) -> bool:
    """Whether a node gets a snapshot now: what it shows ends before the leader's log begins."""
    reply = await members.status(scene.cluster)
    if reply is None:
        return False
    reports = {each.member.node: each.report for each in reply.members if each.reachable}
    if reply.leader not in reports or node.name not in reports:
        return False
    return bool(reports[node.name].applied_index + 1 < reports[reply.leader].first_index)


async def break_off(scene: Scene) -> None:
    """A node that is wiped, or was away for long, gets a snapshot, which is broken off up to three times."""
    node = await scene.cluster.follower(scene.chance.choice)
    wiped = scene.chance.random() < 0.5
    injection = scene.pulse.inject("break a snapshot off", [each.name for each in scene.cluster.nodes])
    if wiped:
        await begin_transfer(scene, node)
    else:
        await _fall_behind(scene, node)
    breaks: list[str] = []
    for _ in range(scene.chance.randint(1, MOST)):
        await scene.wait(scene.chance.uniform(0.0, 3.0))
        if not await under_way(scene, node):
            break
        sender = await scene.cluster.leader()
        target, role = scene.chance.choice([(node, "receiver"), (sender, "sender")])
        breaks.append(f"{role} {await _break(scene, target)}")
    injection.note = f"to {node.name}, {'wiped' if wiped else 'long away'}: {', '.join(breaks) or 'it was too fast'}"
    await members.settled(scene.cluster)
    await scene.writable(injection)
    await scene.calm(injection)


async def _fall_behind(scene: Scene, node: Node) -> None:
    """Stop a node until it needs a snapshot."""
    node.pause()
    end: int | None = None
    async with asyncio.timeout(BEGIN_LIMIT):
        while True:
            log = await members.log_of(scene.cluster)
            end = log[1] if log is not None and end is None else end
            if log is not None and end is not None and log[0] > end + 1:
                break
            await asyncio.sleep(members.AGAIN_S)
    node.resume()
    await _begun(scene, node)


async def _break(scene: Scene, target: Node) -> str:
    """Do something to one end, and undo it at once: what the others cannot do meanwhile is not what is tried here."""
    how = scene.chance.choice(["killed", "asked to end", "silent"])
    if how == "silent":
        target.pause()
        await scene.wait(SILENT_S)
        target.resume()
        return how
    number = signal.SIGKILL if how == "killed" else signal.SIGTERM
    target.signal(number)
    await scene.ended(target, -signal.SIGKILL if how == "killed" else 0)
    target.launch()
    await members.ready(target)
    return how
