"""Planted bugs are caught; ``make planted`` tries them all and prints a table."""

import secrets
from pathlib import Path

import pytest

from tests.planted import catch
from tests.sim.__main__ import from_commit

SOON = (
    "a_follower_answers_before_its_sync",
    "a_leader_counts_what_its_disk_does_not_hold",
    "a_read_does_not_wait_for_what_is_applied",
    "a_snapshot_is_shown_before_it_is_whole",
    "a_snapshot_without_sessions",
    "applied_index_ahead_of_its_data",
    "applies_what_is_given_twice",
    "expires_by_a_local_clock",
    "producers_come_a_turn_later",
    "reads_what_is_here",
    "the_clock_of_a_new_leader_goes_back",
    "truncates_entries_that_match",
)
"""Of those in a cluster: caught in ten seeds or fewer."""
TODAYS = SOON[from_commit() % len(SOON)]
"""One for each commit."""


@pytest.mark.parametrize(
    ("bug", "limit"), [("reply_before_flush", 150), ("producer_state_outside_the_batch", 150), (TODAYS, 200)]
)
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str, limit: int, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.token_hex(3)
    caught = catch(bug, tmp_path / bug, seed, limit)
    with capsys.disabled():
        print(f"\n{bug}: seed {seed}, round or seed {caught.rounds}: {caught.what[:300]}")
    assert caught.what, f"seed {seed}: not caught in {limit}"
