"""A history of a server that does everything right, made up from a seed; and servers that do one thing wrong.

Each operation takes effect at one moment between its being sent and its being answered, so they overlap.
"""

from random import Random

from tests.history.records import START, Op, Recorder, line

PLAIN = ("a", "b", "c")
AGAIN = "again"
"""Is deleted and made again and again."""
TTL_S = 20.0


class Stream:
    """One stream as the server has it."""

    def __init__(self, generation: int, inherited: str = "", begins: str = START) -> None:
        self.generation = generation
        self.text = inherited
        self.begins = begins
        self.closed = False
        self.touched = 0.0
        self.ttl_s: float | None = None
        self.seqs: dict[str, int] = {}
        self.ends = [0]
        self.before = len(inherited)

    def at(self, position: int) -> str:
        if position <= self.before:
            return self.begins if position else START
        return f"{self.generation:016d}_{position:016d}"

    @property
    def tail(self) -> str:
        return self.at(len(self.text))


class Server:
    """Does everything right; ``Story`` asks the methods that a bad one overrides."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.streams: dict[str, Stream] = {}
        self.generations = 0

    def apply(self, op: Op, now: float) -> None:
        """Let an operation take effect, and note in it what its answer will say."""
        stream = self.streams.get(op.path)
        if stream is not None and stream.ttl_s is not None and now - stream.touched > stream.ttl_s:
            del self.streams[op.path]
            stream = None
        op.outcome = "acked"
        match op.kind:
            case "create":
                self.create(op, stream, now)
            case _ if stream is None:
                op.outcome, op.why = "refused", "gone"
            case "append":
                self.append(op, stream, now)
            case "read" | "live":
                self.read(op, stream, now)
            case "delete":
                self.delete(op)

    def create(self, op: Op, stream: Stream | None, now: float) -> None:
        if stream is not None:
            op.existed, op.next = True, stream.tail
            return
        source = self.streams.get(op.source)
        self.generations += 1
        if op.source and source is not None:
            made = Stream(self.generations, source.text[: int(op.at[17:])], op.at)
        elif op.source:
            op.outcome, op.why = "refused", "source"
            return
        else:
            made = Stream(self.generations)
        made.ttl_s, made.touched, made.text = op.ttl_s, now, made.text + op.body
        made.ends.append(len(made.text))
        self.streams[op.path] = made
        op.next = made.tail

    def append(self, op: Op, stream: Stream, now: float) -> None:
        if stream.closed and (op.body or not op.closes):
            op.outcome, op.why = "refused", "closed"
            return
        if op.producer is not None and stream.seqs.get(op.producer[0], -1) + 1 != op.producer[2]:
            op.outcome, op.why = "refused", "gap"
            return
        if op.producer is not None:
            stream.seqs[op.producer[0]] = op.producer[2]
        stream.text, stream.closed, stream.touched = stream.text + op.body, stream.closed or op.closes, now
        stream.ends.append(len(stream.text))
        op.next = stream.tail

    def read(self, op: Op, stream: Stream, now: float) -> None:
        stream.touched = now
        start = int(op.start[17:])
        op.body, op.next = stream.text[start:], stream.tail
        op.up_to_date, op.closed = op.kind == "read", stream.closed

    def delete(self, op: Op) -> None:
        del self.streams[op.path]


class Story:
    """Clients that ask a server; ``ops`` is what they wrote down."""

    def __init__(self, seed: int, server: type[Server] = Server, steps: int = 300) -> None:
        self.random = Random(seed)
        self.server = server(self.random)
        self.recorder = Recorder()
        self.ops = self.recorder.ops
        self.now = 0.0
        self.labels = 0
        self.reader = dict.fromkeys(PLAIN, START)
        self.seqs: dict[str, int] = {}
        for path in (*PLAIN, AGAIN):
            self.do("create", path)
        self.do("create", "ttl", ttl_s=TTL_S)
        for step in range(steps):
            self.step(step)
        for path in (*self.server.streams, AGAIN, "ttl"):
            self.do("read", path, start=START)
        for path in PLAIN:
            self.live(path, last=True)
        self.ops.sort(key=lambda op: op.sent)

    def do(self, kind: str, path: str, *, unknown: bool = False, **more: object) -> Op:
        self.now += 1
        spread = (0, 0) if kind == "live" else (self.random.uniform(0, 6), self.random.uniform(0, 6))
        op = Op(kind=kind, path=path, client="c", node="n1", sent=self.now - spread[0], **more)
        if not (unknown and self.random.random() < 0.5):
            self.server.apply(op, self.now)
        op.answered = self.now + spread[1]
        if unknown:
            op.outcome, op.next, op.why, op.existed, op.answered = "unknown", "", "", False, None
        self.ops.append(op)
        return op

    def live(self, path: str, *, last: bool = False) -> None:
        op = self.do("live", path, start=self.reader[path], last=last)
        if op.outcome == "acked":
            self.reader[path] = op.next

    def body(self) -> str:
        self.labels += 1
        lines = self.random.randint(1, 3)
        return "".join(line(f"x{self.labels}.{number}", self.random.randint(0, 60)) for number in range(lines))

    def step(self, step: int) -> None:
        path = self.random.choice((*PLAIN, AGAIN, "ttl", "fork0", "fork1"))
        unknown = self.random.random() < 0.1
        match self.random.randrange(12):
            case 0 | 1 | 2 | 3:
                self.do("append", path, body=self.body(), unknown=unknown)
            case 4 | 5:
                seq = self.seqs.get(path, 0)
                if path in PLAIN:
                    op = self.do("append", path, body=self.body(), producer=("p", 0, seq))
                    self.seqs[path] = seq + (op.outcome == "acked")
            case 6 | 7:
                self.do("read", path, start=START)
            case 8:
                self.live(self.random.choice(PLAIN))
            case 9:
                self.do("delete", AGAIN, unknown=unknown)
            case 10:
                again = self.random.choice((AGAIN, "ttl"))
                self.do("create", again, ttl_s=TTL_S if again == "ttl" else None)
            case _:
                self.seldom(step)

    def seldom(self, step: int) -> None:
        number = sum(path.startswith("fork") for path in self.server.streams)
        source = self.server.streams.get(self.random.choice(PLAIN))
        if step > 200 and number == 2:
            self.do("append", "c", closes=True)
        elif source is not None and step > 40 and number < 2 and source.ends[-1]:
            found = next(path for path, stream in self.server.streams.items() if stream is source)
            self.do("create", f"fork{number}", source=found, at=source.at(self.random.choice(source.ends[1:])))
