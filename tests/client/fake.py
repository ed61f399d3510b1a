"""A cluster that does what a test says."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from durable_streams_client import Client
from durable_streams_client.errors import DurableStreamError
from durable_streams_client.types import AppendRequest, AppendResult, HeadResult, Page


class FakeTransport:
    """Keeps what it is asked; a test answers."""

    def __init__(self) -> None:
        self.appends: list[tuple[AppendRequest, asyncio.Future[AppendResult]]] = []
        self.timeouts: list[float] = []
        self.followed: list[str] = []
        self.pages: list[list[Page | DurableStreamError]] = []
        """What each call of follow has, one after the other; the last one then waits for ever."""
        self.content_type = "text/plain"
        self.closed = False

    def begin_append(self, request: AppendRequest, timeout_s: float) -> "asyncio.Future[AppendResult]":
        future: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
        self.appends.append((request, future))
        self.timeouts.append(timeout_s)
        return future

    async def head(self, path: str, timeout_s: float) -> HeadResult:
        return HeadResult(self.content_type, "o", "o", False, None, None)

    async def follow(self, path: str, offset: str, max_bytes: int) -> AsyncGenerator[Page, None]:
        self.followed.append(offset)
        script = self.pages.pop(0)
        for each in script:
            if isinstance(each, DurableStreamError):
                raise each
            yield each
        if not self.pages:
            await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        self.closed = True

    # ------------------------------------------------------------------------------------------------- of the producer

    def seqs(self) -> list[int]:
        return [request.producer.seq for request, _ in self.appends if request.producer is not None]

    def answer(self, number: int, what: AppendResult | Exception | str) -> None:
        """To the ``number``-th append since the beginning; a text is where it ends."""
        future = self.appends[number][1]
        if isinstance(what, Exception):
            future.set_exception(what)
        else:
            future.set_result(AppendResult(what) if isinstance(what, str) else what)


def client_of(fake: Any) -> Client:
    client = Client("nowhere:1")
    client._transport = fake
    return client


async def settle() -> None:
    """Let everything happen that needs no time to pass."""
    for _ in range(20):
        await asyncio.sleep(0)
