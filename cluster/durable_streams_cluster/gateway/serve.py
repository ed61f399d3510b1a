"""Binds an ASGI application to the HTTP server; the only module that knows that it is uvicorn, with httptools.

uvicorn's ``Server`` is not used: it installs signal handlers, polls ten times a second, and exits the process when it
cannot bind. Its protocol is, bounded by ``connection``.

What the application may rely on: the head of a response leaves with the first piece of its body (send an empty one to
let it go alone); ``await send()`` waits while the client does not take what was sent before; after a client left,
``send`` does nothing and ``receive`` answers ``http.disconnect``; an early answer (a 413 say) reaches the client
although it is still sending, unless it carries ``connection: close``.
"""

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, cast

import uvicorn

from durable_streams_cluster.clock import Clock, SystemClock
from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.gateway.accept import Acceptor
from durable_streams_cluster.gateway.connection import Connection
from durable_streams_cluster.gateway.shared import SharedState
from durable_streams_cluster.limits import Limits

App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application, whatever names it gives to scope, receive and send."""

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""
LAST_CALL_S = 0.5
"""At the end, idle connections stay so long: their clients know nothing yet, and busy ones learn it with their
next answer. Whoever closes at once resets requests that are under way, and nobody knows then what became of them."""
SWEEP_S = 1.0
SWEEP_BATCH = 1000
"""Connections looked at before the loop gets its turn: half a millisecond."""


class HttpServer:
    """One listener. ``start``, then ``drain``; ``clock`` drives every timeout (a test passes its own and sweeps)."""

    def __init__(
        self,
        app: App,
        host: str,
        port: int,
        limits: Limits,
        *,
        name: str = "http",
        clock: Clock | None = None,
        shares_port: bool = False,
    ) -> None:
        """``shares_port``: other processes listen at the same address, and each takes some of the connections."""
        self.host = host
        self.port = port
        """The port asked for; after :meth:`start`, the real one."""
        self.name = name
        self._config = uvicorn.Config(
            cast("Any", app),
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # Not used; given, so that uvicorn does not look for them in the environment.
            workers=1,
            forwarded_allow_ips=[],
        )
        self._config.load()
        self.state = SharedState(limits, clock or SystemClock())
        """What its connections share."""
        self._shares_port = shares_port
        self._acceptors: list[Acceptor] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Connections open now, refused ones not counted."""
        return len(self.state.connections)

    @property
    def unsent_bytes(self) -> int:
        """Bytes of responses that connections hold because their clients have not taken them."""
        return self.state.unsent_bytes

    @property
    def requests(self) -> int:
        """Responses completed since the start."""
        return self.state.total_requests

    @property
    def refused(self) -> "Counter[str]":
        """Connections ended for a bound, by reason: a status, ``idle``, ``slow_reader`` or ``drain``."""
        return self.state.refused

    async def start(self) -> None:
        """Bind and accept. Raises ConfigError when the address cannot be had."""
        sockets = await self._bind()
        self.port = sockets[0].getsockname()[1]
        self._tick()
        self._acceptors = [Acceptor(self.name, listener, self._protocol) for listener in sockets]
        for acceptor in self._acceptors:
            acceptor.start()

    async def drain(self, timeout_s: float) -> bool:
        """Stop accepting, let what is in flight finish, close. False when the time was up and the rest was cut off.

        From now on every answer says that its connection ends. Idle connections close after ``LAST_CALL_S``: a request
        that is under way to one gets its answer. Live reads are in flight until the application ends them.
        """
        state = self.state
        state.draining = True
        for acceptor in self._acceptors:
            await acceptor.close()
        for connection in list(state.connections):
            cast("Connection", connection).last_call()
        clean = await self._settle(timeout_s)
        for each in [*state.connections, *state.lingering]:
            cast("Connection", each).cut("drain")
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return clean

    async def stop(self) -> None:
        """Close now, whatever is in flight."""
        await self.drain(0)

    def sweep(self) -> None:
        """Enforce what depends on time, now. Runs by itself once a second."""
        state = self.state
        state.now_ms = state.clock.steady_ms()
        if self._config.date_header:
            date = formatdate(state.clock.wall_ms() / 1000, usegmt=True)
            state.date_line = b"date: %s\r\n" % date.encode("ascii")
        self._sweep_some([*state.connections, *state.lingering], 0)

    async def _bind(self) -> list[socket.socket]:
        return await _bind(self.name, self.host, self.port, self.state.limits, shares_port=self._shares_port)

    async def _settle(self, timeout_s: float) -> bool:
        state = self.state
        try:
            async with asyncio.timeout(timeout_s):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._all_gone(), LAST_CALL_S)
                for connection in list(state.connections):
                    cast("Connection", connection).shutdown()
                await self._all_gone()
                while state.tasks:  # a request whose client left, still being answered
                    await asyncio.wait(state.tasks)
        except TimeoutError:
            return False
        return True

    async def _all_gone(self) -> None:
        state = self.state
        while state.connections:
            state.last_gone.clear()
            await state.last_gone.wait()

    def _protocol(self) -> "Connection":
        return Connection(self._config, self.state)

    def _tick(self) -> None:
        self.sweep()
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def _sweep_some(self, connections: list[Any], start: int) -> None:
        for connection in connections[start : start + SWEEP_BATCH]:
            connection.check(self.state.now_ms)
        if start + SWEEP_BATCH < len(connections):
            asyncio.get_running_loop().call_soon(self._sweep_some, connections, start + SWEEP_BATCH)


async def _bind(name: str, host: str, port: int, limits: Limits, *, shares_port: bool) -> list[socket.socket]:
    """Open a listening socket per address that ``host`` stands for (localhost is often two), on one port."""
    sockets: list[socket.socket] = []
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # IPv4 first, so that port 0 is picked there and then tried for the others.
        for family, _, _, _, address in sorted(set(found), key=lambda info: info[0]):
            try:
                listener = _listen(family, (address[0], port, *address[2:]), limits, shares_port=shares_port)
            except OSError as error:
                if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # localhost is also ::1 in /etc/hosts of machines without IPv6.
                raise
            sockets.append(listener)
            port = listener.getsockname()[1]
    except OSError as error:
        for listener in sockets:
            listener.close()
        reason = "the address is in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
        raise ConfigError(f"{name}: cannot listen on {shown}: {reason}") from error
    return sockets


def _listen(family: int, address: tuple[Any, ...], limits: Limits, *, shares_port: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Inherited by what it accepts: the kernel ends a connection whose peer acknowledges nothing any more.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.write_timeout_s * 1000))
        # Inherited, too. It bounds what waits, not what is under way, and so costs no throughput (measured: 3 GB/s).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, limits.kernel_unsent_bytes)
        if family == socket.AF_INET6:
            # The wildcard takes IPv4 as well, as people expect of [::]; other addresses are what they say.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
        listener.setblocking(False)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
