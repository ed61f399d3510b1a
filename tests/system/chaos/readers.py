"""Clients that read: live ones, who must see everything once and in order, and ones that ask what is there now."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import aclosing

from tests.history.records import START, Op
from tests.system.chaos.client import Answer, BrokenError, Connection, NotSentError
from tests.system.chaos.pulse import Pulse
from tests.system.chaos.writers import PREFIX, Balancer

IDLE_LIMIT = 40.0
"""Seconds without a byte: a keep-alive comes every 15."""
READ_LIMIT = 20.0
AGAIN_S = 0.05
LOOK_S = 0.05
NOT_NOW = {429, 503}


class Live:
    """One live reader of one stream, at its own node while that is there; ends when it has seen the stream's end."""

    def __init__(self, name: str, home: int, path: str, shared: tuple[Balancer, Pulse]) -> None:
        self.name = name
        self.home = home
        self.path = path
        self.balancer, self.pulse = shared
        self.offset = START
        self.closed = False
        self.wrong: list[str] = []

    async def run(self) -> None:
        while not self.closed and not self.wrong:
            number = self.balancer.choose(self.home)
            node = self.balancer.nodes[number]
            connection = Connection(node.host, node.ports["http"])
            try:
                await self._read(connection, node.name)
                if connection.told_to_close:
                    self.balancer.avoid(number)
            except NotSentError:
                self.balancer.avoid(number)
                await asyncio.sleep(AGAIN_S)
            except BrokenError as error:
                self.pulse.broke(node.name, f"{self.name}: {error}")
                self.balancer.avoid(number)
            finally:
                connection.close()

    async def _read(self, connection: Connection, node: str) -> None:
        raise NotImplementedError

    def _saw(self, op: Op, body: bytes, end: str, *, closed: bool) -> None:
        """Write down one delivery; ``op.sent`` is when its request was."""
        op.body, op.start, op.next, op.closed = body.decode(), self.offset, end, closed
        op.outcome, op.answered = "acked", self.pulse.now()
        op.sent = op.answered
        self.pulse.recorder.add(op)
        self.offset, self.closed = end, closed

    def _op(self, node: str) -> Op:
        return Op(kind="live", path=self.path, client=self.name, node=node, sent=0.0)

    async def _refused(self, node: str, answer: Answer) -> None:
        self.pulse.failed[f"live read: {answer.status} {answer.code} ({node})"] += 1
        if answer.status not in NOT_NOW:
            self.wrong.append(f"{self.name} at {self.offset} was answered {answer.status}: {answer.body!r}")
        await asyncio.sleep(AGAIN_S)


class Sse(Live):
    """By server-sent events (PROTOCOL 5.8). Data counts once its control event has come."""

    async def _read(self, connection: Connection, node: str) -> None:
        target = f"{PREFIX}{self.path}?offset={self.offset}&live=sse"
        buffer = held = b""
        async with aclosing(connection.stream(target, limit=IDLE_LIMIT)) as pieces:
            async for piece in pieces:
                if piece.status != 200:
                    await self._refused(node, piece)
                    return
                *events, buffer = (buffer + piece.body).split(b"\n\n")
                for event in events:
                    name, _, data = event.partition(b"\n")
                    if name == b"event: data":
                        held += data.removeprefix(b"data:").replace(b"\ndata:", b"\n")
                    elif name == b"event: control":
                        told = json.loads(data.removeprefix(b"data:"))
                        closed = "streamClosed" in told
                        if held or closed:
                            self._saw(self._op(node), held, told["streamNextOffset"], closed=closed)
                        held = b""
        if buffer or held:
            raise BrokenError("a response that ended within an event")


class LongPoll(Live):
    """By long-polling (PROTOCOL 5.7)."""

    async def _read(self, connection: Connection, node: str) -> None:
        while not self.closed:
            target = f"{PREFIX}{self.path}?offset={self.offset}&live=long-poll"
            answer = await connection.request("GET", target, limit=IDLE_LIMIT)
            if answer.status not in {200, 204}:
                await self._refused(node, answer)
                return
            closed = b"stream-closed" in answer.headers
            if answer.body or closed:
                self._saw(self._op(node), answer.body, answer.offset, closed=closed)
            if connection.told_to_close:
                return


class Looker:
    """Asks one node, again and again, for a stream's tail or for what is behind the tail that it saw last."""

    def __init__(self, name: str, home: int, paths: Sequence[str], seed: str, shared: tuple[Balancer, Pulse]) -> None:
        self.name = name
        self.node = shared[0].nodes[home]
        self.pulse = shared[1]
        self.wrong: list[str] = []
        self._tails = dict.fromkeys(paths, START)
        self._random = random.Random(f"{seed}/{name}")
        self._connection = Connection(self.node.host, self.node.ports["http"])

    async def run(self, stopped: asyncio.Event) -> None:
        try:
            while not stopped.is_set() and not self.wrong:
                await self.look(self._random.choice(list(self._tails)), only_tail=self._random.random() < 0.5)
                await asyncio.sleep(LOOK_S)
        finally:
            self._connection.close()

    async def read_all(self, path: str) -> None:
        """The whole stream as this node has it."""
        self._tails[path] = START
        while await self.look(path, only_tail=False):
            pass

    async def look(self, path: str, *, only_tail: bool) -> bool:
        """Ask once; whether there is more to ask for."""
        sent, start = self.pulse.now(), self._tails[path]
        method, target = ("HEAD", PREFIX + path) if only_tail else ("GET", f"{PREFIX}{path}?offset={start}")
        op = Op(kind="read", path=path, client=self.name, node=self.node.name, sent=sent, start=start)
        try:
            answer = await self._connection.request(method, target, limit=READ_LIMIT)
        except NotSentError:
            await asyncio.sleep(AGAIN_S)
            return True
        except BrokenError as error:
            self.pulse.failed[f"read: {error} ({self.node.name})"] += 1
            return True
        op.answered = self.pulse.now()
        self.pulse.recorder.add(op)
        if answer.status != 200:
            self.pulse.failed[f"read: {answer.status} {answer.code} ({self.node.name})"] += 1
            op.outcome, op.why = "refused", "not now" if answer.status in NOT_NOW else "other"
            if answer.status not in NOT_NOW:
                self.wrong.append(f"{self.name}: {method} {target} was answered {answer.status}: {answer.body!r}")
            return answer.status in NOT_NOW
        op.outcome, op.next, op.body = "acked", answer.offset, answer.body.decode()
        op.closed = b"stream-closed" in answer.headers
        op.up_to_date = only_tail or answer.up_to_date
        if only_tail:
            op.start = op.next
        else:
            self._tails[path] = answer.offset
        return not op.up_to_date
