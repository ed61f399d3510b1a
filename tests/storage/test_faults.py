"""Words for whoever has to repair it: the file, and what to do next."""

import errno
from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.storage import faults

CORRUPT = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /d/db/000026.sst offset 6 size 9"
FULL = "IO error: No space left on device: While appending to file: /d/db/000020.log: No space left on device"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (Exception(CORRUPT), CorruptData, "/d/db/000026.sst .*Next step: keep this directory"),
        (Exception(FULL), StorageError, "/d/db/000020.log.*The disk is full. Next step: start the node again"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "The disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageError, "The disk is full"),
        (OSError(errno.EIO, "Input/output error"), StorageError, "The disk failed, .*dmesg"),
        (ValueError("odd"), StorageError, "ValueError: odd. The disk failed"),
    ],
)
def test_a_failure_names_the_next_step(error: Exception, kind: type[StorageError], words: str) -> None:
    made = faults.while_running("write", Path("/d"), error)
    assert type(made) is kind
    with pytest.raises(kind, match=rf"^write failed in /d: .*{words}"):
        raise made


def test_a_file_that_rocksdb_does_not_name_is_added() -> None:
    error = Exception("Corruption: properties unsorted")
    assert not faults.names_file(error)
    assert faults.names_file(Exception(CORRUPT))
    assert "properties unsorted in /d/db/000026.sst. " in str(
        faults.while_running("get", Path("/d"), error, Path("/d/db/000026.sst"))
    )


def test_the_diary_tells_the_background_errors(tmp_path: Path) -> None:
    log = tmp_path / "LOG"
    line = (
        "[ERROR] [x.cc:3455] [JOB 7] Waiting after background {} error: {}, Accumulated background error counts: {}\n"
    )
    # Two threads write theirs in any order.
    log.write_text("a\n" + line.format("compaction", CORRUPT, 2) + line.format("flush", FULL, 1) + "more\n" * 1000)

    def told(known: int, count: int) -> list[tuple[str, str]]:
        return [(work, str(error)) for work, error in faults.background_errors(log, 10**9, known, count)]

    assert told(0, 2) == [("flush", FULL), ("compaction", CORRUPT)]
    assert told(1, 2) == [("compaction", CORRUPT)]
    assert told(1, 3) == [("compaction", CORRUPT), (faults.UNTOLD, f"{log} may say how")]


@pytest.mark.parametrize(("free", "full"), [(15 * MIB, True), (16 * MIB, False)])
def test_a_diary_cut_short_by_a_full_disk(tmp_path: Path, free: int, *, full: bool) -> None:
    ((work, error),) = faults.background_errors(tmp_path / "LOG", free, 0, 1)
    assert work == "background work"
    assert faults.is_full(error) == full
    assert full or str(tmp_path / "LOG") in str(error)
