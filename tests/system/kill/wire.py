"""A small HTTP/1.1 client on a raw connection: fast, and it never sends anything twice by itself."""

import asyncio
import dataclasses
import json
from collections.abc import Mapping

LIMIT = 20.0


class BrokenError(Exception):
    """The connection ended or fell silent before a whole answer: what became of the request is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def offset(self) -> str:
        return self.headers.get("stream-next-offset", "")

    @property
    def closed(self) -> bool:
        return self.headers.get("stream-closed", "").lower() == "true"

    @property
    def code(self) -> str:
        """The machine-readable code of an error body, wherever in it that stands."""
        try:
            body = json.loads(self.body)
            error = body.get("error", body)
            return str(error.get("code", "") if isinstance(error, dict) else error)
        except (ValueError, AttributeError):
            return ""


class Connection:
    """One keep-alive connection, opened again when it has ended. Requests go one after another."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        head = [f"{method} {path} HTTP/1.1", f"host: {self._address[0]}:{self._address[1]}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method in {"POST", "PUT"}:
            head.append(f"content-length: {len(body)}")
        try:
            async with asyncio.timeout(LIMIT):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(*self._address, limit=1 << 20)
                reader, writer = self._streams
                writer.write("\r\n".join([*head, "", ""]).encode() + body)
                await writer.drain()
                return await self._answer(reader, method)
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise BrokenError(f"{method} {path}: {error!r}") from error
        except BaseException:
            self.close()
            raise

    async def _answer(self, reader: asyncio.StreamReader, method: str) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = b""
        if method != "HEAD" and status not in {204, 304}:
            if headers.get("transfer-encoding", "") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readexactly(2)
            elif "content-length" in headers:
                body = await reader.readexactly(int(headers["content-length"]))
            else:
                raise ValueError(f"an answer without a length: {head}")
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
