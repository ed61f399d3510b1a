"""A socket, a clock and a node for ``wire``: nothing here asks the system for anything, and nothing waits."""

import asyncio
import atexit
import logging
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import cache
from typing import Any

from durable_streams_cluster.gateway.connection import Connection
from durable_streams_cluster.gateway.serve import HttpServer
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.streams.commands import Append, Create, Fork
from tests.runtime.world import JumpingLoop, StallingKv, _Jumping, started

LIMITS = replace(
    Limits(),
    max_connections=10,
    max_header_bytes=1024,
    max_target_bytes=256,
    max_path_bytes=64,
    max_append_bytes=512,
    max_read_bytes=256,
    header_timeout_s=3.0,
    body_timeout_s=3.0,
    idle_timeout_s=4.0,
    long_poll_timeout_s=2.0,
    sse_lifetime_s=2.0,
    sse_keepalive_s=1.0,
    write_timeout_s=3.0,
)


class Wire(asyncio.Transport):
    """The server's side of a socket. What is written is kept; ``stalls`` makes a client that does not read at times."""

    def __init__(self, protocol: Connection, stalls: bool) -> None:
        super().__init__({"peername": ("10.0.0.1", 1234), "sockname": ("10.0.0.2", 80)})
        self.protocol = protocol
        self.sent = bytearray()
        self.closing = self.ended = self.lost = False
        self.paused = False
        self.stalls = stalls
        self.unsent = 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Stalls come when they come."""

    def write(self, data: Any) -> None:
        assert not self.ended, "a write after the end of what is sent raises in production"
        if self.closing:
            return
        self.sent += data
        if self.stalls:
            self.unsent += len(data)
            self.protocol.pause_writing()

    def take(self) -> None:
        """The client reads."""
        if self.unsent and not self.lost:
            self.unsent = 0
            self.protocol.resume_writing()

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        # Like a real one: what is not sent yet is waited for, and only an abort drops it.
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        self.close()

    def lose(self, error: Exception | None) -> None:
        self.closing = True
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)


class Errors(logging.Handler):
    """What the server logs as an error is a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


class _NoSelector(_Jumping):
    """Asks the system for nothing: a simulated client has no descriptor."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits and no timer runs: a deadlock"
        self.now_s += max(0.0, timeout)
        return []


class Loop(JumpingLoop):
    """An event loop with simulated time that makes no system call."""

    def __init__(self) -> None:
        self.jumping = _NoSelector()
        asyncio.SelectorEventLoop.__init__(self, self.jumping)


async def settle() -> None:
    """Let everything happen that needs no time to pass: time moves when nothing else does."""
    await asyncio.sleep(1e-6)


class Server:
    """What lasts from input to input: an event loop, uvicorn's configuration, the log; and a store to copy."""

    def __init__(self) -> None:
        self.loop = Loop()
        atexit.register(self.loop.close)
        self.app: Any = None
        self.errors = Errors()
        for name in ("durable_streams_cluster", "uvicorn", "asyncio"):
            logging.getLogger(name).addHandler(self.errors)
        self.config = HttpServer(self._serve, "127.0.0.1", 0, LIMITS)._config
        self.loop.set_exception_handler(lambda _, context: self.errors.found.append(str(context)))
        self.kv = self.run(prepared)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run from time 0 on, and see that nothing is left to run."""
        self.loop.jumping.now_s = 0.0
        self.errors.found.clear()
        asyncio.set_event_loop(self.loop)
        result = self.loop.run_until_complete(main())
        left = asyncio.all_tasks(self.loop)
        assert not left, f"tasks are left: {left}"
        timers = [timer for timer in self.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert not timers, f"timers are left: {timers}"
        assert not self.errors.found, self.errors.found[0]
        return result


async def prepared() -> StallingKv:
    """A store with a stream of each kind: /t text, /j JSON, /b bytes, /c closed, /f a fork, /e empty with a TTL."""
    world = await started(limits=LIMITS)
    kinds = {"t": "text/plain", "j": "application/json", "b": "application/octet-stream", "c": "text/plain"}
    for path, kind in kinds.items():
        await world.streams.create(Create(path, kind, None, None, False, b"", None))
        await world.streams.append(Append(path, kind, b'"a","b"', path == "c", None, None))
        await world.streams.append(Append(path, kind, b"1", False, None, None))
    await world.streams.create(Create("f", None, None, None, False, b"", Fork("j", None, 0)))
    await world.streams.create(Create("e", "text/plain", 3600, None, False, b"", None))
    return world.kv


def copied(kv: StallingKv) -> StallingKv:
    """The same store again. Blocks are replaced, not changed, once a scan may have seen them."""
    copy = StallingKv()
    for table, mine in zip(kv._tables, copy._tables, strict=True):
        table.age += 1
        mine.age, mine.blocks, mine.lasts = table.age, list(table.blocks), list(table.lasts)
    copy._writes = kv._writes
    return copy


@cache
def server() -> Server:
    return Server()


class Asked:
    """An application that notes the requests it is given, in front of another one."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests: list[list[Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        seen: list[Any] = [scope["method"], scope["raw_path"], scope["query_string"], b"", False]
        self.requests.append(seen)

        async def noted() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                seen[3] += message["body"]
                seen[4] |= not message["more_body"]
            return message

        await self.app(scope, noted, send)
