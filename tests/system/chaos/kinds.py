"""Every kind of fault: what it does, how soon appends must be taken again, and what it needs of the machine.

To add one, write a function that injects it into a ``Scene``, and name it here.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.system.chaos import churn, damage, machines, partitions, processes, transfers
from tests.system.chaos.scene import Scene
from tests.system.chaos.worlds import Changing, Clocks, Disks, Growing, Networks, Power, World

Inject = Callable[[Scene], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row of the table."""

    inject: Mapping[Inject, int]
    """What is done, and how often of all times."""
    bound_s: float
    """Within so many seconds of a fault an append is taken that was sent after it."""
    world: type[World] = World
    changes: int | None = None
    """Changes of leader that one fault may bring; None: as many as it likes."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the streams."""
    bulk_bytes: int = 0
    """What is there beside the streams that are written to: it makes snapshots long."""
    kept: bool = False
    """A node that ends by itself is started again (``keeper``)."""
    calm: bool = False
    """Nobody notices: no append is refused, or takes longer than twice ``bound_s``, and no live read is cut off."""


PARTITION: Final[Mapping[Inject, int]] = {
    partitions.isolate_leader: 2,
    partitions.isolate_leader_for_long: 1,
    partitions.isolate_other: 2,
    partitions.deafen: 2,
    partitions.mute: 2,
}
KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind({processes.kill_leader: 6, processes.kill_one: 2, processes.kill_all: 1}, 20.0),
    "kill-leader": Kind({processes.kill_leader: 1}, 5.0),
    "pause": Kind({processes.pause_leader: 3, processes.pause_other: 1}, 5.0),
    "term": Kind({processes.term_leader: 3, processes.term_other: 1}, 0.5, changes=1, calm=True),
    "term-leader": Kind({processes.term_leader: 1}, 0.5, changes=1, calm=True),
    "partition": Kind(PARTITION, 5.0, Networks),
    "isolate-other": Kind({partitions.isolate_other: 1}, 2.0, Networks, changes=0),
    "isolate-long": Kind({partitions.isolate_leader_for_long: 1}, 5.0, Networks),
    "cut-pair": Kind({partitions.cut_pair: 1}, 5.0, Networks, changes=1),
    "cut-pair-long": Kind({partitions.cut_pair_for_long: 1}, 5.0, Networks, changes=1),
    "loss": Kind({partitions.lose: 1}, 10.0, Networks),
    "slow-sync": Kind({machines.slow_sync_leader: 2, machines.slow_sync_other: 1}, 10.0, Disks),
    "failing-sync": Kind({machines.fail_sync_leader: 2, machines.fail_sync_other: 1}, 5.0, Disks),
    "power": Kind({machines.cut_power: 1}, 30.0, Power),
    "clock": Kind({machines.jump_clock: 1}, 2.0, Clocks, changes=0, headers={"stream-ttl": "3600"}),
    "wipe": Kind({churn.wipe: 1}, 10.0, Changing, bulk_bytes=8 << 20),
    "flip": Kind({damage.flip: 1}, 5.0, damage.Damaging, bulk_bytes=8 << 20, kept=True),
    "snapshot-kill": Kind({transfers.break_off: 1}, 10.0, Changing, bulk_bytes=24 << 20),
    "grow": Kind({churn.tour: 1}, 5.0, Growing, bulk_bytes=2 << 20),
    "rolling": Kind({churn.replace_in_its_place: 1, churn.replace_by_another: 1}, 5.0, Changing, bulk_bytes=2 << 20),
}
ALL: Final = (
    *("kill", "pause", "term", "partition", "cut-pair", "loss", "slow-sync", "failing-sync", "power", "clock"),
    *("wipe", "flip", "snapshot-kill", "grow", "rolling"),
)
"""Without those that only repeat a part of another."""
