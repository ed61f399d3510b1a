"""Turn numbers, and the one that is kept beside the store."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.storage.recovery import DurableTurn, check_turns, turn_key
from tests.storage.crashes import after

# --- Turn numbers


@given(first=st.integers(1, 400), count=st.integers(1, 400), more=st.integers(1, 400))
@settings(deadline=None, derandomize=True)
def test_a_gap_of_any_length_shows(first: int, count: int, more: int) -> None:
    with pytest.raises(CorruptData, match="lost writes in the middle"):
        check_turns(after(range(first, first + count), first + count - 1 + more), Path("db"))


@given(newest=st.integers(0, 400))
@settings(deadline=None, derandomize=True)
def test_a_store_without_a_gap_has_none(newest: int) -> None:
    assert check_turns(after(range(0), newest), Path("db")) == newest


@pytest.mark.parametrize("keys", [range(100, 163), range(100, 165), range(0)])
def test_too_many_or_too_few_keys_are_refused(keys: range) -> None:
    with pytest.raises(CorruptData, match="lost writes in the middle"):
        check_turns([turn_key(turn) for turn in keys], Path("db"))


# --- durable-turn


def test_a_torn_record_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "durable-turn"
    record = DurableTurn.open(path, tmp_path / "db")
    for turn in range(1, 8):
        before = path.read_bytes()
        record.record(turn)
        now = path.read_bytes()
        changed = [at for at in range(len(now)) if now[at] != before[at]]
        assert changed[-1] - changed[0] < 32, "one record was written"
        for torn in range(changed[0], changed[-1] + 1):
            path.write_bytes(now[:torn] + before[torn:])
            assert DurableTurn.open(path, tmp_path / "db").turn in {turn - 1, turn}
        path.write_bytes(now)
        assert DurableTurn.open(path, tmp_path / "db").turn == turn
    record.close()
    record.close()


def test_a_note_counts_when_it_is_whole_and_newer(tmp_path: Path) -> None:
    """It is not synced: a power cut may tear it, and what the records say still stands."""
    path = tmp_path / "durable-turn"
    record = DurableTurn.open(path, tmp_path / "db")
    record.record(3)
    record.note(5)
    whole = path.read_bytes()
    found = DurableTurn.open(path, tmp_path / "db")
    assert (found.turn, found.expected) == (3, 5)
    for torn in (whole[:-1], whole[:-9] + bytes(9), whole[:8192]):
        path.write_bytes(torn)
        found = DurableTurn.open(path, tmp_path / "db")
        assert (found.turn, found.expected) == (3, 3)
    path.write_bytes(whole)
    record.record(7)
    found = DurableTurn.open(path, tmp_path / "db")
    assert (found.turn, found.expected) == (7, 7)
