"""A store that cannot be trusted: it is marked, it is moved as a whole, and not again and again."""

from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.storage import repair


def store(directory: Path) -> None:
    (directory / "db").mkdir()
    (directory / "db" / "000012.log").write_bytes(b"bytes")
    (directory / "durable-turn").write_bytes(b"turn")
    (directory / "format").write_bytes(b"1")
    (directory / "identity").write_bytes(b"who")


def test_what_is_marked_is_not_used_until_it_is_set_aside(tmp_path: Path) -> None:
    store(tmp_path)
    repair.check(tmp_path)
    repair.mark(tmp_path, "000012.log is damaged")
    for _ in range(2):
        with pytest.raises(CorruptData, match=r"^000012\.log is damaged$"):
            repair.check(tmp_path)
    place = repair.set_aside(tmp_path)
    repair.check(tmp_path)
    assert place == tmp_path / "damaged-1"
    assert (place / "db" / "000012.log").read_bytes() == b"bytes"
    assert (place / "format").read_bytes() == b"1", "it may be what is damaged"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["damaged-1", "identity"]


def test_a_crash_in_the_middle_leaves_the_mark_and_the_next_time_takes_what_is_left(tmp_path: Path) -> None:
    store(tmp_path)
    repair.mark(tmp_path, "damaged")
    (tmp_path / "damaged-1").mkdir()
    (tmp_path / "db").rename(tmp_path / "damaged-1" / "db")
    with pytest.raises(CorruptData):
        repair.check(tmp_path)
    assert repair.set_aside(tmp_path) == tmp_path / "damaged-2"
    assert not (tmp_path / "durable-turn").exists()
    repair.check(tmp_path)


def test_a_disk_that_damages_again_and_again_is_looked_at(tmp_path: Path) -> None:
    for number in (1, 2):
        repair.check_room(tmp_path)
        (tmp_path / f"damaged-{number}").mkdir()
    with pytest.raises(StorageError, match="holds damaged-1 and damaged-2 of earlier times") as refusal:
        repair.check_room(tmp_path)
    assert not isinstance(refusal.value, CorruptData)


def test_a_mark_that_cannot_be_read_or_written_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="needs-repair cannot be written"):
        repair.mark(tmp_path / "nowhere", "x")
    (tmp_path / "needs-repair").mkdir()
    with pytest.raises(StorageError, match="needs-repair cannot be read"):
        repair.check(tmp_path)
    with pytest.raises(StorageError, match="cannot be set aside"):
        repair.set_aside(tmp_path)
