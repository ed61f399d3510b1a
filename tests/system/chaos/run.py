"""One run: a cluster, a load, faults of one kind, then calm; and the verdict on all of it."""

import asyncio
import dataclasses
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tests.history.checker import check
from tests.history.records import Op, dump
from tests.system.chaos.cluster import Cluster
from tests.system.chaos.keeper import Keeper
from tests.system.chaos.kinds import Inject, Kind
from tests.system.chaos.load import Load
from tests.system.chaos.pulse import Injection, Pulse
from tests.system.chaos.scene import CALM, Scene

PHRASES = {
    "stands twice": "duplicated",
    "yet stands before it": "reordered",
    "though it had come to": "reordered",
}
"""What of the checker's sentences tells which promise was broken; anything else is a loss, or worse."""
COLUMNS = (
    "kind", "nodes", "faults", "operations", "acknowledged", "unknown", "refused", "lost", "duplicated", "reordered",
    "other", "rate", "in flight", "pause, ms: median", "maximum",
)  # fmt: skip


@dataclasses.dataclass
class Verdict:
    """What became of one run."""

    kind: str
    nodes: int
    ops: list[Op]
    injections: list[Injection]
    wrong: list[str]
    """What the checker says."""
    other: list[str]
    """What else was promised and not kept."""
    late: list[str] = dataclasses.field(default_factory=list)
    """What was kept, but not in time: on a machine that others use, that may be them."""

    def row(self) -> list[str]:
        """As the table has it."""
        appends = [op for op in self.ops if op.writes]
        outcomes = {each: sum(op.outcome == each for op in appends) for each in ("acked", "unknown", "refused")}
        found = {"lost": 0, "duplicated": 0, "reordered": 0}
        for sentence in self.wrong:
            found[next((what for phrase, what in PHRASES.items() if phrase in sentence), "lost")] += 1
        pauses = [each.pause_ms for each in self.injections]
        return [
            *(self.kind, str(self.nodes), str(len(self.injections)), str(len(self.ops))),
            *(str(outcomes[each]) for each in ("acked", "unknown", "refused")),
            *(str(found[each]) for each in ("lost", "duplicated", "reordered")),
            str(len(self.other) + len(self.late)),
            f"{statistics.median([each.rate for each in self.injections] or [0]):.0f}/s",
            f"{statistics.median([each.in_flight for each in self.injections] or [0]):.0f}",
            f"{statistics.median(pauses or [0]):.0f}",
            f"{max(pauses, default=0):.0f}",
        ]

    def __str__(self) -> str:
        return f"| {' | '.join(self.row())} |"


HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


async def run(
    name: str,
    kind: Kind,
    nodes: int,
    folder: Path,
    seed: str,
    *,
    seconds: float = 0.0,
    times: int = 0,
    hurry: bool = False,
    say: Callable[[str], None] = print,
) -> Verdict:
    """Inject a kind for so many seconds, or so many times; the history goes to ``folder``.

    ``hurry``: a fault waits for less calm, and for no rate.
    """
    chance = random.Random(f"{seed}/{name}/{nodes}")
    pulse = Pulse()
    world = kind.world(folder, nodes)
    cluster = Cluster(world.nodes, pulse.now)
    scene = Scene(cluster, pulse, chance, world)
    if hurry:
        scene.calm_appends, scene.tries = CALM // 4, 1
    stopped = asyncio.Event()
    other: list[str] = []
    load: Load | None = None
    keeping: asyncio.Task[None] | None = None
    try:
        world.make()
        await cluster.start()
        scene.load = load = Load([*world.nodes, *world.spares], pulse, seed)
        watching = asyncio.create_task(cluster.watch(stopped))
        if kind.kept:
            scene.keeper = Keeper(cluster)
            keeping = asyncio.create_task(scene.keeper.run(stopped))
        await load.begin(kind.headers, kind.bulk_bytes)
        await pulse.more(scene.calm_appends)
        pulse.measure()
        await pulse.more(scene.calm_appends)
        await _inject(kind, scene, load, seconds, times, say)
        await load.finish()
        stopped.set()
        await watching
        if keeping is not None:
            await keeping
        other += load.wrong
        await _stop(cluster, other)
    except (AssertionError, TimeoutError) as error:
        other.append(f"{type(error).__name__}: {error}")
        other += load.problems() if load is not None else []
    finally:
        stopped.set()
        if load is not None:
            await load.abandon()
        if keeping is not None:
            keeping.cancel()
        cluster.end()
        world.remove()
        (folder / "history.jsonl").write_bytes(dump(pulse.recorder.ops))
        faults = [dataclasses.asdict(each) for each in pulse.injections]
        (folder / "faults.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in faults))
    wrong = await asyncio.to_thread(check, pulse.recorder.ops)
    other += [
        *scene.wrong,
        *(scene.keeper.wrong if scene.keeper is not None else ()),
        *_too_many_changes(kind, pulse.injections),
        *_cut_off(pulse),
    ]
    return Verdict(name, nodes, pulse.recorder.ops, pulse.injections, wrong, other, _late(kind, pulse.injections))


async def _inject(kind: Kind, scene: Scene, load: Load, seconds: float, times: int, say: Callable[[str], None]) -> None:
    deck: list[Inject] = []
    ends = time.monotonic() + seconds
    count = 0
    while (count < times) if times else (time.monotonic() < ends):
        if not deck:  # each as often as it should be, in any order
            deck = [inject for inject, often in kind.inject.items() for _ in range(often)]
            scene.chance.shuffle(deck)
        await deck.pop()(scene)
        count += 1
        load.sound()
        last = scene.pulse.injections[-1]
        say(
            f"{count}: {last.kind} ({', '.join(last.targets)}){' ' + last.note if last.note else ''}: "
            f"{last.rate:.0f}/s, {last.in_flight} in flight; next append after {last.writable_ms or 0:.0f} ms, longest "
            f"pause {last.pause_ms:.0f} ms, slowest append {last.slowest_ms:.0f} ms, {last.changes} changes of leader"
        )


def _late(kind: Kind, injections: list[Injection]) -> list[str]:
    found = []
    for number, each in enumerate(injections, 1):
        if each.writable_ms is None or each.pause_ms > kind.bound_s * 1000:
            found.append(f"{_which(number, each)}: no append was taken for {each.pause_ms:.0f} ms")
        if kind.calm and each.slowest_ms > 2 * kind.bound_s * 1000:
            found.append(f"{_which(number, each)}: an append took {each.slowest_ms:.0f} ms")
    return found


def _too_many_changes(kind: Kind, injections: list[Injection]) -> list[str]:
    return [
        f"{_which(number, each)}: {each.changes} changes of leader"
        for number, each in enumerate(injections, 1)
        if kind.changes is not None and each.changes > kind.changes
    ]


def _which(number: int, injection: Injection) -> str:
    return f"fault {number}, {injection.kind} ({', '.join(injection.targets)})"


def _cut_off(pulse: Pulse) -> list[str]:
    """Live reads that broke at nodes that nothing was done to: they go on through every change of leader."""
    found = []
    for when, node, how in pulse.breaks:
        before = [each for each in pulse.injections if each.at <= when]
        if not before or node not in before[-1].targets:
            found.append(f"a live read at {node} was cut off at {when:.1f} s, which nothing was done to: {how}")
    return found


async def _stop(cluster: Cluster, other: list[str]) -> None:
    for code, node in zip(
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in cluster.nodes)), cluster.nodes, strict=True
    ):
        if code:
            other.append(f"{node.name} ended with {code}")
