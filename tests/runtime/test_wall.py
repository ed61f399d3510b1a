"""The wall clock by which streams end: it may stand still or go back, and is doubted when it leaps ahead."""

from durable_streams_cluster.runtime.wall import JUMP_MS, PATIENCE_MS, WallClock

START = 1_750_000_000_000


def test_it_is_what_the_machine_shows_while_both_clocks_run() -> None:
    wall = WallClock(0, START)
    drift = 0
    for steady_ms in range(0, 3_600_000, 7_000):
        drift += 3
        assert wall.believe(steady_ms, START + steady_ms + drift) == START + steady_ms + drift
        assert not wall.doubted


def test_a_step_back_is_followed_at_once_and_the_way_forth_again_is_doubted() -> None:
    wall = WallClock(0, START)
    assert wall.believe(1_000, START - 3_600_000) == START - 3_600_000
    assert wall.believe(2_000, START + 2_000) == START - 3_600_000 + 1_000
    assert wall.doubted


def test_a_step_forward_waits_and_is_forgotten_when_it_is_taken_back() -> None:
    wall = WallClock(0, START)
    assert wall.believe(10, START + 10 + JUMP_MS + 1) == START + 10
    assert wall.believe(PATIENCE_MS, START + 86_400_000) == START + PATIENCE_MS
    assert wall.believe(PATIENCE_MS + 5, START + PATIENCE_MS + 5) == START + PATIENCE_MS + 5
    assert not wall.doubted
    again = 2 * PATIENCE_MS
    assert wall.believe(again, START + 86_400_000) == START + again, "patience begins anew"


def test_a_step_forward_that_stays_is_believed_in_the_end() -> None:
    wall = WallClock(0, START)
    for steady_ms in range(0, PATIENCE_MS, 1_000):
        assert wall.believe(steady_ms, START + 86_400_000 + steady_ms) == START + steady_ms
    assert wall.believe(PATIENCE_MS, START + 86_400_000 + PATIENCE_MS) == START + 86_400_000 + PATIENCE_MS
    assert not wall.doubted
