"""What a node can refuse, now, as exceptions; what the stream machine decides is an ``Outcome``, never an exception.

::

    ClusterError
    ├── Overloaded        retryable            admission is closed: bytes in flight, or the store is stalled
    ├── StorageFull       retryable            the disk is almost full: nothing is stored until room is made
    ├── Unavailable       retryable            no leader, or this node is starting
    ├── ShuttingDown      retryable            this node drains
    ├── OutcomeUnknown    maybe_applied        the operation may or may not have happened
    ├── StorageError                           the store cannot be opened or went bad: the process ends
    │   ├── DataDirLocked                      another process holds the data directory
    │   ├── CorruptData                        what is on disk is not what was written
    │   ├── FromNewerBuild                     a newer build wrote it
    │   └── DiskHangs                          the store cannot be closed, and its threads would hold the process
    └── ConfigError                            a setting is wrong: exit code 2
"""


class ClusterError(Exception):
    """The root. ``retryable``: the same call may succeed later. ``maybe_applied``: it may have happened."""

    retryable: bool = False
    maybe_applied: bool = False


class Overloaded(ClusterError):
    """Refused before anything was stored; ``retry_after_s`` (seconds) says when to come back."""

    retryable = True

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageFull(ClusterError):
    """Refused before anything was stored; room is made by deleting, by expiry or by a larger disk.

    ``retry_after_s`` (seconds) is how long that may take at the least.
    """

    retryable = True

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ClusterError):
    """Nobody can decide now; certainly not stored."""

    retryable = True


class ShuttingDown(ClusterError):
    """This node is going away; certainly not stored."""

    retryable = True


class OutcomeUnknown(ClusterError):
    """The operation was proposed and its outcome is not known."""

    maybe_applied = True


class StorageError(ClusterError):
    """The store failed; never retried (DESIGN: an fsync error is fatal, its outcome unknown)."""


class DataDirLocked(StorageError):
    """Another process holds the data directory."""


class CorruptData(StorageError):
    """What is on disk is not what was written; the message names the file or record and the next step."""


class FromNewerBuild(StorageError):
    """What is to be applied needs a newer build; the store is sound."""


class DiskHangs(StorageError):
    """The disk does not answer at the end: the store could not be closed, and its threads would hold the process."""


class ConfigError(ClusterError):
    """A setting is wrong; the message names it, its source and the rule."""
