"""The store of a node that does not run, looked at: everything can be read, and nothing that was synced is changed.

The directory has to be writable nevertheless. The file ``lock`` is held, ``rocksdict-config.json`` is written as it
was, what may be damaged is tried in a folder ``inspect`` that goes again, and bytes that were never synced are cut
where a start would cut them.
"""

import contextlib
from pathlib import Path
from typing import Final, Self

from rocksdict import Rdict

from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.storage import faults
from durable_streams_cluster.storage.data_dir import DataDir
from durable_streams_cluster.storage.kv import Family
from durable_streams_cluster.storage.recovery import DurableTurn
from durable_streams_cluster.storage.rocks_open import FAMILIES, Setup, open_to_read
from durable_streams_cluster.storage.rocks_read import RocksReader

_SETUP: Final = Setup(cache_bytes=32 * MIB, flush_bytes=4 * MIB)


class RocksLook(RocksReader):
    """A ``KvView`` of a data directory, which it holds until ``close``."""

    def __init__(self, directory: DataDir, database: Rdict) -> None:
        families = tuple(database.get_column_family(FAMILIES[family]) for family in Family)
        super().__init__(directory.path, families)
        self._directory = directory
        self._database = database

    @classmethod
    def open(cls, path: Path) -> Self:
        """Hold the directory ``path``, and open what is in it.

        Raises:
            DataDirLocked: another process holds it.
            CorruptData: something that was synced is missing or damaged, or nothing was ever stored.
            StorageError: it cannot be used.

        """
        directory = DataDir.open(path)
        try:
            durable = DurableTurn.open(directory.durable_turn, directory.db)
            try:
                return cls(directory, open_to_read(directory.db, _SETUP, durable.expected))
            finally:
                durable.close()
        except OSError as error:
            directory.close()
            raise StorageError(f"the data directory {path} cannot be used: {error}. {faults.UNREADABLE}") from error
        except BaseException:
            directory.close()
            raise

    def close(self) -> None:
        """Let go of the directory; a second call does nothing."""
        self._fault = self._fault or "the store is closed"
        for family in (*self._families, self._database):
            with contextlib.suppress(Exception):  # which are about writing
                family.close()
        self._directory.close()
