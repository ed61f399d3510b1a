"""Eras: which generation the offsets of an append carry, so that none ever means other bytes (DESIGN: Offsets)."""

from msgspec.structs import replace

from durable_streams_cluster.streams.meta import Era, StreamMeta
from durable_streams_cluster.streams.offsets import MAX_PART
from durable_streams_cluster.streams.view import GroupState

LOST_GENERATIONS = 10**12
"""Nobody opens so many eras beyond what is known of a stream: a hundred thousand a second would take four months."""


def opens_era(state: GroupState, meta: StreamMeta) -> bool:
    """Whether the stream's next append opens a new era: its first own one, and its first after an unsafe recovery."""
    return meta.fresh or meta.generation <= state.lost_floor


def open_era(state: GroupState, meta: StreamMeta) -> tuple[StreamMeta, GroupState]:
    """The stream and the group when the stream gets an append that opens a new era.

    Eras (DESIGN: Offsets) of streams that belong together, forks and what has forks, raise the group's floor, so that
    their generations differ whoever appends first: an offset of one that another did not inherit never fits there.
    """
    generation = max(state.generation_floor, meta.generation, meta.above) + 1
    if meta.forks or meta.parent is not None:
        state = replace(state, generation_floor=generation)
    return replace(meta, fresh=False, eras=(*meta.eras, Era(generation, start=meta.tail))), state


def after_loss(state: GroupState, drawn: int) -> GroupState:
    """The group when it goes on from one directory, and what the others had is lost (unsafe recovery).

    No stream's generation is above the group's floor by more than one; what the lost ones opened is above that by less
    than ``LOST_GENERATIONS``. Every new era is above both.

    Args:
        state: as that directory has it.
        drawn: a random number below ``LOST_GENERATIONS``. Two recoveries of copies of one directory differ by it: an
            offset of one is, as good as surely, none of the other.

    Raises:
        ValueError: there are no generations left, after some thousands of recoveries.

    """
    assert 0 <= drawn < LOST_GENERATIONS
    floor = state.generation_floor + 1 + LOST_GENERATIONS + drawn
    if floor + LOST_GENERATIONS > MAX_PART:
        raise ValueError(f"the streams have come to generation {state.generation_floor}: no further recovery has room")
    return replace(state, generation_floor=floor, lost_floor=floor)
