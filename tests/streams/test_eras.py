"""The floor of generations after an unsafe recovery: above all that was, and not beyond what an offset can say."""

import pytest

from durable_streams_cluster.streams.eras import LOST_GENERATIONS, after_loss
from durable_streams_cluster.streams.offsets import MAX_PART, Offset, parse
from durable_streams_cluster.streams.view import GroupState

LAST_ROOM = MAX_PART - 3 * LOST_GENERATIONS
"""Of a floor: with the largest number drawn, there is still room for so many eras as are taken for possible."""


def test_the_floor_is_above_all_that_may_have_been_opened() -> None:
    state = after_loss(GroupState(7, 41), 0)
    assert state == GroupState(7, 42 + LOST_GENERATIONS, 42 + LOST_GENERATIONS)
    assert after_loss(state, 3).lost_floor == state.lost_floor + LOST_GENERATIONS + 4


def test_after_some_thousands_of_recoveries_there_is_no_room_for_another() -> None:
    newest = after_loss(GroupState(1, LAST_ROOM), LOST_GENERATIONS - 1).generation_floor + LOST_GENERATIONS
    assert parse(str(Offset(newest, 0))) == Offset(newest, 0)
    with pytest.raises(ValueError, match=f"have come to generation {LAST_ROOM + 1}: no further recovery has room"):
        after_loss(GroupState(1, LAST_ROOM + 1), LOST_GENERATIONS - 1)
