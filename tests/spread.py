"""A small HTTP proxy: each request goes to another node, over a connection of its own, and bytes pass as they come.

It asks the node to close the connection after the answer, and so closes the client's: the next request is the first of
a new connection. What is behind the head of a request, and all of the answer, is not looked at: it streams.
"""

import asyncio
import contextlib
import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from tests.server import LOOPBACK

MAX_HEAD = 1 << 20
PIECE = 1 << 16
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)


class Spread:
    """The proxy's address, and how many requests each node got."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.url = ""
        self.requests: Counter[str] = Counter(dict.fromkeys(urls, 0))
        self._turns = itertools.cycle(urls)

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, LOOPBACK, 0, limit=MAX_HEAD)
        self.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self._pass_on(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # As it would be without a proxy: whoever is left sees a connection that ended.
        finally:
            writer.close()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = next(self._turns)
        self.requests[url] += 1
        node = urlsplit(url)
        from_node, to_node = await asyncio.open_connection(node.hostname, node.port, limit=MAX_HEAD)
        try:
            to_node.write(_CONNECTION.sub(b"", head).removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
            ways = [asyncio.ensure_future(_pump(reader, to_node)), asyncio.ensure_future(_pump(from_node, writer))]
            # The answer is over when the node closes; a client that left wants no answer.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        finally:
            to_node.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()


@contextlib.contextmanager
def spread(urls: Sequence[str]) -> Iterator[Spread]:
    """A proxy in front of these nodes, for the length of a block."""
    proxy = Spread(urls)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(proxy.serve(), loop).result(10)

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
