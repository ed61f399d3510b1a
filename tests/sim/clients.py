"""What clients do: write through any node, read, follow; and what they were told, as ``tests.history`` wants it."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from durable_streams_cluster.api import BadOffset, From, OffsetGone, Page
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown
from durable_streams_cluster.runtime.service import LocalStreams
from durable_streams_cluster.streams import outcomes
from durable_streams_cluster.streams.commands import Append, Create, Delete, Fork, Producer
from durable_streams_cluster.streams.offsets import Offset, parse
from tests.history.records import START, Op, line
from tests.sim.node import BrokenConnection, Life

if TYPE_CHECKING:
    from tests.sim.world import World

What = Callable[[LocalStreams], Awaitable[Any]]
TEXT = "text/plain"
PLAIN = tuple(f"s{number}" for number in range(5))
AGAIN = ("again0", "again1")
WINDOWS = {"ttl1": 1, "ttl2": 2, "ttl3": 3}
"""Paths of streams with a sliding window, and its seconds."""
CLOSING = tuple(f"c{number}" for number in range(4))
RETRY_FOR_S = 20.0
REFUSED: dict[type, str] = {
    outcomes.NotFound: "gone",
    outcomes.SoftDeleted: "gone",
    outcomes.StreamClosed: "closed",
    outcomes.ConfigMismatch: "exists",
    outcomes.ProducerGap: "gap",
    outcomes.ProducerFenced: "fenced",
    outcomes.ForkSourceMissing: "source",
    outcomes.ForkSourceDeleted: "source",
    OffsetGone: "offset",
    BadOffset: "offset",
}


class Client:
    """One after the other, at whatever node."""

    def __init__(self, world: "World", number: int, random: Random) -> None:
        self.world, self.name, self.random = world, f"w{number}", random
        self.home = random.choice(world.nodes)
        self.pause_s = random.choice((0.1, 0.2, 0.4))
        self.count = 0
        self.known: dict[str, str] = {}
        """Where each stream was seen to end."""
        self.producers: dict[str, tuple[int, int]] = {}
        """Epoch and next sequence."""
        self.patience_s = random.choice((1.0, 2.0, 4.0, 15.0))

    async def run(self) -> None:
        actions: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.append, 15),
            (self.burst, 10),
            (self.produce, 25),
            (self.pipeline, 6),
            (self.read, 25),
            (self.create, 8),
            (self.delete, 3),
            (self.close, 1),
            (self.fork, 2),
        ]
        todo, weights = zip(*actions, strict=True)
        while not self.world.resting:
            await asyncio.sleep(self.random.expovariate(1 / self.pause_s) * self.world.ahead())
            await self.world.goes_on.wait()
            await self.random.choices(todo, weights)[0]()

    # ------------------------------------------------------------------------------------------------------- asking

    def life(self) -> Life | None:
        if self.home not in self.world.nodes:
            self.home = self.random.choice(self.world.nodes)
        node = self.home if self.random.random() < 0.7 else self.random.choice(self.world.nodes)
        return node.serving

    async def once(self, op: Op, what: What, life: Life | None, after_s: float = 0.0) -> Any:
        """Ask one node; BrokenConnection when nobody knows what became of it."""
        if life is None:
            raise ConnectionRefusedError
        back_s = self.random.uniform(0.0001, 0.001)
        answer = life.ask(lambda: what(life.streams), 0.0003 + after_s, back_s)
        timer = self.world.loop.call_later(self.patience_s, _give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def op(self, kind: Any, path: str, **more: Any) -> Op:
        op = Op(kind=kind, path=path, client=self.name, sent=self.world.now(), **more)
        return self.world.history.add(op)

    async def do(self, op: Op, what: What, *, retried: bool = False, unsure: bool = False) -> Any:
        """Ask until it is known what became of it, if it may be asked again; ``unsure``: it may have been done."""
        until = self.world.loop.now_s + RETRY_FOR_S
        while True:
            life = self.life()
            op.node = op.node or (life.node.name if life is not None else "")
            try:
                outcome = await self.once(op, what, life)
            except (BrokenConnection, OutcomeUnknown):
                unsure = True
            except (ConnectionRefusedError, ClusterError) as error:
                self.world.marks["refused"] += isinstance(error, ClusterError)
            else:
                self.settle(op, outcome, unsure=unsure)
                return outcome
            if not retried or self.world.loop.now_s > until:
                op.answered = self.world.now()
                op.outcome, op.why = ("unknown", "") if unsure else ("refused", "not now")
                self.world.marks["unknown outcome"] += unsure
                return None
            op.attempts += 1
            await asyncio.sleep(self.random.uniform(0.02, 0.3))

    def settle(self, op: Op, outcome: Any, *, unsure: bool = False) -> None:
        """Write down the answer."""
        op.answered = self.world.now()
        match outcome:
            case outcomes.Created(existed=existed, next_offset=next_offset):
                op.outcome, op.existed, op.next = "acked", existed, str(next_offset)
            case outcomes.Appended(next_offset=next_offset, duplicate=duplicate):
                op.outcome, op.duplicate, op.next = "acked", duplicate, str(next_offset)
            case outcomes.Deleted():
                op.outcome = "acked"
            case Page():
                op.outcome, op.next, op.start = "acked", str(outcome.next), str(outcome.start)
                op.body = b"".join(outcome.bodies).decode()
                op.up_to_date, op.closed = outcome.up_to_date, outcome.closed
            case _:
                op.outcome, op.why = "refused", REFUSED.get(type(outcome), "other")  # type: ignore[assignment]
                if unsure:
                    op.outcome, op.why = "unknown", ""
        if op.outcome == "acked":
            self.world.acked += op.kind != "read"
            if op.next:
                self.known[op.path] = op.next
        elif op.why == "gone":
            self.known.pop(op.path, None)
            self.world.marks["expired"] += op.path in WINDOWS

    # ------------------------------------------------------------------------------------------------------- actions

    def body(self) -> str:
        self.count += 1
        size = self.random.choice((0, 0, 30, 200))
        lines = self.random.choice((1, 1, 1, 3))
        return "".join(line(f"{self.name}-{self.count}.{number}", size) for number in range(lines))

    def path(self) -> str:
        return self.random.choice(
            (*PLAIN, *PLAIN, *AGAIN, *WINDOWS, *CLOSING[self.world.closed :][:1], *self.world.forks[-2:])
        )

    async def append(self) -> None:
        """Never sent again."""
        await self.append_to(self.path())

    async def append_to(self, path: str) -> None:
        op = self.op("append", path, body=self.body())
        command = Append(op.path, TEXT, op.body.encode(), False, None, None)
        await self.do(op, lambda streams: streams.append(command))

    async def burst(self) -> None:
        """As of many clients at once; there is no order between them."""
        paths = [self.path() for _ in range(self.random.randint(3, 12))]
        await asyncio.gather(*(self.append_to(path) for path in paths))

    def batch(self, path: str) -> tuple[Op, Append]:
        epoch, seq = self.producers.get(path, (0, 0))
        self.producers[path] = epoch, seq + 1
        op = self.op("append", path, body=self.body(), producer=(self.name, epoch, seq))
        return op, Append(path, TEXT, op.body.encode(), False, None, Producer(self.name, epoch, seq))

    async def produce(self) -> None:
        op, command = self.batch(self.path())
        await self.do(op, lambda streams: streams.append(command), retried=True)
        self.after_batch(op)

    def after_batch(self, op: Op) -> None:
        assert op.producer is not None
        if op.outcome == "acked":
            return
        epoch, _ = self.producers.get(op.path, (0, 0))
        if op.why == "gone":
            self.producers.pop(op.path, None)
        elif op.why != "closed":
            self.producers[op.path] = epoch + 1, 0

    async def pipeline(self) -> None:
        """Several batches at one node, without waiting: it keeps their order."""
        path, life = self.random.choice(PLAIN), self.life()
        batches = [self.batch(path) for _ in range(self.random.randint(2, 5))]
        gap_s = self.random.choice((1e-6, 0.003, 0.02))
        results = await asyncio.gather(
            *(
                self.once(op, lambda streams, command=command: streams.append(command), life, number * gap_s)  # type: ignore[misc]
                for number, (op, command) in enumerate(batches)
            ),
            return_exceptions=True,
        )
        in_order = self.world.keeps_order
        for (op, command), result in zip(batches, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(
                result, BrokenConnection | ConnectionRefusedError | ClusterError
            ):
                raise result
            if isinstance(result, outcomes.Appended):
                self.settle(op, result)
                continue
            if isinstance(result, outcomes.ProducerGap) and in_order and op is not batches[0][0]:
                self.world.wrong.append(f"{path}: batch {op.producer} came before the one sent before it")
            in_order = False
            if isinstance(result, outcomes.NotFound | outcomes.SoftDeleted):
                self.settle(op, result)
                self.after_batch(op)
                continue
            if op.producer is not None and op.producer[1] != self.producers.get(path, (0, 0))[0]:
                op.answered = self.world.now()  # An earlier batch was given up: this one's turn never comes.
                broken = isinstance(result, BrokenConnection | OutcomeUnknown)
                op.outcome, op.why = ("unknown", "") if broken else ("refused", "not now")
                continue
            op.attempts += 1
            unsure = isinstance(result, BrokenConnection | OutcomeUnknown)
            await self.do(op, lambda streams, command=command: streams.append(command), retried=True, unsure=unsure)  # type: ignore[misc]
            self.after_batch(op)

    async def read(self) -> None:
        path = self.path()
        at = self.known.get(path, START) if self.random.random() < 0.8 else START
        await self.read_from(path, at)

    async def read_from(self, path: str, at: str) -> None:
        place: Offset | From = parse(at) if at != START else From.START
        op = self.op("read", path, start=at)
        await self.do(op, lambda streams: streams.read(path, place), retried=True)
        if op.outcome == "acked" and op.start == START and path in PLAIN:
            self.world.ends.setdefault(path, []).append(op.next)

    async def create(self) -> None:
        path = self.random.choice((*AGAIN, *WINDOWS, *PLAIN))
        op = self.op("create", path, ttl_s=WINDOWS.get(path))
        command = Create(path, TEXT, WINDOWS.get(path), None, False, b"", None)
        await self.do(op, lambda streams: streams.create(command), retried=self.random.random() < 0.2)

    async def delete(self) -> None:
        path = self.random.choice(AGAIN)
        op = self.op("delete", path)
        await self.do(op, lambda streams: streams.delete(Delete(path)), retried=self.random.random() < 0.2)

    async def close(self) -> None:
        if self.world.closed < len(CLOSING):
            path = CLOSING[self.world.closed]
            self.world.closed += 1
            op = self.op("append", path, closes=True, body=self.body() if self.random.random() < 0.5 else "")
            command = Append(path, TEXT, op.body.encode(), True, None, None)
            await self.do(op, lambda streams: streams.append(command))

    async def fork(self) -> None:
        source = self.random.choice(PLAIN)
        ends = self.world.ends.get(source)
        if ends and len(self.world.forks) < 6 and ends[-1] != START:
            at, path = self.random.choice(ends), f"f{len(self.world.forks)}"
            self.world.forks.append(path)
            op = self.op("create", path, source=source, at=at)
            command = Create(path, TEXT, None, None, False, b"", Fork(source, parse(at), 0))
            await self.do(op, lambda streams: streams.create(command), retried=True)


class Rusher(Client):
    """Sends nothing but batches one behind the other, whenever ``World.rush_until_s`` has it."""

    async def run(self) -> None:
        while not self.world.resting:
            await asyncio.sleep(0.02)
            if self.world.loop.now_s < self.world.rush_until_s:
                await self.pipeline()


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(BrokenConnection())
