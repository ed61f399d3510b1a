"""The node processes of a local cluster: started, watched, started again, and ended with this one.

Each child's standard input is a pipe that nobody writes to. It ends with this process, however that ends, and the child
sees it (``cli_child``): no node is left behind, not even by ``kill -9``. Children are sessions of their own, so that
ctrl-C in the terminal reaches this process alone, which ends them.
"""

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence

from durable_streams_cluster.local import probe
from durable_streams_cluster.local.plan import LocalNode, Plan
from durable_streams_cluster.local.screen import Screen

STOP_S = 20.0
"""How long a node may drain. It gives itself ten seconds for requests, and two or three for the disk and its peers."""
PROBE_S = 0.5
"""How often the nodes are asked who leads."""
MAX_LINE = 64 * 1024
"""A longer line of a node's log is shown in pieces."""


class Child:
    """One node, and the process that it is or was."""

    def __init__(self, node: LocalNode) -> None:
        self.node = node
        self.process: Process | None = None
        self.ready = False
        self.again = False
        """It was ready before: this is not its first start."""
        self.code: int | None = None
        """What its last process ended with; negative: minus the signal."""

    @property
    def running(self) -> bool:
        """Whether a process was started and its end was not yet seen."""
        return self.process is not None

    @property
    def pid(self) -> int:
        """The process's id; 0 without one."""
        return self.process.pid if self.process is not None else 0


class Children:
    """All nodes of a plan. Everything happens on one event loop."""

    def __init__(self, plan: Plan, command: Callable[[LocalNode], Sequence[str]], screen: Screen) -> None:
        """``command`` is the program and arguments that run a node."""
        self._plan = plan
        self._command = command
        self._screen = screen
        self._children = [Child(node) for node in plan.nodes]
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._stopping = False
        self._clean = True
        """No node had to be ended by force, nor failed in the end."""
        self.can_start = False
        """Whether somebody can ask for the start of a node that is down."""

    async def start_all(self) -> int | None:
        """Start every node and return when all are ready, with None; or with the exit code of one that ended before."""
        for child in self._children:
            await self._start(child)
        while not all(child.ready for child in self._children):
            ended = next((child.code for child in self._children if not child.running), None)
            if ended is not None:
                return ended
            await self._change()
        self._screen.ready(self._plan, self.pids(), await self._leader())
        return None

    async def watch(self) -> None:
        """Say who leads, whenever that changes; return when no node runs and none can be started."""
        led = await self._leader()
        while self.can_start or any(child.running for child in self._children):
            leader = await self._leader()
            if leader not in ("", led):
                self._screen.leads(leader)
                led = leader
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change(), PROBE_S)
        self._screen.nobody_left()

    async def start_those_down(self) -> None:
        """Start every node that has ended."""
        async with self._starting:  # Asked twice at once, none is started twice.
            down = [child for child in self._children if not child.running]
            if not down:
                self._screen.all_run()
            for child in down:
                await self._start(child)

    async def stop(self) -> bool:
        """Ask every node to drain and wait for it, in bounded time; then end those that did not.

        Returns:
            Whether all ended well.

        """
        self._stopping = True
        for child in self._children:
            self._signal(child, by_force=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while any(child.running for child in self._children):
                    await self._change()
        self.end_at_once()
        while self._tasks:
            await asyncio.wait(self._tasks)
        return self._clean

    def end_at_once(self) -> None:
        """Kill those that still run; what they acknowledged is on disk."""
        self._stopping = True
        left = [child for child in self._children if child.running]
        for child in left:
            self._screen.forced(child.node.name)
            self._signal(child, by_force=True)
        self._clean = self._clean and not left

    def pids(self) -> dict[str, int]:
        """Process ids by the names of the nodes that run."""
        return {child.node.name: child.pid for child in self._children if child.running}

    # ------------------------------------------------------------------------------------------------- one process

    async def _start(self, child: Child) -> None:
        if child.running or self._stopping:
            return
        child.process = await asyncio.create_subprocess_exec(
            *self._command(child.node), stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        child.code = None
        task = asyncio.ensure_future(self._attend(child, child.process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, child: Child, process: Process) -> None:
        """For the life of a process: what it prints, and its end."""
        if self._stopping:
            self._signal(child, by_force=False)  # It was being started when the others were asked to end.
        async with asyncio.TaskGroup() as reading:
            reading.create_task(self._until_ready(child, process))
            reading.create_task(self._log(child, process))
        code = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        child.process, child.ready, child.code = None, False, code
        if self._stopping:
            self._clean = self._clean and code <= 0
            self._screen.stopped(child.node.name, code)
        else:
            up = [each.node.name for each in self._children if each.running]
            self._screen.ended(self._plan, child.node, code, up, can_start=self.can_start)
        self._tell()

    async def _until_ready(self, child: Child, process: Process) -> None:
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            if line.startswith("ready ") and not child.ready:
                child.ready = True
                if child.again:
                    self._screen.back(child.node, process.pid)
                child.again = True
                self._tell()

    async def _log(self, child: Child, process: Process) -> None:
        assert process.stderr is not None
        async for line in _lines(process.stderr):
            self._screen.log(child.node.name, line)

    def _signal(self, child: Child, *, by_force: bool) -> None:
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError):
                if by_force:
                    child.process.kill()
                else:
                    child.process.terminate()

    # --------------------------------------------------------------------------------------------------------- news

    def _tell(self) -> None:
        self._changed.set()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _leader(self) -> str:
        return await probe.leader(child.node for child in self._children if child.ready) or ""


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Complete lines without their ends; what is longer than ``MAX_LINE`` in pieces."""
    rest = b""
    while piece := await stream.read(MAX_LINE):
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) >= MAX_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
