"""A small HTTP/1.1 client on raw connections. It never sends anything twice, and tells what was not sent from what may
have arrived: that decides what became of a request that got no answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple


class NotSentError(Exception):
    """No connection was made: the request did not leave."""


class BrokenError(Exception):
    """The connection ended, or the time was up, before a whole answer."""


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def offset(self) -> str:
        return self.headers.get(b"stream-next-offset", b"").decode()

    @property
    def up_to_date(self) -> bool:
        return b"stream-up-to-date" in self.headers

    @property
    def code(self) -> str:
        """The machine-readable code of an error."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


class _Link(asyncio.Protocol):
    """One connection: what came and was not used yet, and somebody who waits for more."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False
        self.transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._wake()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def more(self, until: float) -> None:
        """Wait for more bytes. Raises BrokenError when none can come, or ``until`` (of the loop's clock) has passed."""
        if self.ended:
            raise BrokenError("the connection ended")
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_at(until, _expire, self._waiter)
        try:
            await self._waiter
        except TimeoutError:
            raise BrokenError("no answer in time") from None
        finally:
            timer.cancel()

    async def until(self, mark: bytes, until: float) -> bytes:
        """Everything up to and with ``mark``."""
        seen = 0
        while (at := self.buffer.find(mark, seen)) < 0:
            seen = max(0, len(self.buffer) - len(mark))
            await self.more(until)
        return self.take(at + len(mark))

    async def exactly(self, size: int, until: float) -> bytes:
        while len(self.buffer) < size:
            await self.more(until)
        return self.take(size)

    def take(self, size: int) -> bytes:
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class Connection:
    """One keep-alive connection, opened again when it has ended. Requests go one after another."""

    CONNECT_S = 1.0

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._host = f"{host}:{port}".encode()
        self._link: _Link | None = None
        self.told_to_close = False
        """The last answer said that the connection ends: the node drains."""

    async def request(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, limit: float
    ) -> Answer:
        """Send one request and get its whole answer, within ``limit`` seconds. Raises NotSentError, BrokenError."""
        until = asyncio.get_running_loop().time() + limit
        link = await self._send(method, target, headers or {}, body)
        try:
            status, told = await self._head(link, until)
            content = b"".join([part async for part in self._body(link, method, status, told, until)])
        except BaseException:
            self.close()
            raise
        self.told_to_close = told.get(b"connection", b"").lower() == b"close"
        if self.told_to_close:
            self.close()
        return Answer(status, told, content)

    async def stream(self, target: str, *, limit: float) -> AsyncIterator[Answer]:
        """Send a GET; its head, then each piece of its body as it comes. ``limit``: seconds between two pieces.

        Raises NotSentError; BrokenError when it ends without its proper end.
        """
        loop = asyncio.get_running_loop()
        link = await self._send("GET", target, {}, b"")
        try:
            status, told = await self._head(link, loop.time() + limit)
            yield Answer(status, told, b"")
            async for part in self._body(link, "GET", status, told, None, limit):
                yield Answer(status, told, part)
        finally:
            self.close()

    async def _send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> _Link:
        link = self._link
        if link is None or link.ended:
            self.close()
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self.CONNECT_S):
                    _, link = await loop.create_connection(_Link, *self._address)
            except (OSError, TimeoutError) as error:
                raise NotSentError(str(error)) from error
            self._link = link
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if method in {"POST", "PUT"}:
            lines.append(f"content-length: {len(body)}")
        assert link.transport is not None
        link.transport.write("\r\n".join(lines).encode() + b"\r\nhost: " + self._host + b"\r\n\r\n" + body)
        return link

    async def _head(self, link: _Link, until: float) -> tuple[int, dict[bytes, bytes]]:
        head = (await link.until(b"\r\n\r\n", until)).split(b"\r\n")
        told = {}
        for line in head[1:-2]:
            name, _, value = line.partition(b":")
            told[name.lower()] = value.strip()
        return int(head[0][9:12]), told

    async def _body(
        self, link: _Link, method: str, status: int, told: dict[bytes, bytes], until: float | None, idle: float = 0.0
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        if method == "HEAD" or status in {204, 304}:
            return
        if told.get(b"transfer-encoding") == b"chunked":
            while True:
                line = await link.until(b"\r\n", until or loop.time() + idle)
                size = int(line, 16)
                part = await link.exactly(size + 2, until or loop.time() + idle)
                if not size:
                    return
                yield part[:-2]
        elif b"content-length" in told:
            yield await link.exactly(int(told[b"content-length"]), until or loop.time() + idle)
        else:
            raise BrokenError(f"an answer without a length: {told}")

    def close(self) -> None:
        if self._link is not None and self._link.transport is not None:
            self._link.transport.close()
        self._link = None
