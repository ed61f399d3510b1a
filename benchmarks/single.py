"""Rows of one node: ours beside the reference in memory and on files, and Redis (rows 1-3, 7-12)."""

import threading
from collections.abc import Iterator
from functools import partial

from benchmarks import latency, load
from benchmarks.contenders import Contender
from benchmarks.many import resident_mib
from benchmarks.redis import Redis
from benchmarks.rows import Figures, Row, Take
from benchmarks.wrk import LoadError, wrk

BATCH = 100
PRODUCERS = 16
READERS = 1000
MESSAGES = 100


def rows(found: dict[str, Contender], redis: Redis | None, catch_up_mb: int) -> Iterator[Row]:
    """All of them, for the servers that run."""
    for contender in found.values():
        for streams in (1, 128):
            load.make_streams(contender, f"bench/{streams}/", streams)

    def appends(streams: int, connections: int) -> dict[str, Take]:
        takes: dict[str, Take] = {
            name: partial(load.appends, contender, f"bench/{streams}/", streams, connections)
            for name, contender in found.items()
        }
        if redis is not None and streams == 1:
            takes["redis"] = partial(redis.appends, connections)
        return takes

    unit = "appends/s"
    yield Row("1", "1 stream, 128 connections", unit, appends(1, 128), {"files": 20, "memory": 1})
    yield Row("1b", "1 stream, 32 connections", unit, appends(1, 32))
    yield Row("2", "128 streams, 128 connections", unit, appends(128, 128), {"files": 8, "memory": 1})
    yield Row("3", "1 stream, 1 connection", unit, appends(1, 1), {"files": 2})
    ours = found.get("ours")
    if ours is not None:
        yield Row(
            "7", f"JSON batches of {BATCH}, {PRODUCERS} producers", "messages/s", {"ours": batches(ours)}, least=1e5
        )
    yield small_reads(found)
    if ours is not None:
        for size, least in ((100, 150.0), (load.MEGABYTE, 500.0)):
            title = f"catch-up of {catch_up_mb} MB in appends of {size:,} bytes"
            yield Row(f"9, {size:,} bytes", title, "MB/s", {"ours": catch_up(ours, size, catch_up_mb)}, least=least)
    yield from fan_out(found)
    if ours is not None:
        port = ours.server.ports["http"]
        take = partial(latency.woken, port, port, "bench/woken")
        yield Row("11, one node", "append to a long-poll that waits, p50", "ms", {"ours": take}, most=2.0)


def traced_syncs(contender: Contender, _: float) -> Figures:
    """From outside: no server need be believed. 0: it never synced."""
    found = load.traced_syncs(contender, "bench/1/", 128, contender.server.folder / "strace.txt")
    if found is None:
        raise LoadError("strace may not attach here")
    return {"rate": found["appends"] / found["calls"] if found["calls"] else 0.0}


def batches(contender: Contender) -> Take:
    """Row 7: idempotent producers over HTTP."""
    contender.create("bench/batches", "application/json")

    def take(seconds: float) -> Figures:
        words = ["/v1/stream/bench/batches", str(BATCH)]
        figures = wrk([contender.server.url], "batches.lua", words, PRODUCERS, seconds, threads=PRODUCERS)
        if figures["failed"]:
            raise LoadError(f"{figures['failed']:.0f} batches were refused")
        return figures | {"rate": BATCH * figures["rate"]}

    return take


def small_reads(found: dict[str, Contender]) -> Row:
    """Row 8."""
    for contender in found.values():
        contender.create("bench/small", "text/plain")
        for _ in range(10):
            contender.append("bench/small", b"x" * load.SIZE)

    def take(contender: Contender, seconds: float) -> Figures:
        return wrk([contender.server.url], "read.lua", ["/v1/stream/bench/small?offset=-1"], 32, seconds)

    takes: dict[str, Take] = {name: partial(take, contender) for name, contender in found.items()}
    return Row("8", "catch-up reads of 1 KB, 32 connections", "reads/s", takes, {"memory": 1})


def catch_up(contender: Contender, size: int, megabytes: int) -> Take:
    """Row 9: one reader, page by page; and by how much the node's memory grows meanwhile."""
    path = f"bench/catch-up-{size}"
    filled: list[bool] = []

    def take(_: float) -> Figures:
        if not filled:
            load.fill(contender, path, size, megabytes)
            filled.append(True)
        assert contender.server.process is not None
        pid = contender.server.process.pid
        before = resident_mib(pid)
        most, watching = [before], threading.Event()

        def watch() -> None:
            while not watching.wait(0.05):
                most.append(resident_mib(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            figures = load.catch_up(contender, path, megabytes, passes=1)
        finally:
            watching.set()
            watcher.join()
        return figures | {"grew_mib": max(most) - before}

    return take


def fan_out(found: dict[str, Contender]) -> Iterator[Row]:
    """Row 10. The reference on files does not deliver to 1,000 readers within a minute: it sits this out."""
    number = iter(range(1_000_000))
    rates: list[float] = []

    def take(contender: Contender, _: float) -> Figures:
        figures = load.fan_out(contender, f"bench/fan-out-{next(number)}", READERS, MESSAGES)
        if contender.name == "ours":
            rates.append(figures["rate"])
        return figures

    takers = {name: contender for name, contender in found.items() if name != "files"}
    takes: dict[str, Take] = {name: partial(take, contender) for name, contender in takers.items()}
    yield Row("10", f"{READERS} SSE readers of one stream", "deliveries/s", takes, {"memory": 1.5})
    if "ours" not in found:
        return

    def paced(seconds: float) -> Figures:
        """At half of what was delivered at full speed just before."""
        return latency.paced(found["ours"], f"bench/paced-{next(number)}", READERS, rates[-1] / 2 / READERS, seconds)

    yield Row("10, delay", "the same at half that rate, p99", "ms", {"ours": paced}, most=50.0)
