"""Rows of three nodes: ours beside three of etcd, of NATS, and the reference on files (rows 4-6, 11, 12)."""

import asyncio
import re
import statistics
import threading
import urllib.request
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

from benchmarks import latency, load
from benchmarks.contenders import Contender
from benchmarks.etcd import Etcd, encoded
from benchmarks.many import resident_mib
from benchmarks.nats import Nats, Publisher
from benchmarks.producer import RECORD, produce
from benchmarks.rows import Figures, Row, Take
from benchmarks.wrk import LoadError, wrk
from durable_streams_client import Client, Producer
from tests.cluster import LocalCluster
from tests.server import Server

STREAM = "bench/cluster"
PIPELINED = 16
SLOW_READERS = 100
T = TypeVar("T")


class At(Server):
    """One node of a cluster, as a server that runs."""

    def __init__(self, url: str) -> None:
        http = int(url.rpartition(":")[2])
        self.ports = {"http": http, "ops": http + 3}


def leader_of(cluster: LocalCluster) -> Contender:
    return Contender("ours", "", At(cluster.urls[cluster.names.index(cluster.leader())]), durable=True)


def rows(cluster: LocalCluster, etcd: Etcd | None, files: Contender | None) -> Iterator[Row]:
    """All but those of a Producer."""
    contender = leader_of(cluster)
    contender.create(f"{STREAM}0", "text/plain")
    for each in (files,) if files is not None else ():
        load.make_streams(each, STREAM, 1)

    def appends(urls: list[str], connections: int, seconds: float) -> Figures:
        before, syncs = contender.tail(f"{STREAM}0"), contender.syncs() or 0
        found = wrk(urls, "append.lua", [f"/v1/stream/{STREAM}", "1"], connections, seconds)
        grown = contender.tail(f"{STREAM}0") - before
        if found["failed"] or grown < found["good"] * load.SIZE:
            raise LoadError(f"{found['good']:.0f} appends were acknowledged, {found['failed']:.0f} not: {grown} bytes")
        return found | {"appends_per_sync": found["good"] / max(1, (contender.syncs() or 0) - syncs)}

    def puts(connections: int, seconds: float) -> Figures:
        assert etcd is not None
        before = etcd.revision()
        found = wrk([etcd.url], "put.lua", [encoded(b"bench"), encoded(b"x" * load.SIZE)], connections, seconds)
        if found["failed"] or etcd.revision() - before < found["good"]:
            raise LoadError("etcd counts fewer puts than it answered")
        return found

    leader = contender.server.url
    for connections, ratios in ((32, {"etcd": 2.0}), (128, {"etcd": 2.5, "files": 12.0})):
        takes: dict[str, Take] = {"ours": partial(appends, [leader], connections)}
        if etcd is not None:
            takes["etcd"] = partial(puts, connections)
        if files is not None and connections == 128:
            takes["files"] = partial(load.appends, files, STREAM, 1, connections)
        title = f"3 nodes, to the leader, {connections} connections"
        yield Row(f"4, {connections}", title, "appends/s", takes, ratios)
    spread: dict[str, Take] = {
        "ours": partial(appends, cluster.urls, 128),
        "to the leader": partial(appends, [leader], 128),
    }
    yield Row("5", "3 nodes, spread over all, 128 connections", "appends/s", spread, {"to the leader": 0.8})
    follower = next(url for url in cluster.urls if url != leader)
    write_port, read_port = (int(url.rpartition(":")[2]) for url in (leader, follower))
    take = partial(latency.woken, write_port, read_port, "bench/woken")
    yield Row("11, 3 nodes", "append to a long-poll that waits at a follower, p50", "ms", {"ours": take}, most=4.0)
    yield overload(cluster)


class Producing:
    """Row 6: a Producer beside NATS JetStream, each on one connection, in a loop that is their own."""

    def __init__(self, cluster: LocalCluster, nats: Nats | None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = Client(cluster.targets)
        self.producer: Producer = self._do(self._begin())
        self.publisher: Publisher | None = self._do(Publisher.leading(nats.ports)) if nats else None

    async def _begin(self) -> Producer:
        await self._client.__aenter__()
        stream = self._client.stream("bench/producer")
        await stream.create(content_type="text/plain")
        return await stream.producer().__aenter__()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def rows(self) -> Iterator[Row]:
        for window in (1, 32, 128, 1000):
            takes: dict[str, Take] = {"ours": partial(self._ours, window)}
            if self.publisher is not None:
                takes["nats"] = partial(self._theirs, window)
            ratios = {"nats": 1.0} if window >= 128 else {}
            yield Row(f"6, {window}", f"SDK producer, 3 nodes, {window} under way", "records/s", takes, ratios)

    def _ours(self, window: int, seconds: float) -> Figures:
        return {"rate": self._do(produce(self.producer, window, seconds))}

    def _theirs(self, window: int, seconds: float) -> Figures:
        assert self.publisher is not None
        return {"rate": self._do(self.publisher.publish(RECORD, window, seconds))}

    def close(self) -> None:
        """Look whether NATS has what it answered."""
        if self.publisher is not None:
            self._do(self.publisher.check())
        self._do(self.producer.aclose())
        self._do(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def overload(cluster: LocalCluster) -> Row:
    """Row 12: four times as many connections as saturate, each with many appends under way, and slow readers."""

    def take(seconds: float) -> Figures:
        contender = leader_of(cluster)
        contender.create("bench/overload", "text/plain")
        url, port, pid = contender.server.url, contender.server.ports["http"], cluster.pids[cluster.leader()]
        words = ["/v1/stream/bench/overload"]
        peak = wrk([url], "overload.lua", [*words, "1"], 128, seconds)["rate"]
        term, before, most = _term(cluster), resident_mib(pid), [0.0]
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.1):
                most.append(resident_mib(pid))

        readers = [load.open_slow_reader(port, "bench/overload") for _ in range(SLOW_READERS)]
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            found = wrk([url], "overload.lua", [*words, str(PIPELINED)], 512, seconds)
        finally:
            stop.set()
            watching.join()
            for reader in readers:
                reader.close()
        if _term(cluster) != term:
            raise LoadError("there was an election under load")
        return found | {"rate": 100 * found["rate"] / peak, "grew_mib": max(most) - before}

    title = "512 connections x 16 appends under way, 100 readers that take nothing: % of the peak"
    return Row("12", title, "%", {"ours": take}, least=80.0)


def _term(cluster: LocalCluster) -> int:
    """The term, as the nodes' probes tell it."""
    terms = []
    for url in cluster.urls:
        port = int(url.rpartition(":")[2]) + 3
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz?verbose", timeout=10) as answer:
            terms += [int(found) for found in re.findall(r"term (\d+)", answer.read().decode())]
    return int(statistics.median(terms))
