"""Clients that append: producers, who ask again until they know, and plain ones, who never send anything twice."""

import asyncio
import random
from collections.abc import Mapping, Sequence

from tests.history.records import Op, line
from tests.system.chaos.client import Answer, BrokenError, Connection, NotSentError
from tests.system.chaos.cluster import Node
from tests.system.chaos.pulse import Pulse

PREFIX = "/v1/stream/"
KIND = "text/plain"
PRODUCER_LIMIT = 3.0
"""Seconds a producer waits for an answer before it asks another node."""
PLAIN_LIMIT = 25.0
"""A plain append is answered within 15 s by a node that lives: whatever it says then is what became of it."""
AVOID_S = 0.5
AGAIN_S = 0.02
"""Between two attempts, where nobody took the first."""
REFUSED = {429, 503, 507}


class Balancer:
    """Sends each client to its own node while that seems well, else to the next: as a load balancer does."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self._avoid_until = [0.0] * len(nodes)

    def choose(self, home: int) -> int:
        now = asyncio.get_running_loop().time()
        order = [(home + step) % len(self.nodes) for step in range(len(self.nodes))]
        return next((each for each in order if self._avoid_until[each] <= now), home)

    def avoid(self, number: int, seconds: float = AVOID_S) -> None:
        """It refused a connection, fell silent, or said that it drains."""
        self._avoid_until[number] = asyncio.get_running_loop().time() + seconds


class Connections:
    """One connection of one client to each node."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._all = [Connection(node.host, node.ports["http"]) for node in nodes]

    def __getitem__(self, number: int) -> Connection:
        return self._all[number]

    def close(self) -> None:
        for each in self._all:
            each.close()


class Writer:
    """What both kinds have."""

    def __init__(self, name: str, home: int, paths: Sequence[str], seed: str, shared: tuple[Balancer, Pulse]) -> None:
        self.name = name
        self.home = home
        self.paths = paths
        self.balancer, self.pulse = shared
        self.connections = Connections(self.balancer.nodes)
        self.wrong: list[str] = []
        self._random = random.Random(f"{seed}/{name}")
        self._count = 0

    async def run(self, stopped: asyncio.Event) -> None:
        try:
            while not stopped.is_set() and not self.wrong:
                await self._append()
        finally:
            self.connections.close()

    async def _append(self) -> None:
        raise NotImplementedError

    def _begin(self, path: str, producer: tuple[str, int, int] | None = None) -> Op:
        self._count += 1
        body = line(f"{self.name}-{self._count}")
        op = Op(kind="append", path=path, client=self.name, sent=self.pulse.now(), body=body, producer=producer)
        return self.pulse.recorder.add(op)

    async def _post(self, op: Op, node: int, headers: Mapping[str, str], limit: float) -> Answer:
        connection = self.connections[node]
        op.node = op.node or self.balancer.nodes[node].name
        self.pulse.in_flight += 1
        try:
            told = {"content-type": KIND, **headers}
            answer = await connection.request("POST", PREFIX + op.path, told, op.body.encode(), limit=limit)
        except NotSentError:
            self.balancer.avoid(node)
            raise
        except BrokenError as error:
            self.balancer.avoid(node)
            self.pulse.failed[f"{error} ({self.balancer.nodes[node].name})"] += 1
            raise
        finally:
            self.pulse.in_flight -= 1
        if connection.told_to_close:
            self.balancer.avoid(node)
        if answer.status >= 300:
            self.pulse.failed[f"{answer.status} {answer.code} ({self.balancer.nodes[node].name})"] += 1
        return answer

    def _acked(self, op: Op, answer: Answer, *, duplicate: bool = False) -> None:
        op.outcome, op.next, op.duplicate = "acked", answer.offset, duplicate
        op.answered = self.pulse.now()
        self.pulse.ack(op.sent)


class Producer(Writer):
    """An idempotent producer to one stream. What it has sent it sends again, to whatever node, until it knows."""

    async def _append(self) -> None:
        path = self.paths[hash_of(self.name) % len(self.paths)]
        op = self._begin(path, (self.name, 0, self._count))
        headers = {"producer-id": self.name, "producer-epoch": "0", "producer-seq": str(self._count - 1)}
        op.producer = (self.name, 0, self._count - 1)
        op.attempts = 0
        while True:
            node = self.balancer.choose(self.home)
            try:
                op.attempts += 1
                answer = await self._post(op, node, headers, PRODUCER_LIMIT)
            except NotSentError:
                op.attempts -= 1
                await asyncio.sleep(AGAIN_S)
                continue
            except BrokenError:
                continue
            if answer.status in {200, 204}:
                self._acked(op, answer, duplicate=answer.status == 204)
                return
            if answer.status not in REFUSED and answer.status != 504:
                self.wrong.append(f"batch {op.producer} was answered {answer.status}: {answer.body!r}")
                return
            self.balancer.avoid(node, 0.1)
            await asyncio.sleep(AGAIN_S)


class Plain(Writer):
    """Appends without a producer, to all streams; each is sent once, whatever comes of it."""

    async def _append(self) -> None:
        op = self._begin(self._random.choice(self.paths))
        node = self.balancer.choose(self.home)
        try:
            answer = await self._post(op, node, {}, PLAIN_LIMIT)
        except NotSentError:
            self._refused(op)
            await asyncio.sleep(AGAIN_S)
            return
        except BrokenError:
            return
        if answer.status == 204:
            self._acked(op, answer)
        elif answer.status in REFUSED:
            self._refused(op)
            self.balancer.avoid(node, 0.1)
            await asyncio.sleep(AGAIN_S)
        elif answer.status != 409 or answer.code != "outcome_unknown":
            self.wrong.append(f"{op.body!r} was answered {answer.status}: {answer.body!r}")

    def _refused(self, op: Op) -> None:
        op.outcome, op.why, op.answered = "refused", "not now", self.pulse.now()


def hash_of(name: str) -> int:
    """The number in a name."""
    return int(name.strip("abcdefghijklmnopqrstuvwxyz") or 0)
