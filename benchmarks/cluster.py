"""python -m benchmarks.cluster: three nodes of ours beside three of etcd and the reference on files, in one run.

128 connections, each waiting for its answer before its next append of 100 bytes, all to one stream (one key of etcd),
by the same wrk. Clients ask the leader; of ours also a follower, and all nodes at once.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.compare import CACHE
from benchmarks.contenders import Contender
from benchmarks.etcd import Etcd, encoded, running_etcd
from tests.cluster import LocalCluster, running_cluster
from tests.server import ReferenceServer, Server, running

STREAM = "bench/cluster"
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """What is measured in one row."""

    name: str
    take: Callable[[int, float], Figures]
    """For so many connections and seconds."""


class At(Server):
    """One node of a cluster, as a server that runs."""

    def __init__(self, url: str) -> None:
        self.ports = {"http": int(url.rpartition(":")[2])}


def wrk(script: str, urls: list[str], words: list[str], connections: int, seconds: float) -> Figures:
    """One wrk for each of ``urls``, sharing the connections, at the same time."""
    results: list[Figures] = []

    def run(url: str) -> None:
        command = ["wrk", "-t1", f"-c{connections // len(urls)}", f"-d{max(1, round(seconds))}s"]
        command += ["-s", str(load.HERE / script), url, "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("result ")]
        results.append(json.loads(lines[0].removeprefix("result ")) if lines else {"failed": 1, "requests": 0})

    threads = [threading.Thread(target=run, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if any(result["failed"] for result in results):
        raise load.LoadError(f"{urls}: {results}")
    return {
        "good": sum(result["requests"] for result in results),
        "rate": sum(result["requests"] / (result["microseconds"] / 1e6) for result in results),
        "p50_ms": statistics.mean(result["p50"] for result in results) / 1e3,
        "p99_ms": max(result["p99"] for result in results) / 1e3,
    }


def ours(cluster: LocalCluster) -> Iterator[Turn]:
    leader = cluster.urls[cluster.names.index(cluster.leader())]
    followers = [url for url in cluster.urls if url != leader]
    contender = Contender("ours", "", At(leader), durable=True)
    contender.create(f"{STREAM}0", "text/plain")

    def take(urls: list[str], connections: int, seconds: float) -> Figures:
        before = contender.tail(f"{STREAM}0")
        found = wrk("append.lua", urls, [f"/v1/stream/{STREAM}", "1"], connections, seconds)
        grown = contender.tail(f"{STREAM}0") - before
        if grown < found["good"] * load.SIZE:
            raise load.LoadError(f"{found['good']} appends were acknowledged, but only {grown} bytes stored")
        return found

    yield Turn("ours, all to the leader", lambda connections, seconds: take([leader], connections, seconds))
    yield Turn("ours, all to a follower", lambda connections, seconds: take(followers[:1], connections, seconds))
    yield Turn("ours, spread over the nodes", lambda connections, seconds: take(cluster.urls, connections, seconds))


def theirs(etcd: Etcd) -> Turn:
    def take(connections: int, seconds: float) -> Figures:
        before = etcd.revision()
        found = wrk("put.lua", [etcd.url], [encoded(b"bench"), encoded(b"x" * load.SIZE)], connections, seconds)
        if etcd.revision() - before < found["good"]:
            raise load.LoadError("etcd counts fewer puts than it answered")
        return found

    return Turn("etcd, all to the leader", take)


def reference(server: Server) -> Turn:
    contender = Contender("files", "", server, durable=True)
    contender.create(f"{STREAM}0", "text/plain")
    return Turn(
        "reference, on files",
        lambda connections, seconds: load.appends(contender, STREAM, 1, connections, seconds),
    )


@contextlib.contextmanager
def started(only: list[str]) -> Iterator[list[Turn]]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=CACHE)))
        turns: list[Turn] = []
        if not only or "ours" in only:
            turns += ours(stack.enter_context(running_cluster(folder=folder / "ours")))
        if not only or "etcd" in only:
            turns.append(theirs(stack.enter_context(running_etcd(folder / "etcd"))))
        if not only or "files" in only:
            turns.append(reference(stack.enter_context(running(ReferenceServer(folder / "files", durable=True)))))
        yield turns


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are taken (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each load (default 5)")
    parser.add_argument("--connections", type=int, default=128, help="how many (default 128)")
    parser.add_argument("--servers", nargs="+", choices=["ours", "etcd", "files"], default=[], help="only these")
    options = parser.parse_args()
    load.need_wrk()
    found: dict[str, list[Figures]] = {}
    with started(options.servers) as turns:
        for turn in turns:
            turn.take(options.connections, 2)
        for number in range(options.rounds):
            for turn in turns[number % len(turns) :] + turns[: number % len(turns)]:
                figures = turn.take(options.connections, options.seconds)
                found.setdefault(turn.name, []).append(figures)
                print(f"  {turn.name:30} {figures['rate']:10,.0f}/s", file=sys.stderr, flush=True)
    print(f"appends/s, {options.connections} connections; medians of {options.rounds} rounds of {options.seconds:g} s")
    for name, rounds in found.items():
        rate, p50, p99 = (statistics.median(each[key] for each in rounds) for key in ("rate", "p50_ms", "p99_ms"))
        print(f"{name:30} {rate:10,.0f}   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
