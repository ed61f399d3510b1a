"""A damaged store of a member: marked, and set aside once the cluster has taken this node in anew.

What the others have is whole, so the node may forget what it had and be sent everything again, under a new incarnation:
its old votes and acknowledgements never count any more (DESIGN: Identity). Until a leader agrees nothing is touched. If
a majority is damaged nobody agrees, and what is left of every store stays where it is.
"""

from pathlib import Path
from typing import Final

from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.storage.data_dir import sync_directory, write_file

_MARK: Final = "needs-repair"
_STORE: Final = ("db", "durable-turn", "format")
_MOST: Final = 2
"""So many damaged stores are kept; more than that is no accident, and somebody should look."""


def mark(directory: Path, reason: str) -> None:
    """Note, durably, that the store cannot be trusted; raises StorageError."""
    try:
        write_file(directory / _MARK, reason.encode() + b"\n")
    except OSError as error:
        raise StorageError(f"{directory / _MARK} cannot be written: {error}") from error


def is_marked(directory: Path) -> bool:
    """Whether it was noted that the store cannot be trusted."""
    return (directory / _MARK).exists()


def check(directory: Path) -> None:
    """Raise CorruptData when the store cannot be trusted; StorageError when that cannot be told."""
    try:
        reason = (directory / _MARK).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{directory / _MARK} cannot be read: {error}") from error
    raise CorruptData(reason)


def check_room(directory: Path) -> None:
    """Raise StorageError if this directory was repaired too often to do it once more without anybody looking."""
    found = sorted(each.name for each in directory.glob("damaged-*"))
    if len(found) >= _MOST:
        raise StorageError(
            f"{directory} was damaged again, and holds {' and '.join(found)} of earlier times. Its store is "
            "not used, and stays where it is. Next step: see what the system says about the disk (dmesg); then remove "
            "these folders, and start it again"
        )


def set_aside(directory: Path) -> Path:
    """Move the store into a folder of its own.

    Returns:
        Where it is, for people: it may be removed when this node is a voter again.

    Raises:
        StorageError: it cannot be moved; nothing is lost.

    """
    try:
        number = next(number for number in range(1, 1000) if not (directory / f"damaged-{number}").exists())
        place = directory / f"damaged-{number}"
        place.mkdir()
        for name in _STORE:
            if (directory / name).exists():
                (directory / name).rename(place / name)
        sync_directory(place)
        (directory / _MARK).unlink(missing_ok=True)
        sync_directory(directory)
    except OSError as error:
        raise StorageError(f"the damaged store in {directory} cannot be set aside: {error}") from error
    return place
