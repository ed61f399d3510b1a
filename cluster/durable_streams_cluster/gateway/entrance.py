"""Requests that another server hands on: an ASGI application that is there before its node, and after it.

Programs mount it when they are imported, and whatever is asked for at any time is answered: 503 before the start and
after the end. Each request is a task of its own, for the server's is not ours to cancel: it may be a test's, or have
others beside it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown, ShuttingDown, Unavailable
from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.gateway import status
from durable_streams_cluster.gateway.app import lifespan, respond
from durable_streams_cluster.gateway.status import Response
from durable_streams_cluster.limits import Limits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NOT_STARTED = "the node of this program is not running; nothing was stored"
CUT_OFF = "this node ended, or failed, before the outcome was known; it may or may not be stored"


class Entrance:
    """One for the life of the program; the nodes behind it come and go. See ``serving.Front``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._app: App | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refusal: ClusterError | None = Unavailable(NOT_STARTED)
        """Why nobody is let in; None while they are."""
        self._inside: dict[asyncio.Task[None], _Exchange] = {}
        self._left = asyncio.Event()
        self.unsent_bytes = 0
        """What requests are about to send and the server does not take, for its clients do not."""

    def attach(self, app: App) -> None:
        """What answers from the next start on."""
        self._app = app

    async def start(self) -> None:
        """Let requests in, those of this event loop."""
        self._loop, self._left = asyncio.get_running_loop(), asyncio.Event()
        self._refusal = None

    def refuse(self, why: ClusterError) -> None:
        """Let nobody in any more; those inside go on."""
        self._refusal = why

    async def drain(self, timeout_s: float) -> bool:
        """Let nobody in, and wait for those inside. False when the time was up and the rest was cut off."""
        self.refuse(ShuttingDown("this node is shutting down; nothing was stored"))
        clean = True
        try:
            async with asyncio.timeout(timeout_s):
                while self._inside:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            clean = False
        await self.cut()
        return clean

    async def stop(self) -> None:
        """Cut off those inside; from now on it is as it was before the start."""
        await self.drain(0)
        self._app, self._loop, self._refusal = None, None, Unavailable(NOT_STARTED)

    async def cut(self) -> None:
        """End the requests inside: each is told what can be said of it, if its answer has not begun."""
        for task, exchange in self._inside.items():
            exchange.is_cut = True
            task.cancel()
        if self._inside:
            await asyncio.wait(tuple(self._inside))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal
        if refusal is None and asyncio.get_running_loop() is not self._loop:
            refusal = Unavailable("the node of this program runs in another event loop; nothing was stored")
        if refusal is not None:
            await respond(send, status.refused(refusal), head=scope["method"] == "HEAD")
            return
        assert self._app is not None
        exchange = _Exchange(self, send, self._limits.write_timeout_s)
        task = asyncio.ensure_future(self._run(self._app, _with_raw_path(scope), receive, exchange))
        self._inside[task] = exchange
        try:
            await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not exchange.is_cut or (current is not None and current.cancelling()):
                raise
            if not exchange.started:
                await respond(send, _cut_off(scope, self._limits), head=scope["method"] == "HEAD")
        finally:
            del self._inside[task]
            self._left.set()

    async def _run(self, app: App, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        with contextlib.suppress(_TooSlow):  # Its answer has no end, so the server closes the connection.
            await app(scope, receive, exchange.send)


class _TooSlow(Exception):
    """The client has taken nothing for too long."""


class _Exchange:
    """A request that is inside."""

    def __init__(self, entrance: Entrance, send: Send, timeout_s: float) -> None:
        self._entrance = entrance
        self._send = send
        self._timeout_s = timeout_s
        self.started = False
        """Its answer has begun."""
        self.is_cut = False
        """The entrance has ended it."""

    async def send(self, message: Message) -> None:
        """To the server, which waits for its client; not for ever, and what waits is counted."""
        if message["type"] == "http.response.start":
            self.started = True
            await self._send(message)
            return
        size = len(message.get("body", b""))
        self._entrance.unsent_bytes += size
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(message)
        except TimeoutError:
            raise _TooSlow from None
        finally:
            self._entrance.unsent_bytes -= size


def _with_raw_path(scope: Scope) -> Scope:
    """The scope with a ``raw_path`` that says what ``path`` says.

    Servers may leave it out, and what stands before this application may have cut or changed ``path`` alone.
    """
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and unquote(raw.decode("latin-1")).endswith(path):
        return scope
    return {**scope, "raw_path": quote(path, errors="surrogatepass").encode()}


def _cut_off(scope: Scope, limits: Limits) -> Response:
    """What is told to one whose request was ended: of a write, that nobody knows."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return status.refused(Unavailable("this node ended, or failed, before it had an answer"))
    try:
        producer = h.producer(h.index(scope["headers"]), limits)
    except BadRequest:
        producer = None
    plain = scope["method"] == "POST" and producer is None
    return status.refused(OutcomeUnknown(CUT_OFF), producer, plain_append=plain)
