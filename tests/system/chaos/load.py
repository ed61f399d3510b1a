"""The clients of one run: 16 producers, 4 plain writers, live readers and lookers at every node."""

import asyncio
from collections.abc import Mapping, Sequence

from tests.history.records import Op, line
from tests.system.chaos.client import BrokenError, Connection, NotSentError
from tests.system.chaos.cluster import Node
from tests.system.chaos.pulse import Pulse
from tests.system.chaos.readers import Live, LongPoll, Looker, Sse
from tests.system.chaos.writers import AGAIN_S, KIND, PREFIX, Balancer, Plain, Producer

PRODUCERS, PLAINS = 16, 4
STREAMS = 2
BULK, BULK_LINE_BYTES = "chaos/bulk", 100_000
FINISH_LIMIT = 60.0
"""Seconds for all to end once nothing is broken any more."""


class Load:
    """Begins, goes on until it is told to finish, and finds out what became of everything."""

    def __init__(self, nodes: Sequence[Node], pulse: Pulse, seed: str) -> None:
        """``nodes``: all places, also those where no node is yet or any more."""
        self.pulse = pulse
        self.wrong: list[str] = []
        self.paths = [f"chaos/{number}" for number in range(STREAMS)]
        self.every = [*self.paths]
        self._stopped = asyncio.Event()
        self._nodes = nodes
        count = len(nodes)
        self._balancer = Balancer(nodes)
        shared = self._balancer, pulse
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

    async def begin(self, headers: Mapping[str, str], bulk_bytes: int = 0) -> None:
        """Make the streams, with these headers beside; then everybody starts.

        ``bulk_bytes``: so much is in a stream of its own, which nobody but the last readers looks at.
        """
        bulk = [BULK] if bulk_bytes else []
        for path in (*self.paths, *bulk):
            op = Op(kind="create", path=path, client="maker", sent=self.pulse.now())
            if "stream-ttl" in headers:
                op.ttl_s = float(headers["stream-ttl"])
            await self._insist(op, "PUT", {"content-type": KIND, **headers}, {200, 201})
            op.existed = op.attempts > 1
        self.every += bulk
        for number in range(bulk_bytes // BULK_LINE_BYTES):
            body = line(f"bulk-{number}", BULK_LINE_BYTES)
            op = Op(kind="append", path=BULK, client="bulk", sent=self.pulse.now(), body=body)
            op.producer = ("bulk", 0, number)
            told = {"producer-id": "bulk", "producer-epoch": "0", "producer-seq": str(number)}
            await self._insist(op, "POST", {"content-type": KIND, **told}, {200, 204})
            op.duplicate = op.attempts > 1
        self._tasks = [asyncio.create_task(each.run(self._stopped), name=each.name) for each in self._writers]
        self._tasks += [asyncio.create_task(each.run(self._stopped), name=each.name) for each in self._lookers]
        self._readers = [asyncio.create_task(each.run(), name=each.name) for each in self._live]

    async def finish(self) -> None:
        """Nothing is broken any more: everybody ends well, the streams are closed and read at every node."""
        self._stopped.set()
        await self._end(self._tasks, "did not end")
        for path in self.every:
            op = Op(kind="append", path=path, client="closer", sent=self.pulse.now(), closes=True)
            await self._insist(op, "POST", {"stream-closed": "true"}, {204})
        await self._end(self._readers, "has not seen the end of its stream")
        for node in self._nodes:
            if node.running:
                await self.read_all(node)
        for each in (*self._writers, *self._live, *self._lookers):
            self.wrong += each.wrong

    async def read_all(self, node: Node) -> None:
        """Read every stream at a node, from the beginning to the end that it has now."""
        looker = Looker(f"all-{node.name}", self._nodes.index(node), self.every, "", (self._balancer, self.pulse))
        for path in self.every:
            await asyncio.wait_for(looker.read_all(path), FINISH_LIMIT)
        self.wrong += [f"{node.name}: {each}" for each in looker.wrong]

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
                    body = op.body.encode()
                    answer = await connection.request(method, PREFIX + op.path, dict(headers), body, limit=20.0)
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
