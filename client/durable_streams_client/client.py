"""A client of a cluster: channels to its nodes, and handles to its streams."""

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from durable_streams_client._arguments import DEFAULT_TARGET
from durable_streams_client._http import RequestHeaders
from durable_streams_client.errors import ClientClosedError
from durable_streams_client.stream import Stream
from durable_streams_client.transport import Transport
from durable_streams_client.types import ListedStream

if TYPE_CHECKING:
    import grpc

LIST_PAGE = 1000
ELSEWHERE = (
    "make one in each process and event loop that uses it: with gunicorn --preload, in a lifespan hook or post_fork; "
    "of multiprocessing, in the child"
)


class Client:
    """Streams of one cluster, over gRPC or, with a URL, over HTTP.

    ::

        async with Client("n1:4438,n2:4438,n3:4438") as client:
            chat = client.stream("chat/1")
            await chat.create(content_type="application/json")
            await chat.append({"say": "hi"})

    Made anywhere, and used on the event loop that it is first used on. One for a process is enough: it holds one
    connection to each node that it speaks to, and what is written concurrently leaves together.
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        token: str | None = None,
        headers: RequestHeaders | None = None,
        credentials: "grpc.ChannelCredentials | None" = None,
        timeout_s: float = 30.0,
    ) -> None:
        """No connection is made yet.

        Args:
            target: ``HOST:PORT`` of listeners for clients (``--grpc``), several in a list or divided by commas; or the
                URL of a gateway, like ``https://example.com``, for which the extra ``[http]`` is needed. A URL with a
                path is the one that streams are below, of whatever server; without one that is ``/v1/stream`` there.
            token: who this is, if the server asks for that.
            headers: more of each request, over HTTP; a function is asked for them before each one, so that a token that
                expires can be replaced (``authorization`` comes before ``token``). It must not wait for anything, and
                what it raises is raised.
            credentials: of TLS, over gRPC; None: not encrypted.
            timeout_s: for how long (seconds) what fails is tried again, where no call says otherwise.

        Raises:
            ValueError: ``target`` names nothing; or the token or a header is none.

        """
        if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
            raise ValueError("the token has characters that none has: was a line end read with it?")
        self.timeout_s = timeout_s
        self._target = [target] if isinstance(target, str) else list(target)
        self._transport: Transport = _transport(self._target, token, headers, credentials)
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def stream(self, path: str, *, content_type: str | None = None) -> Stream:
        """A handle to the stream at ``path``, which need not be there; nothing is asked.

        ``content_type``: of the stream, if it is known; else it is asked for before the first append.
        """
        return Stream(self, path, content_type)

    async def list(
        self, prefix: str = "", *, after: str = "", timeout_s: float | None = None
    ) -> AsyncIterator[ListedStream]:
        """Streams whose path begins with ``prefix``, by path; only those behind ``after``."""
        while True:
            found = await self.transport.list_streams(prefix, after, LIST_PAGE, timeout_s or self.timeout_s)
            for each in found:
                yield each
            if len(found) < LIST_PAGE:
                return
            after = found[-1].path

    async def aclose(self) -> None:
        """Let go of all connections. What is under way fails."""
        if not self._closed:
            self._closed = True
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def transport(self) -> Transport:
        """How the cluster is reached.

        Raises:
            ClientClosedError: it was closed; or this is another process or event loop than it was used in.

        """
        if self._closed:
            raise ClientClosedError("this client was closed")
        if self._process != os.getpid():
            raise ClientClosedError(f"this client was made in another process; {ELSEWHERE}")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientClosedError(f"this client was used on another event loop; {ELSEWHERE}")
        return self._transport


def _transport(
    targets: Sequence[str],
    token: str | None,
    headers: RequestHeaders | None,
    credentials: "grpc.ChannelCredentials | None",
) -> Transport:
    found = [each.strip() for target in targets for each in target.split(",") if each.strip()]
    if not found:
        raise ValueError("the target names no node: write HOST:PORT of its --grpc listener, or a URL")
    urls = [each for each in found if each.startswith(("http://", "https://"))]
    # Loaded by name, so that what one of them needs is not needed by the other.
    if not urls:
        if headers is not None:
            raise ValueError("headers are of HTTP: over gRPC, credentials may have what is sent with each call")
        over_grpc = importlib.import_module("durable_streams_client.grpc_transport")
        transport: Transport = over_grpc.GrpcTransport(found, token, credentials)
        return transport
    if len(found) > 1 or credentials is not None:
        raise ValueError("a URL is the only target, and its scheme says whether it is encrypted")
    try:
        over_http = importlib.import_module("durable_streams_client.http_transport")
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ValueError(f"a URL needs httpx: pip install 'durable-streams-cluster[http]' ({error})") from error
    made: Transport = over_http.HttpTransport(urls[0], token, headers)
    return made
