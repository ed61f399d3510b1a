"""Raw requests into an ASGI application, raw responses out: what the scripts of this folder speak."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import unquote

from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.gateway.fanout import offering

CLIENT = ("10.0.0.1", 1234)
ON_EVERY_RESPONSE = frozenset(h.COMMON)


class Exchange:
    """One request and what came back: messages as the application sent them."""

    def __init__(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: list[bytes]) -> None:
        self.method = method
        self.target, _, self.query = target.partition(b"?")
        self.headers = headers
        self._chunks = body
        self.status: int | None = None
        self.answered: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.ended = False
        self.offers = True
        """The server takes what is pushed."""
        self.pushed = 0
        """Pieces that were pushed, not sent."""
        self.full = self.fills = False
        """The client takes nothing, or nothing after the next piece: what is sent waits until ``take``."""
        self.stays_open = False
        """More of the body could come after what is there."""
        self._moved = asyncio.Event()
        self._taken = asyncio.Event()
        self._left = False
        self._task: asyncio.Task[None] | None = None

    def scope(self, root_path: str = "") -> dict[str, Any]:
        return {
            "type": "http",
            "method": self.method,
            "scheme": "http",
            "path": unquote(self.target.decode("latin-1"), errors="replace"),
            "raw_path": self.target,
            "root_path": root_path,
            "query_string": self.query,
            "headers": self.headers,
            "client": CLIENT,
            "extensions": offering(self._push) if self.offers else {},
        }

    def begin(self, app: Any, root_path: str = "") -> None:
        self._task = asyncio.ensure_future(app(self.scope(root_path), self._receive, self._send))

    async def finish(self) -> None:
        assert self._task is not None
        await self._task

    @property
    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def leave(self) -> None:
        """The client closes the connection."""
        self._left = True
        self._moved.set()

    def come(self, chunk: bytes) -> None:
        """More of the body arrives."""
        self._chunks.append(chunk)
        self._moved.set()

    def cut(self) -> None:
        """The server dies; an answer that was under way never comes."""
        if self._task is not None:
            self._task.cancel()

    async def _receive(self) -> dict[str, Any]:
        while not self._chunks and not self._left:
            self._moved.clear()
            await self._moved.wait()
        if self._chunks:
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks) or self.stays_open}
        return {"type": "http.disconnect"}

    def _push(self, body: bytes, chunk: bytes) -> bool:
        assert self.pieces, "what is pushed follows something that was sent"
        assert not self.ended, "nothing follows the end"
        assert chunk == b"%x\r\n%b\r\n" % (len(body), body)
        if self.full or self._left:
            return False
        self.pieces.append(body)
        self.pushed += 1
        self.full = self.fills
        return True

    def take(self) -> None:
        """The client takes what it is sent again."""
        self.full = False
        self._taken.set()

    async def _send(self, message: dict[str, Any]) -> None:
        while self.full:
            self._taken.clear()
            await self._taken.wait()
        if message["type"] == "http.response.start":
            assert self.status is None, "a response starts once"
            self.status, self.answered = message["status"], list(message["headers"])
            assert all(name == name.lower() for name, _ in self.answered)
            assert set(self.answered) >= ON_EVERY_RESPONSE, "CORS and security headers are on every response"
        else:
            assert self.status is not None, "a body follows a start"
            assert not self.ended, "nothing follows the end"
            self.pieces.append(message.get("body", b""))
            self.ended = not message.get("more_body", False)

    def header(self, name: bytes) -> bytes | None:
        return dict(self.answered).get(name)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def parse(text: str) -> Exchange:
    """A request as text: request line, headers, an empty line, body. ``\\xNN`` and the like are bytes; a line ``+++``
    divides the body into chunks.
    """
    head, _, body = text.partition("\n\n")
    first, *rest = head.split("\n")
    method, _, target = first.partition(" ")
    pairs = (line.partition(":") for line in rest)
    headers = [(raw(name).strip().lower(), raw(value).strip()) for name, _, value in pairs]
    headers.append((b"host", b"h"))
    return Exchange(method, raw(target), headers, [raw(chunk) for chunk in body.split("\n+++\n")])


def raw(text: str) -> bytes:
    return re.sub(rb"\\(x[0-9a-f]{2}|[rn0])", _byte, text.encode())


def _byte(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return {b"r": b"\r", b"n": b"\n", b"0": b"\0"}.get(code) or bytes([int(code[1:], 16)])


def shown(exchange: Exchange) -> str:
    """The response as text: status, headers, and the body's lines behind ``> ``; an error in one line.

    What is on every response, and what must be on every error, is checked and left out.
    """
    length = exchange.header(b"content-length")
    taken = {*ON_EVERY_RESPONSE}
    if length is not None and exchange.method != "HEAD":
        assert int(length) == len(exchange.body), "the length is the body's"
        taken.add((b"content-length", length))
    first, lines = str(exchange.status), _lines(exchange.body)
    if exchange.status is not None and exchange.status >= 400:
        assert {(b"content-type", b"application/json"), (b"cache-control", b"no-store")} <= set(exchange.answered)
        taken |= {(b"content-type", b"application/json"), (b"cache-control", b"no-store")}
        if exchange.body:
            error = json.loads(exchange.body)["error"]
            assert exchange.status not in {400, 413, 414} or "field" in error, "a refusal names what is wrong"
            about = "".join(f" {key}={value}" for key, value in error.items() if key not in {"code", "message"})
            first, lines = f"{first} {error['code']}{about}: {error['message']}", []
    headers = [header for header in exchange.answered if header not in taken]
    return "\n".join([first, *(f"{name.decode()}: {value.decode('latin-1')}" for name, value in headers), *lines])


def _lines(body: bytes) -> list[str]:
    if len(body) > 2_000:
        return [f"> ({len(body)} bytes)"]
    text = body.decode(errors="backslashreplace")
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", lambda match: repr(match[0])[1:-1], text)
    return [f"> {line}" for line in text.split("\n")] if text else []
