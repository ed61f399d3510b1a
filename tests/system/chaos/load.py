"""The clients of one run: 16 producers, 4 plain writers, live readers and lookers at every node."""

import asyncio
from collections.abc import Mapping, Sequence

from tests.history.records import Op
from tests.system.chaos.client import BrokenError, Connection, NotSentError
from tests.system.chaos.cluster import Node
from tests.system.chaos.pulse import Pulse
from tests.system.chaos.readers import Live, LongPoll, Looker, Sse
from tests.system.chaos.writers import AGAIN_S, KIND, PREFIX, Balancer, Plain, Producer

PRODUCERS, PLAINS = 16, 4
STREAMS = 2
FINISH_LIMIT = 60.0
"""Seconds for all to end once nothing is broken any more."""


class Load:
    """Begins, goes on until it is told to finish, and finds out what became of everything."""

    def __init__(self, nodes: Sequence[Node], pulse: Pulse, seed: str) -> None:
        self.pulse = pulse
        self.wrong: list[str] = []
        self.paths = [f"chaos/{number}" for number in range(STREAMS)]
        self._stopped = asyncio.Event()
        self._nodes = nodes
        count, balancer = len(nodes), Balancer(nodes)
        shared = balancer, pulse
        self._writers = [Producer(f"p{each}", each % count, self.paths, seed, shared) for each in range(PRODUCERS)]
        self._writers += [Plain(f"w{each}", each % count, self.paths, seed, shared) for each in range(PLAINS)]
        self._live: list[Live] = []
        for home in range(count):
            for number, path in enumerate(self.paths):
                make = Sse if (home + number) % 2 else LongPoll
                self._live.append(make(f"live{home}{number}", home, path, shared))
        self._lookers = [Looker(f"look{home}", home, self.paths, seed, shared) for home in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Make the streams, with these headers beside; then everybody starts."""
        for path in self.paths:
            op = Op(kind="create", path=path, client="maker", sent=self.pulse.now())
            if "stream-ttl" in headers:
                op.ttl_s = float(headers["stream-ttl"])
            await self._insist(op, "PUT", {"content-type": KIND, **headers}, {200, 201})
            op.existed = op.attempts > 1
        self._tasks = [asyncio.create_task(each.run(self._stopped), name=each.name) for each in self._writers]
        self._tasks += [asyncio.create_task(each.run(self._stopped), name=each.name) for each in self._lookers]
        self._readers = [asyncio.create_task(each.run(), name=each.name) for each in self._live]

    async def finish(self) -> None:
        """Nothing is broken any more: everybody ends well, the streams are closed and read at every node."""
        self._stopped.set()
        await self._end(self._tasks, "did not end")
        for path in self.paths:
            op = Op(kind="append", path=path, client="closer", sent=self.pulse.now(), closes=True)
            await self._insist(op, "POST", {"stream-closed": "true"}, {204})
        await self._end(self._readers, "has not seen the end of its stream")
        for number, node in enumerate(self._nodes):
            looker = Looker(f"last{number}", number, self.paths, "", (Balancer(self._nodes), self.pulse))
            for path in self.paths:
                await asyncio.wait_for(looker.read_all(path), FINISH_LIMIT)
            self.wrong += [f"{node.name}: {each}" for each in looker.wrong]
        for each in (*self._writers, *self._live, *self._lookers):
            self.wrong += each.wrong

    async def abandon(self) -> None:
        """However the run ended, nobody goes on."""
        tasks = [*self._tasks, *self._readers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def sound(self) -> None:
        """Raise what ended one of the clients, if one has ended."""
        for task in (*self._tasks, *self._readers):
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_name()} ended: {self.problems()}")

    def problems(self) -> list[str]:
        """What clients found that must not be, so far."""
        return [wrong for each in (*self._writers, *self._live, *self._lookers) for wrong in each.wrong]

    async def _end(self, tasks: list[asyncio.Task[None]], what: str) -> None:
        done, late = await asyncio.wait(tasks, timeout=FINISH_LIMIT)
        self.wrong += [f"{task.get_name()} {what}" for task in late]
        for task in late:
            task.cancel()
        for task in done:
            task.result()

    async def _insist(self, op: Op, method: str, headers: Mapping[str, str], wanted: set[int]) -> None:
        """Do something that may be done twice, until it is done."""
        self.pulse.recorder.add(op)
        op.attempts = 0
        async with asyncio.timeout(FINISH_LIMIT):
            while True:
                node = self._nodes[op.attempts % len(self._nodes)]
                connection = Connection(node.host, node.ports["http"])
                op.attempts += 1
                try:
                    answer = await connection.request(method, PREFIX + op.path, dict(headers), limit=20.0)
                except (NotSentError, BrokenError):
                    await asyncio.sleep(AGAIN_S)
                    continue
                finally:
                    connection.close()
                if answer.status in wanted:
                    op.outcome, op.next, op.answered = "acked", answer.offset, self.pulse.now()
                    return
                if answer.status not in {429, 503, 504}:
                    raise AssertionError(f"{method} {op.path}: {answer.status} {answer.body!r}")
                await asyncio.sleep(AGAIN_S)
