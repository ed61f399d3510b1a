"""Concurrent clients that create, append, produce, close, fork and delete, and write down each answer."""

import asyncio
import dataclasses
import random
from collections.abc import Callable, Sequence

from tests.system.kill.history import History, Kind, Op, Outcome, record
from tests.system.kill.wire import Answer, BrokenError, Connection

JSON, TEXT = "application/json", "text/plain"
PREFIX = "/v1/stream/"
OPEN_STREAMS = 40


@dataclasses.dataclass(slots=True)
class Stream:
    """What the workload knows of one stream. A path that was made again ends in #n; its URL is what stands before."""

    path: str
    kind: str
    owner: int | None = None
    offsets: list[str] = dataclasses.field(default_factory=list)
    closed: bool = False
    deleted: bool = False

    @property
    def url(self) -> str:
        return url(self.path)


def url(path: str) -> str:
    return PREFIX + path.partition("#")[0]


def encode(kind: str, records: Sequence[str]) -> bytes:
    if not records:
        return b""
    if kind == JSON:
        return ("[" + ",".join(f'"{text}"' for text in records) + "]").encode()
    return "".join(f"{text}\n" for text in records).encode()


class Pool:
    """The streams in use, shared by all workers, and the producers' positions."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.producers: dict[tuple[int, str], tuple[int, Op | None]] = {}
        """(worker, path) → the next sequence number and the last batch."""

    def open(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.closed and not stream.deleted]

    def forget_deleted(self) -> None:
        self.streams = self.alive()
        left = {stream.path for stream in self.streams}
        self.producers = {key: last for key, last in self.producers.items() if key[1] in left}

    def alive(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.deleted]


class Worker:
    """One client on one connection, doing one thing after another until it is stopped or cut off."""

    def __init__(self, number: int, seed: str, address: tuple[str, int], shared: tuple[History, Pool]) -> None:
        self.number = number
        self.history, self.pool = shared
        self.wrong: list[str] = []
        self.broken = ""
        """How the connection ended before it was to."""
        self._random = random.Random(f"{seed}/{number}")
        self._label = f"{seed.replace('/', '-')}-{number}"
        self._count = 0
        self._connection = Connection(*address)
        self._actions: list[tuple[Callable[[], asyncio.Future[None] | object], int]] = [
            (self._create, 5),
            (self._append, 50),
            (self._batch, 32),
            (self._close, 3),
            (self._fork, 5),
            (self._delete, 3),
            (self._make_again, 3),
        ]

    async def run(self, stopped: asyncio.Event, answered: Callable[[], None]) -> None:
        actions, weights = zip(*self._actions, strict=True)
        try:
            while not stopped.is_set():
                in_use = len(self.pool.open())
                action = self._random.choices(actions, weights)[0]
                if in_use < OPEN_STREAMS // 2:
                    action = self._create
                elif in_use > OPEN_STREAMS * 2 and action in {self._create, self._fork}:
                    action = self._delete
                await action()
                answered()
        except BrokenError as error:
            if not stopped.is_set():
                self.broken = str(error)
        finally:
            self._connection.close()

    async def _do(self, op: Op, stream: Stream, method: str, headers: dict[str, str]) -> Answer:
        """Send one operation and write down how it ended. Raises BrokenError, the outcome unknown, when it did not."""
        body = encode(stream.kind, op.records)
        answer = await self._connection.request(method, stream.url, headers, body)
        outcome, note = verdict(op, answer)
        if outcome is None:
            outcome = Outcome.UNKNOWN
            self.wrong.append(f"{op.kind.value} of {op.path} was answered {answer.status}: {answer.body[:200]!r}")
        offset = op.offset if op.kind is Kind.FORK else answer.offset
        self.history.answer(op, outcome, offset if outcome is Outcome.ACKED else "", note)
        if outcome is Outcome.ACKED and offset and not stream.closed:
            stream.offsets = [*stream.offsets[-9:], offset]
        stream.closed = stream.closed or note == "closed" or (op.closes and outcome is Outcome.ACKED)
        stream.deleted = stream.deleted or note == "gone" or (op.kind is Kind.DELETE and outcome is not Outcome.REFUSED)
        return answer

    def _op(self, kind: Kind, path: str, records: tuple[str, ...] = (), **more: object) -> Op:
        return self.history.send(Op(kind, path, self.number, self.history.tick(), records, **more))

    def _records(self, most: int) -> tuple[str, ...]:
        made = []
        for _ in range(self._random.randint(1, most)):
            self._count += 1
            large = self._random.random() < 0.01
            size = self._random.randint(50_000, 300_000) if large else self._random.randint(30, 400)
            made.append(record(f"{self._label}-{self._count}", size))
        return tuple(made)

    def _usable(self) -> Stream | None:
        mine = [stream for stream in self.pool.open() if stream.owner in {None, self.number}]
        return self._random.choice(mine) if mine else None

    async def _create(self, path: str = "", owner: int | None = None) -> None:
        self._count += 1
        stream = Stream(path or f"kill/{self._label}-{self._count}", self._random.choice([JSON, TEXT]), owner)
        closes = owner is None and self._random.random() < 0.05
        records = self._records(3) if self._random.random() < 0.4 else ()
        op = self._op(Kind.CREATE, stream.path, records, closes=closes)
        headers = {"content-type": stream.kind} | ({"stream-closed": "true"} if closes else {})
        answer = await self._do(op, stream, "PUT", headers)
        if op.outcome is Outcome.ACKED:
            self.pool.streams.append(stream)
            if answer.status != 201:
                self.wrong.append(f"a new path was answered {answer.status}")

    async def _append(self) -> None:
        if stream := self._usable():
            op = self._op(Kind.APPEND, stream.path, self._records(3))
            await self._do(op, stream, "POST", {"content-type": stream.kind})

    async def _batch(self) -> None:
        stream = self._usable()
        if stream is None:
            return
        key = self.number, stream.path
        sequence, last = self.pool.producers.get(key, (0, None))
        if last is not None and last.outcome is Outcome.UNKNOWN:
            return
        closes = stream.owner is None and self._random.random() < 0.03
        producer = f"w{self.number}", 0, sequence
        op = self._op(Kind.BATCH, stream.path, self._records(6), closes=closes, producer=producer)
        self.pool.producers[key] = sequence + 1, op
        answer = await self._do(op, stream, "POST", batch_headers(stream, op))
        if op.outcome is Outcome.REFUSED:
            self.pool.producers[key] = sequence, last
        elif answer.status == 204 and not closes:
            self.wrong.append(f"batch {producer} of {stream.path} was new, yet answered as a duplicate")

    async def _close(self) -> None:
        public = [stream for stream in self.pool.open() if stream.owner is None]
        if public:
            stream = self._random.choice(public)
            records = self._records(2) if self._random.random() < 0.5 else ()
            op = self._op(Kind.CLOSE, stream.path, records, closes=True)
            headers = {"stream-closed": "true"} | ({"content-type": stream.kind} if records else {})
            await self._do(op, stream, "POST", headers)

    async def _fork(self) -> None:
        public = [stream for stream in self.pool.alive() if stream.owner is None and stream.offsets]
        if public:
            source = self._random.choice(public)
            self._count += 1
            fork = Stream(f"kill/{self._label}-{self._count}-fork", source.kind)
            offset = self._random.choice(source.offsets)
            op = self._op(Kind.FORK, fork.path, source=source.path, offset=offset)
            headers = {"stream-forked-from": source.url, "stream-fork-offset": offset, "content-type": source.kind}
            await self._do(op, fork, "PUT", headers)
            if op.outcome is Outcome.ACKED:
                self.pool.streams.append(fork)

    async def _delete(self, stream: Stream | None = None) -> None:
        public = [each for each in self.pool.alive() if each.owner is None]
        if stream is None and len(public) > OPEN_STREAMS // 4:
            stream = self._random.choice(public[: len(public) // 2 + 1])
        if stream is not None:
            await self._do(self._op(Kind.DELETE, stream.path), stream, "DELETE", {})

    async def _make_again(self) -> None:
        """Delete a stream that only this worker knows, and make it again at the same URL: the old must not return."""
        mine = [stream for stream in self.pool.alive() if stream.owner == self.number]
        if not mine:
            self._count += 1
            await self._create(f"kill/{self._label}-{self._count}-private#1", self.number)
            return
        stream = self._random.choice(mine)
        await self._delete(stream)
        if self.history.by_path[stream.path][-1].outcome is Outcome.ACKED:
            name, _, number = stream.path.partition("#")
            await self._create(f"{name}#{int(number) + 1}", self.number)


def batch_headers(stream: Stream, op: Op) -> dict[str, str]:
    assert op.producer is not None
    name, epoch, sequence = op.producer
    headers = {
        "content-type": stream.kind,
        "producer-id": name,
        "producer-epoch": str(epoch),
        "producer-seq": str(sequence),
    }
    return headers | ({"stream-closed": "true"} if op.closes else {})


def verdict(op: Op, answer: Answer) -> tuple[Outcome | None, str]:
    """What an answer says became of an operation; None when no server should have answered so."""
    match op.kind, answer.status:
        case Kind.CREATE | Kind.FORK, 200 | 201:
            return Outcome.ACKED, ""
        case Kind.BATCH, 200 | 204:
            return Outcome.ACKED, ""
        case Kind.APPEND | Kind.CLOSE | Kind.DELETE, 204:
            return Outcome.ACKED, ""
        case Kind.FORK, 404 | 409 | 410:
            return Outcome.REFUSED, "source gone"
        case Kind.APPEND | Kind.BATCH | Kind.CLOSE, 409 if answer.closed:
            return Outcome.REFUSED, "closed"
        case Kind.APPEND | Kind.BATCH | Kind.CLOSE | Kind.DELETE, 404 | 410:
            return Outcome.REFUSED, "gone"
        case _, 504:
            return Outcome.UNKNOWN, "504"
        case _, 409 if answer.code == "outcome_unknown":
            return Outcome.UNKNOWN, "outcome_unknown"
        case _, 507:
            return Outcome.REFUSED, "507"
        case _, 429 | 503:
            return Outcome.REFUSED, "not now"
        case _:
            return None, f"unexpected {answer.status}"
