"""Rounds of load, SIGKILL, restart and check on one data directory."""

import asyncio
import collections
import dataclasses
import json
import random
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from tests.server import Server
from tests.system.kill import checker
from tests.system.kill.history import Found, History, Op, Outcome
from tests.system.kill.wire import BrokenError, Connection
from tests.system.kill.workload import JSON, Pool, Stream, Worker, batch_headers, encode, url

WORKERS = 16
READERS = 8
LOAD_LIMIT = 60.0
ANSWERS = 800


@dataclasses.dataclass(slots=True)
class Report:
    """Counts over all rounds, and every contradiction found."""

    rounds: int = 0
    restarts: int = 0
    streams: int = 0
    duplicates: int = 0
    sent_again: int = 0
    acknowledged: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    unknown: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"kill -9: {self.rounds} rounds, {self.restarts} restarts, {self.streams} streams checked",
            f"acknowledged: {dict(self.acknowledged)}",
            f"cut off by the kill, outcome unknown: {dict(self.unknown)}",
            f"last acknowledged batches sent again and answered as duplicates: {self.duplicates}",
            f"batches of unknown outcome sent again: {self.sent_again}",
            f"contradictions: {len(self.wrong)}",
        ]
        return "\n".join(lines)


class Rounds:
    """The state that lives through the kills: what was done, what is in use, and the one seed of all chance."""

    def __init__(self, server: Server, seed: str) -> None:
        self.server = server
        self.seed = seed
        self.history = History()
        self.pool = Pool()
        self.report = Report()
        self.workers = WORKERS
        parts = urlsplit(server.url)
        self._address = parts.hostname or "", parts.port or 0
        self._random = random.Random(seed)

    def run(self, rounds: int, say: Callable[[str], None] = print) -> Report:
        self._begin()
        for number in range(rounds):
            begun = len(self.history.ops)
            if self._running():
                asyncio.run(self._load(number))
                self._restart()
            if not self._running():
                break
            touched = {op.path for op in self.history.ops[begun:]}
            unknown = [op for op in self.history.ops[begun:] if op.outcome is Outcome.UNKNOWN]
            self.report.unknown.update(op.kind.value for op in unknown)
            asyncio.run(self._check(touched))
            self.report.rounds += 1
            done = len(self.history.ops) - begun
            say(f"round {number}: {done} operations, {len(unknown)} unknown, {len(touched)} streams{self._remark()}")
            if self.report.wrong:
                break
        else:
            self._restart()
            if self._running():
                asyncio.run(self._check({op.path for op in self.history.ops}))
        self.report.acknowledged = collections.Counter(self.history.count(Outcome.ACKED))
        return self.report

    def _running(self) -> bool:
        return self.server.process is not None and self.server.process.running

    def _begin(self) -> None:
        """Start for the first time."""
        self.server.start()

    def _remark(self) -> str:
        """What else is to be said of the last round."""
        return ""

    def _ended(self) -> bool:
        """Whether a server that ended before it was killed was meant to."""
        return False

    async def _load(self, number: int) -> None:
        """All workers at once, until so many answers have come; then SIGKILL, at any moment of what is in flight."""
        stopped, target = asyncio.Event(), self._random.randint(20, ANSWERS)
        delay = self._random.uniform(0.0, 0.01)
        answers = 0

        def kill() -> None:
            stopped.set()
            self.server.kill()

        def answered() -> None:
            nonlocal answers
            answers += 1
            if answers == target:
                asyncio.get_running_loop().call_later(delay, kill)

        seed = f"{self.seed}/{number}"
        shared = self.history, self.pool
        workers = [Worker(each, seed, self._address, shared) for each in range(self.workers)]
        try:
            async with asyncio.timeout(LOAD_LIMIT):
                await asyncio.gather(*(worker.run(stopped, answered) for worker in workers))
        except TimeoutError:
            self.report.wrong.append(f"only {answers} of {target} answers came within {LOAD_LIMIT:g} s")
        finally:
            broken = [f"a connection broke before the kill: {worker.broken}" for worker in workers if worker.broken]
            self.report.wrong += [] if broken and self._ended() else broken
            self.server.kill()
        self.report.wrong += [wrong for worker in workers for wrong in worker.wrong]

    def _restart(self) -> None:
        """Start again on the same data; now and then the recovery is itself killed, at some moment of it."""
        if self._running():
            self.server.kill()
        while self._random.random() < 0.2:
            self.server.launch().kill_after(self._random.uniform(0.0, 1.0))
            self.report.restarts += 1
        self.server.start()
        self.report.restarts += 1

    async def _check(self, paths: Iterable[str]) -> None:
        """Read the streams, compare, settle what was unknown, and send the last batches again."""
        found = await self._read(paths)
        self.report.streams += len(found)
        self.report.wrong += checker.check(self.history, found)
        checker.resolve(self.history, found)
        for stream in self.pool.streams:
            if (state := found.get(stream.path)) is not None:
                stream.closed, stream.deleted = state.closed, state.records is None
        await self._send_again(found)
        self.pool.forget_deleted()

    async def _read(self, paths: Iterable[str]) -> dict[str, Found]:
        # Of a URL that was made again, what is read belongs to the last stream whose creation was not refused.
        latest: dict[str, str] = {}
        for path in sorted(paths, key=lambda each: (url(each), int(each.partition("#")[2] or 0))):
            if self.history.by_path[path][0].outcome is not Outcome.REFUSED or url(path) not in latest:
                latest[url(path)] = path
        waiting, found = list(latest.values()), {}

        async def reader() -> None:
            connection = Connection(*self._address)
            try:
                while waiting:
                    path = waiting.pop()
                    found[path] = await read(connection, path)
            finally:
                connection.close()

        await asyncio.gather(*(reader() for _ in range(READERS)))
        return found

    async def _send_again(self, found: dict[str, Found]) -> None:
        """Each producer's last batch once more: what is there must be recognised, what is not must now be stored."""
        connection = Connection(*self._address)
        streams = {stream.path: stream for stream in self.pool.streams}
        last = [op for _, op in self.pool.producers.values() if op is not None and op.outcome is not Outcome.REFUSED]
        # Those that close come last: sent again, they may now close the stream for the others.
        for op in sorted(last, key=lambda each: each.closes):
            state, stream = found.get(op.path), streams.get(op.path)
            if state is None or stream is None or state.records is None:
                continue
            there = op.records[0] in state.records
            if (there and (op.closes or not stream.closed)) or (op.outcome is Outcome.UNKNOWN and not stream.closed):
                await self._send_one_again(connection, stream, op, there)
        connection.close()
        # Batches of unknown outcome on streams that others closed: what was found settles them.
        for op in (op for path in found for op in self.history.by_path[path] if op.outcome is Outcome.UNKNOWN):
            there = op.records[0] in (found[op.path].records or ())
            self.history.answer(op, Outcome.ACKED if there else Outcome.REFUSED, note="settled by what was found")

    async def _send_one_again(self, connection: Connection, stream: Stream, op: Op, there: bool) -> None:
        answer = await connection.request(
            "POST", stream.url, batch_headers(stream, op), encode(stream.kind, op.records)
        )
        expected = {204} if there else {200, 204} if op.closes else {200}
        if answer.status not in expected:
            self.report.wrong.append(
                f"{stream.path}: last batch {op.producer} ({op.outcome.value}, {'' if there else 'not '}found after a "
                f"restart) was sent again and answered {answer.status}: {answer.body[:200]!r}"
            )
        if op.outcome is Outcome.ACKED:
            self.report.duplicates += 1
        else:
            self.report.sent_again += 1
            self.history.answer(op, Outcome.ACKED, answer.offset, "sent again")
            stream.closed = stream.closed or op.closes


async def read(connection: Connection, path: str) -> Found:
    """One whole stream, page by page, and its state by HEAD."""
    head = await connection.request("HEAD", url(path))
    texts: list[str] = []
    offset = "-1"
    while True:
        page = await connection.request("GET", f"{url(path)}?offset={offset}")
        if page.status != 200 or head.status != page.status:
            return Found(page.status if head.status == page.status else -page.status)
        if page.headers.get("content-type", "").startswith(JSON):
            texts += json.loads(page.body)
        elif page.body:
            lines = page.body.decode(errors="replace").split("\n")
            texts += lines if lines[-1] else lines[:-1]
        if "stream-up-to-date" in page.headers:
            break
        if page.offset == offset:
            raise BrokenError(f"{path}: a read at {offset} does not go on")
        offset = page.offset
    if page.offset != head.offset:
        return Found(-200)
    return Found(200, tuple(texts), head.closed, head.offset)
