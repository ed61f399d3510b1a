"""What a network may do to nodes that are all well."""

from collections.abc import Callable

from tests.system.chaos.cluster import Node
from tests.system.chaos.processes import BETWEEN
from tests.system.chaos.pulse import Injection
from tests.system.chaos.scene import Scene

STABLE_S = 60.0
"""How long nothing may change once a cluster has come to terms with what is cut."""
SHORT_STABLE_S = 5.0
LOSS_PERCENT = (5, 30)
LASTS_S = (2.0, 8.0)
"""Less than the 15 s after which a node without a leader gives up what waits at it."""
LASTS_LONG_S = (17.0, 19.0)


async def _partition(
    scene: Scene,
    kind: str,
    targets: list[Node],
    act: Callable[[], None],
    *,
    note: str = "",
    lasts_s: tuple[float, float] = LASTS_S,
) -> Injection:
    """Cut something, for some seconds; then everybody hears everybody again."""
    injection = scene.pulse.inject(kind, [node.name for node in targets])
    injection.note = note
    act()
    try:
        await scene.writable(injection)
        await scene.wait(scene.chance.uniform(*lasts_s))
    finally:
        scene.net.heal()
    await scene.pulse.more(scene.chance.randrange(*BETWEEN))
    return injection


async def isolate_leader(scene: Scene) -> None:
    """The leader hears nobody and nobody hears it. When it is back, who leads goes on."""
    await _isolate_leader(scene, "isolate the leader", LASTS_S)


async def isolate_leader_for_long(scene: Scene) -> None:
    """So long that it answers everybody who waits: what it had begun may come true once it is back, or not."""
    await _isolate_leader(scene, "isolate the leader for long", LASTS_LONG_S)


async def _isolate_leader(scene: Scene, kind: str, lasts_s: tuple[float, float]) -> None:
    leader = await scene.cluster.leader()
    number = scene.cluster.nodes.index(leader)
    injection = await _partition(scene, kind, [leader], lambda: scene.net.isolate(number), lasts_s=lasts_s)
    await scene.calm(injection)


async def isolate_other(scene: Scene) -> None:
    """The same with a follower: nobody else may notice, neither while it is away nor when it is back."""
    node = await scene.cluster.follower(scene.chance.choice)
    number = scene.cluster.nodes.index(node)
    injection = await _partition(scene, "isolate a follower", [node], lambda: scene.net.isolate(number))
    await scene.calm(injection)
    if injection.changes:
        scene.wrong.append(
            f"{injection.kind} {node.name} at {injection.at:.1f} s: {injection.changes} changes of leader"
        )


async def deafen(scene: Scene) -> None:
    """A node is heard and hears nobody."""
    node = scene.chance.choice(scene.cluster.nodes)
    number = scene.cluster.nodes.index(node)
    others = [each for each in range(len(scene.cluster.nodes)) if each != number]
    injection = await _partition(scene, "one way: hears nobody", [node], lambda: scene.net.drop(number, others))
    await scene.calm(injection)


async def mute(scene: Scene) -> None:
    """A node hears everybody and is not heard."""
    node = scene.chance.choice(scene.cluster.nodes)
    number = scene.cluster.nodes.index(node)

    def act() -> None:
        for other in range(len(scene.cluster.nodes)):
            if other != number:
                scene.net.drop(other, [number])

    injection = await _partition(scene, "one way: nobody hears it", [node], act)
    await scene.calm(injection)


async def cut_pair(scene: Scene) -> None:
    """The leader and one other cannot talk, all others can: one change of leader at most, then none."""
    await _cut_pair(scene, SHORT_STABLE_S)


async def cut_pair_for_long(scene: Scene) -> None:
    """The same, and a whole minute without a change."""
    await _cut_pair(scene, STABLE_S)


async def _cut_pair(scene: Scene, stable_s: float) -> None:
    leader = await scene.cluster.leader()
    other = await scene.cluster.follower(scene.chance.choice)
    one, two = scene.cluster.nodes.index(leader), scene.cluster.nodes.index(other)
    injection = scene.pulse.inject("cut one pair", [leader.name, other.name])
    scene.net.cut(one, two)
    try:
        await scene.writable(injection)
        # Longer than two election timeouts: who wants to stand has stood.
        await scene.wait(8.0)
        begun = scene.cluster.changed_since(injection.at)
        await scene.wait(stable_s)
        injection.changes = scene.cluster.changed_since(injection.at)
    finally:
        scene.net.heal()
    injection.note = f"{begun} changes, then {injection.changes - begun} in {stable_s:g} s"
    if begun > 1 or injection.changes > begun:
        scene.wrong.append(f"{injection.kind} {injection.targets} at {injection.at:.1f} s: {injection.note}")
    await scene.calm(injection)


async def lose(scene: Scene) -> None:
    """Of what nodes send each other, so many packets in a hundred are lost."""
    percent = scene.chance.randint(*LOSS_PERCENT)

    def act() -> None:
        for at in range(len(scene.cluster.nodes)):
            scene.net.drop(at, [each for each in range(len(scene.cluster.nodes)) if each != at], percent)

    nodes = scene.cluster.nodes
    injection = await _partition(scene, "packet loss", nodes, act, note=f"{percent} %")
    await scene.calm(injection)
