"""What the stored directories hold: written once by ``build``, and described the same way by every later build."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from durable_streams_cluster.api import Described, From, Page
from durable_streams_cluster.clock import SystemClock
from durable_streams_cluster.limits import MIB, Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.streams.commands import Append, Create, Delete, Fork, Producer
from durable_streams_cluster.streams.outcomes import Created
from tests.replica.node import alone

TEXT = "text/plain"
JSON = "application/json"
PATHS = (
    "text",
    "json",
    "closed",
    "produced",
    "ttl",
    "until",
    "fork",
    "fork/of/fork",
    "empty",
    "hidden",
    "hidden-fork",
    "again",
    "gone",
)


@contextlib.asynccontextmanager
async def streams_in(directory: Path) -> AsyncIterator[LocalStreams]:
    """The streams of a data directory, served in this process."""
    kv = RocksKv.open(directory, memory_budget=64 * MIB)
    clock = SystemClock()

    def fatal(error: BaseException) -> None:
        raise error

    limits = Limits()
    replica = alone(kv, Now(clock.steady_ms(), clock.wall_ms()))
    driver = Driver(replica, kv, clock, limits, Metrics(), fatal)
    try:
        await driver.start()
        yield LocalStreams(driver, limits)
        await driver.drain()
    finally:
        driver.close()
        kv.close()


def create(path: str, content_type: str | None = TEXT, body: bytes = b"", **fields: object) -> Create:
    """A PUT."""
    asked = {"ttl_s": None, "expires_at_ms": None, "closed": False, "fork": None, **fields}
    return Create(path, content_type, body=body, **asked)  # type: ignore[arg-type]


def append(path: str, body: bytes, content_type: str = TEXT, producer: Producer | None = None) -> Append:
    """A POST."""
    return Append(path, content_type, body, False, b"seq-1" if path == "text" else None, producer)


async def build(directory: Path) -> None:
    """One of each kind of record."""
    async with streams_in(directory) as streams:
        await streams.create(create("text", body=b"first"))
        await streams.append(append("text", b"second"))
        await streams.create(create("json", JSON, b'{"n":1},{"n":2}'))
        await streams.append(append("json", b'{"n":3}', JSON))
        await streams.create(create("closed", body=b"all of it", closed=True))
        await streams.create(create("produced"))
        for seq in range(70):
            await streams.append(append("produced", b"%d;" % seq, producer=Producer("p", 3, seq)))
        await streams.create(create("ttl", ttl_s=300_000_000))
        await streams.create(create("until", expires_at_ms=32_503_680_000_000))
        await streams.create(create("fork", None, fork=Fork("json", None, 0)))
        await streams.append(append("fork", b'{"n":4}', JSON))
        await streams.create(create("fork/of/fork", None, fork=Fork("fork", None, 0)))
        await streams.create(create("empty", None))
        await streams.create(create("hidden", body=b"kept for its fork"))
        await streams.create(create("hidden-fork", None, fork=Fork("hidden", None, 0)))
        await streams.delete(Delete("hidden"))
        await streams.create(create("again", body=b"first life"))
        await streams.delete(Delete("again"))
        await streams.create(create("again", body=b"second life"))
        await streams.create(create("gone", body=b"x"))
        await streams.delete(Delete("gone"))


async def describe(directory: Path) -> str:
    """Everything a reader can see, as JSON lines."""
    lines = []
    async with streams_in(directory) as streams:
        for path in PATHS:
            meta = await streams.head(path)
            if not isinstance(meta, Described):
                lines.append({"path": path, "answer": type(meta).__name__})
                continue
            page = await streams.read(path, From.START)
            here = streams.lifetimes.here(path)
            assert isinstance(page, Page)
            assert isinstance(here, tuple)
            lines.append(
                {
                    "path": path,
                    "type": meta.content_type,
                    "tail": str(meta.next_offset),
                    "closed": meta.closed,
                    "ttl_s": meta.ttl_s,
                    "expires_at_ms": meta.expires_at_ms,
                    "forks": here[1].forks,
                    "stream": page.stream,
                    "bodies": [body.decode() for body in page.bodies],
                }
            )
        repeated = await streams.append(append("produced", b"69;", producer=Producer("p", 3, 69)))
        lines.append({"duplicate": repr(repeated)})
        confirmed = await streams.create(create("fork", None, fork=Fork("json", None, 0)))
        assert isinstance(confirmed, Created)
        lines.append({"confirmed": confirmed.existed})
    return "".join(json.dumps(line) + "\n" for line in lines)


def described(directory: Path) -> str:
    """``describe``, from synchronous code."""
    return asyncio.run(describe(directory))
