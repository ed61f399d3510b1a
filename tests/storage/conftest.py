"""A store in a directory of its own, and the clock in its hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_streams_cluster.storage.rocks import RocksKv
from tests.storage.crashes import Hand, reopen


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def kv(tmp_path: Path, clock: Hand) -> Iterator[RocksKv]:
    store = reopen(tmp_path / "kv", clock)
    yield store
    store.close()
