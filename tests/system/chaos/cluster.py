"""Three or five nodes as processes of their own, and what can be done to each."""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.server import LISTENERS, LOOPBACK, Process, Server
from tests.system.chaos.client import BrokenError, Connection, NotSentError

STATE = re.compile(rb"\]leader: (\S+) in term (\d+), led by (\S+)")
START_LIMIT = 60.0


class Node(Server):
    """One node; ``prefix`` are words before its command, ``extra`` what its environment has beside."""

    def __init__(self, folder: Path, name: str, host: str = LOOPBACK, prefix: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self.name = name
        self.host = host
        self.prefix = tuple(prefix)
        self.extra: dict[str, str] = {}
        self.members = ""
        self.join = ""
        """Peer listeners of a cluster that it joins, in place of beginning one with ``members``."""
        self.paused = False
        self.wanted = False
        """Whether it should run: it was started, and nothing here ended it since."""
        self.module = ("durable_streams_client.cli",)
        """What is run: a module, and words before ``serve``."""
        self.data = folder / "data"

    def command(self) -> list[str]:
        words = super().command()
        python = words[0]
        addresses = [word for name in LISTENERS for word in (f"--{name}", f"{self.host}:{self.ports[name]}")]
        outside = [] if self.host == LOOPBACK else ["--allow-unauthenticated"]
        others = ["--join", self.join] if self.join else ["--initial-cluster", self.members] if self.members else []
        return [
            *(*self.prefix, python, "-m", *self.module, "serve", "--data-dir", str(self.data), *addresses),
            *("--node", self.name, *others, *outside),
        ]

    def environment(self) -> dict[str, str]:
        return super().environment() | self.extra

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def launch(self, *, typed_to: bool = False) -> Process:
        self.wanted = True
        return super().launch(typed_to=typed_to)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self.wanted = False
        os.kill(self.process.pid, number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.signal(signal.SIGCONT)
            self.paused = False


class Cluster:
    """The nodes, who leads them, and every change of that."""

    def __init__(self, nodes: Sequence[Node], now: Callable[[], float]) -> None:
        self.nodes = list(nodes)
        """Those that belong; faults may change it."""
        self._now = now
        members = ",".join(f"{node.name}={node.host}:{node.ports['peer']}" for node in nodes)
        for node in nodes:
            node.members = members if len(nodes) > 1 else ""
        self.terms: dict[int, str] = {}
        """Every term that had a leader, as far as was seen, and who it was."""
        self.changes: list[tuple[float, int, str]] = []
        """When which term was first seen led by whom."""

    def named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    async def start(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(node.start, START_LIMIT) for node in self.nodes))

    async def restart(self, *nodes: Node) -> None:
        """Start those that do not run, all at once; returns when each shows everything that was committed before."""
        await asyncio.gather(*(asyncio.to_thread(node.start, START_LIMIT) for node in nodes if not node.running))

    def end(self) -> None:
        """However a run ended, no process stays behind."""
        for node in self.nodes:
            if node.running:
                node.resume()
                node.kill()

    async def agree(self, limit: float = 30.0) -> None:
        """Return once every node follows the same leader in the same term: those that were away are back."""
        deadline = asyncio.get_running_loop().time() + limit
        while True:
            states = await asyncio.gather(*(self._state(node) for node in self.nodes))
            if len({(term, leader) for _, term, leader in states}) == 1 and states[0][2] not in {"", "nobody"}:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not all nodes follow one leader: {states}")
            await asyncio.sleep(0.05)

    async def leader(self, limit: float = 20.0) -> Node:
        """The node that says that it leads in the newest term of all that answer."""
        deadline = asyncio.get_running_loop().time() + limit
        while True:
            states = await asyncio.gather(*(self._state(node) for node in self.nodes))
            known = [(term, node) for node, (role, term, _) in zip(self.nodes, states, strict=True) if role == "leader"]
            if known and (newest := max(known, key=lambda each: each[0]))[0] == max(term for _, term, _ in states):
                return newest[1]
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"nobody leads: {states}")
            await asyncio.sleep(0.02)

    async def follower(self, among: Callable[[list[Node]], Node]) -> Node:
        """One that does not lead."""
        leader = await self.leader()
        return among([node for node in self.nodes if node is not leader])

    async def watch(self, stopped: asyncio.Event) -> None:
        """Note who leads, five times a second."""
        while not stopped.is_set():
            await asyncio.gather(*(self._state(node) for node in self.nodes))
            await asyncio.sleep(0.2)

    def changed_since(self, when: float) -> int:
        """Changes of leader that were seen since."""
        return sum(seen > when for seen, _, _ in self.changes)

    async def _state(self, node: Node) -> tuple[str, int, str]:
        if not node.running or node.paused:
            return "down", 0, ""
        connection = Connection(node.host, node.ports["ops"])
        try:
            answer = await connection.request("GET", "/readyz?verbose", limit=1.0)
        except (NotSentError, BrokenError):
            return "silent", 0, ""
        finally:
            connection.close()
        found = STATE.search(answer.body)
        if found is None:
            return "unclear", 0, ""
        role, term, leader = found[1].decode(), int(found[2]), found[3].decode()
        if leader != "nobody" and term not in self.terms:
            self.terms[term] = leader
            self.changes.append((self._now(), term, leader))
        return role, term, leader
