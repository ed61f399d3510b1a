"""The data directory: made once, held by one, marked with its format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams_cluster.errors import CorruptData, DataDirLocked, StorageError
from durable_streams_cluster.storage import data_dir
from durable_streams_cluster.storage.data_dir import DataDir, make_directory, write_file


def test_it_is_made_with_everything_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    DataDir.open(path).close()
    assert json.loads((path / "format").read_text())["format"] == 1
    assert sorted(each.name for each in path.iterdir()) == ["format", "lock"]


def test_it_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        DataDir.open(tmp_path).close()


def test_what_belongs_to_others_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    DataDir.open(tmp_path).close()


def test_only_one_holds_it(tmp_path: Path) -> None:
    held = DataDir.open(tmp_path)
    with pytest.raises(DataDirLocked, match=rf"{tmp_path} is in use by another process \(pid {os.getpid()}\)"):
        DataDir.open(tmp_path)
    held.close()
    held.close()
    DataDir.open(tmp_path).close()


def test_another_process_holds_it_until_it_dies(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from durable_streams_cluster.storage.data_dir import DataDir;"
        "held = DataDir.open(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataDirLocked, match=f"pid {other.pid}"):
            DataDir.open(tmp_path)
        other.kill()
    DataDir.open(tmp_path).close()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=f"{path} is not a directory"):
            DataDir.open(path)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_one_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """Injected, for the tests may run as root, who may write anywhere."""

    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=rf"{tmp_path} (is not writable by user id|cannot be used)") as raised:
        DataDir.open(tmp_path)
    assert str(error) in str(raised.value)
    assert "Next step: " in str(raised.value)


def test_an_error_of_the_lock_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(StorageError, match=rf"Input/output error: '{tmp_path}/lock'.*Next step: see whether"):
        DataDir.open(tmp_path)


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "format").write_text('{"format": 2}')
    with pytest.raises(StorageError, match=r"data format 2; this version reads 1.*start the version"):
        DataDir.open(tmp_path)
    assert (tmp_path / "format").read_text() == '{"format": 2}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "7", '{"format": true}', '{"format": 1.0}', '{"format": null}', '{"format": [1]}'),
        *('{"format": ' + "[" * 100_000, '{"format": ' + "9" * 5_000 + "}", '{"format": "' + "9" * 5_000 + '"}'),
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_format_is_refused_and_the_directory_let_go(tmp_path: Path, text: str) -> None:
    (tmp_path / "format").write_text(text)
    for _ in range(2):  # the second is not DataDirLocked
        with pytest.raises(CorruptData, match=f"{tmp_path / 'format'} is damaged.*Next step"):
            DataDir.open(tmp_path)
    assert (tmp_path / "format").read_text() == text


@pytest.mark.parametrize("left", ["db", "durable-turn"])
def test_data_without_a_format_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    with pytest.raises(CorruptData, match=f"format is missing although .* holds {left}"):
        DataDir.open(tmp_path)


def test_a_draft_left_by_a_crash_is_no_format(tmp_path: Path) -> None:
    (tmp_path / "format.tmp").write_text("{")
    DataDir.open(tmp_path).close()
    assert json.loads((tmp_path / "format").read_text())["format"] == 1


# --- What is on disk, and in which order


class Journal:
    """Notes which paths were synced, and what was renamed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, Path]] = []
        fsync, replace = os.fsync, Path.replace

        def note_fsync(handle: int) -> None:
            self.events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}"))))
            fsync(handle)

        def note_replace(path: Path, target: Path) -> Path:
            self.events.append(("replace", target))
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(Path, "replace", note_replace)


def test_each_new_directory_is_synced_into_the_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch)
    make_directory(tmp_path / "a" / "b")
    assert journal.events == [("fsync", tmp_path.parent), ("fsync", tmp_path), ("fsync", tmp_path / "a")]


def test_one_that_is_there_is_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that was killed may have made it and come no further."""
    journal = Journal(monkeypatch)
    make_directory(tmp_path)
    assert journal.events == [("fsync", tmp_path.parent)]


def test_above_one_that_is_there_nothing_need_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(data_dir, "sync_directory", refuse)
    make_directory(tmp_path)
    with pytest.raises(PermissionError):
        make_directory(tmp_path / "a")


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch)
    write_file(tmp_path / "x", b"content")
    assert journal.events == [("fsync", tmp_path / "x.tmp"), ("replace", tmp_path / "x"), ("fsync", tmp_path)]
    assert (tmp_path / "x").read_bytes() == b"content"


def test_a_file_that_a_full_disk_does_not_take_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/x\.tmp'"):
        write_file(tmp_path / "x", b"content")


def test_the_format_version_is_one() -> None:
    """Raise it with a way to read the older ones, or every node refuses its data after the upgrade."""
    assert data_dir.FORMAT_VERSION == 1
