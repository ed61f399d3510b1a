"""One kind's run: a cluster, the load on it, and what the faults have at hand."""

import asyncio
import dataclasses
import random

from tests.server import STOP_LIMIT
from tests.system.chaos.cluster import Cluster, Node
from tests.system.chaos.keeper import Keeper
from tests.system.chaos.load import Load
from tests.system.chaos.network import Network
from tests.system.chaos.pulse import Injection, Pulse
from tests.system.chaos.worlds import Changing, Clocks, Disks, Growing, Networks, Power, World

WRITABLE_LIMIT = 60.0
"""Seconds after which a fault is given up; what is promised is far less (``kinds``)."""
CALM = 500
"""Acknowledged appends before the next fault."""
RATE, TRIES = 500.0, 5
"""Acknowledged appends a second that are waited for, and how often that is tried: others may use the machine."""


@dataclasses.dataclass
class Scene:
    """What a fault may use."""

    cluster: Cluster
    pulse: Pulse
    chance: random.Random
    world: World
    calm_appends: int = CALM
    tries: int = TRIES
    load: Load | None = None
    """Once it has begun."""
    keeper: Keeper | None = None
    """Of kinds whose nodes may end by themselves."""
    wrong: list[str] = dataclasses.field(default_factory=list)
    """What contradicts, beside what the checker finds."""

    @property
    def net(self) -> Network:
        assert isinstance(self.world, Networks)
        return self.world.net

    @property
    def disks(self) -> Disks:
        assert isinstance(self.world, Disks)
        return self.world

    @property
    def power(self) -> Power:
        assert isinstance(self.world, Power)
        return self.world

    @property
    def clocks(self) -> Clocks:
        assert isinstance(self.world, Clocks)
        return self.world

    @property
    def changing(self) -> Changing:
        assert isinstance(self.world, Changing)
        return self.world

    @property
    def growing(self) -> Growing:
        assert isinstance(self.world, Growing)
        return self.world

    async def wait(self, seconds: float) -> None:
        """A fault that lasts."""
        await asyncio.sleep(seconds)

    async def ended(self, node: Node, code: int) -> None:
        """Wait until a process is gone; it must end so."""
        assert node.process is not None
        found = await asyncio.to_thread(node.process.wait, STOP_LIMIT)
        if found != code:
            self.wrong.append(f"{node.name} ended with {found}, not {code}: {node.process.errors[-2000:]}")

    async def writable(self, injection: Injection) -> None:
        """Wait until appends are taken again."""
        if not await self.pulse.writable(WRITABLE_LIMIT):
            raise AssertionError(f"{injection.kind} of {injection.targets}: no append within {WRITABLE_LIMIT:g} s")

    async def calm(self, injection: Injection, *, settle: bool = True) -> None:
        """All is as before: all follow one leader, and appends go on; then the next fault may come."""
        await self.cluster.agree()
        for _ in range(self.tries):
            self.pulse.measure()
            await self.pulse.more(self.calm_appends)
            if self.pulse.rate >= RATE:
                break
        if settle:
            self.pulse.settle()
        injection.changes = self.cluster.changed_since(injection.at)
