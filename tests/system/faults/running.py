"""Faults while the node runs: calls that fail or take long, and a second process."""

import asyncio
import errno
import fnmatch
import re
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Final

from tests.server import Server
from tests.system.faults.life import NEVER, ContradictionError, FaultServer, Life
from tests.system.kill.history import Outcome
from tests.system.power.shim import ANY, Kind, Rule

ENDED = (
    "exit 1; names the file or call and the next step; what was in flight unanswered; everything acknowledged is there"
)
CAME_UP = "started in spite of it; everything acknowledged is there"
WENT_ON = "a rewrite of files that lacked room is tried again later; everything acknowledged is there"
NOT_STARTED = "start refused, exit 1; the next start has everything acknowledged"
STALLED = "429 while it lasts, the event loop never late by 0.5 s; everything acknowledged is there"
LOCKED = "exit 2, names the holder; the first goes on"

CALLS: Final = {
    "WAL": ("data/db/*.log", 300),
    "SST": ("data/db/*.sst", 12),
    "MANIFEST": ("data/db/MANIFEST-*", 8),
    "durable-turn": ("data/durable-turn", 3),
}
"""Name → pattern, and up to how many of the calls pass before one fails."""
MANY: Final = 1500
"""Answers in which a call on a table file surely came."""


def failing(folder: Path, seed: str, file: str, kind: Kind) -> str:
    """One sync, or one write, fails at a random moment: the node ends, and nobody is told what is not known."""
    server = FaultServer(folder, flush_bytes=64 << 10)
    life = Life(server, server.data, seed)
    pattern, most = CALLS[file]
    error = errno.EIO if kind is Kind.SYNC else life.chance.choice([errno.EIO, errno.ENOSPC])
    try:
        life.begin()
        life.load(life.chance.randint(10, 100))
        rule = server.shim.rule(Rule({kind}, pattern, error=error, skip=life.chance.randint(0, most), times=1))
        begun = len(life.history.ops)
        # Until it ends by itself. It goes on when only a rewrite lacked room.
        may_go_on = file == "SST" and error == errno.ENOSPC
        life.load(MANY if may_go_on else NEVER)
        hit = server.shim.counts(rule)[1]
        server.shim.clear()
        if may_go_on and hit and "rewriting files lacked room" in (folder / "stderr.log").read_text(errors="replace"):
            life.go_on()
            return WENT_ON
        words = life.last_words()
        if not hit:
            raise ContradictionError(f"it ended before any call failed: {words}")
        if not fnmatch.filter(re.findall(r"/[\w.-]+(?=[:' ])", words), f"/{pattern.rpartition('/')[2]}"):
            raise ContradictionError(f"it does not name the file: {words}")
        told = {op.note for op in life.history.ops[begun:] if op.outcome is Outcome.UNKNOWN and op.note}
        if told:
            raise ContradictionError(f"what was in flight was answered: {told}")
        life.begin()
        life.go_on()
    finally:
        life.end()
    return ENDED


def failing_start(folder: Path, seed: str) -> str:
    """Any one call of a start fails."""
    server = FaultServer(folder, flush_bytes=64 << 10)
    life = Life(server, server.data, seed)
    try:
        life.begin()
        life.load(life.chance.randint(100, 300), server.kill)
        error = life.chance.choice([errno.EIO, errno.ENOSPC])
        server.shim.rule(Rule(ANY, "data/*", error=error, skip=life.chance.randint(0, 60), times=1))
        refused = life.launch()
        if refused and str(server.shim.root) not in refused:
            raise ContradictionError(f"it does not name the file: {refused}")
        server.shim.clear()
        if refused:
            life.begin()
            life.go_on()
            return NOT_STARTED
        life.load(life.chance.randint(30, 100))
        if not life._running():
            life.last_words()
            life.begin()
        life.go_on()
    finally:
        life.end()
    return CAME_UP


def stall(folder: Path, seed: str) -> str:
    """Table files are written slower than the load comes in: admission closes, the loop turns."""
    server = FaultServer(folder, flush_bytes=16 << 10)
    life = Life(server, server.data, seed)
    try:
        life.begin()
        life.load(life.chance.randint(10, 100))
        slow = life.chance.uniform(300, 900)
        server.shim.rule(Rule({Kind.WRITE, Kind.SYNC}, "data/db/*.sst", delay_ms=slow))
        begun = len(life.history.ops)
        life.load(NEVER, None, lambda: _probe(server, life, begun))
        server.shim.clear()
        life.load(life.chance.randint(50, 100), server.kill)
        life.begin()
        life.go_on()
    finally:
        life.end()
    return STALLED


async def _probe(server: Server, life: Life, begun: int) -> None:
    """Until fifty operations were refused for the stall: the ops listener answers, and the loop is never late."""
    refused = 0
    while refused < 50:
        await asyncio.sleep(0.05)
        if not life._running():
            raise ContradictionError(f"it ended in a stall: {life.last_words()}")
        shown = await asyncio.to_thread(_metrics, server)
        refused = sum(op.note == "not now" for op in life.history.ops[begun:])
    late = re.findall(r'event_loop_lag_seconds_bucket\{le="([^"]+)"\} ([0-9.]+)', shown)
    counts = Counter({bound: float(count) for bound, count in late})
    if counts["0.5"] != counts["+Inf"]:
        raise ContradictionError(f"the event loop was late: {late}")


def _metrics(server: Server) -> str:
    with urllib.request.urlopen(server.ops_url + "/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def second_process(folder: Path, seed: str) -> str:
    """Another node is started on the same directory, at a random moment."""
    first = FaultServer(folder, flush_bytes=64 << 10)
    life = Life(first, first.data, seed)
    second = FaultServer(folder / "second")
    second.shim = first.shim
    try:
        life.begin()

        async def start_second() -> None:
            await asyncio.sleep(life.chance.uniform(0.0, 0.3))
            process = await asyncio.to_thread(second.launch)
            code = await asyncio.to_thread(process.wait)
            if code != 2 or f"is in use by another process (pid {life.process.pid})" not in process.errors:
                raise ContradictionError(f"the second ended with {code}: {process.errors[-1000:]}")
            await asyncio.sleep(life.chance.uniform(0.0, 0.3))

        life.load(NEVER, None, start_second)
        if not life._running():
            raise ContradictionError(f"the first ended: {life.last_words()}")
        life.go_on()
    finally:
        if second.process is not None and second.process.running:
            second.kill()
        life.end()
    return LOCKED
