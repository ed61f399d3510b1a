"""How a client reaches a cluster: the port that gRPC (``grpc_transport``) and HTTP (``http_transport``) implement."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol

from durable_streams_client.types import (
    AppendRequest,
    AppendResult,
    CreateRequest,
    CreateResult,
    HeadResult,
    ListedStream,
    Offset,
    Page,
)


class Transport(Protocol):
    """One cluster.

    What certainly did not happen is tried again, at another node perhaps, and so is what may be done twice without
    harm; both for as long as ``timeout_s`` (seconds). Each call raises DurableStreamError.
    """

    def begin_append(self, request: AppendRequest, timeout_s: float) -> "asyncio.Future[AppendResult]":
        """Append, close, or both, without waiting. Appends leave in the order of these calls."""
        ...

    def create(self, request: CreateRequest, timeout_s: float) -> Awaitable[CreateResult]:
        """Create a stream or confirm it."""
        ...

    def delete(self, path: str, timeout_s: float) -> Awaitable[bool]:
        """Delete a stream; whether its data stays for forks."""
        ...

    async def head(self, path: str, timeout_s: float) -> HeadResult:
        """What is known of a stream."""
        ...

    async def list_streams(self, prefix: str, after: str, limit: int, timeout_s: float) -> list[ListedStream]:
        """At most ``limit`` streams whose path begins with ``prefix``, beginning behind ``after``."""
        ...

    async def read(self, path: str, offset: Offset, max_bytes: int, timeout_s: float) -> Page:
        """A page; ``max_bytes`` 0: as large as the server likes."""
        ...

    def follow(self, path: str, offset: Offset, max_bytes: int) -> AsyncGenerator[Page, None]:
        """Pages as they come, until the stream is closed.

        One attempt at one node: UnavailableError says that it broke, and to go on from the last page's ``next_offset``.
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything. What is under way ends with ClientClosedError, or with OutcomeUnknownError."""
        ...
