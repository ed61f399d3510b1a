"""The ASGI application: decode, call ``api.Streams``, encode; and the two loops that wait (PROTOCOL 5.7, 5.8)."""

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from random import Random
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes, urlsplit

from durable_streams_cluster import __version__, asked
from durable_streams_cluster.api import Described, Streams
from durable_streams_cluster.asked import INVALID_JSON, BadRequest
from durable_streams_cluster.clock import Clock
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import ClusterError, Overloaded
from durable_streams_cluster.gateway import caching, codec, fanout, pages, paths, status
from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.gateway.codec import ListRequest, Live, ReadRequest
from durable_streams_cluster.gateway.headers import COMMON, Headers
from durable_streams_cluster.gateway.live import LiveReads
from durable_streams_cluster.gateway.short import DECODED_HERE, ShortWay
from durable_streams_cluster.gateway.status import Response
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

METHODS = b"GET, HEAD, POST, PUT, DELETE, OPTIONS"
CORS_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
"""Also what other APIs of this server take: one preflight answer serves them all."""
CACHED_PATHS = 10_000
CACHED_PATH_BYTES = 256
"""A longer path is decoded each time."""

T = TypeVar("T")

WELCOME = f"""durable-streams-cluster {__version__}: the Durable Streams protocol, replicated and durable.

A stream is a URL under /v1/stream/. Try it:

  curl -i -X PUT  http://HOST/v1/stream/hello -H 'Content-Type: text/plain'
  curl -i -X POST http://HOST/v1/stream/hello -H 'Content-Type: text/plain' -d 'hello world'
  curl -N 'http://HOST/v1/stream/hello?offset=-1&live=sse'

The protocol: PROTOCOL.md of durable-streams/durable-streams. This server: README.md of durable-streams-cluster.
"""


class GatewayApp:
    """Streams over HTTP. Mountable: ``root_path`` is honoured."""

    def __init__(self, streams: Streams, limits: Limits, clock: Clock, rng: Random, metrics: Metrics) -> None:
        self._streams = streams
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._paths: dict[bytes, str] = {}
        self._buffered = 0
        """Bytes of request bodies held while they arrive."""
        self.public_url: bytes | None = None
        """Scheme, host and mount point that Location uses instead of the request's own."""
        self.crowd = Crowd(limits)
        self._short = ShortWay(streams, self.crowd, limits, clock, metrics, self._paths)
        self.begin = self._short.begin
        """See ``direct.Beginner``."""
        self.live = LiveReads(streams, self.crowd, limits, clock, rng, metrics)

    def drain(self) -> None:
        """End every live read with a control event, new ones after their first answer."""
        self.live.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            response = await self._serve(scope, receive, send)
        except BadRequest as error:
            response = status.bad_request(error)
        except ClusterError as error:
            response = status.refused(error)
        if response is not None:
            self._metrics.request(scope["method"], response.status)
            await respond(send, response, head=scope["method"] == "HEAD")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        mount = root = scope.get("root_path", "").encode()
        method: str = scope["method"]
        if root:
            mount, raw = paths.divide(raw, root)
        if raw in paths.ALL and method in ("GET", "HEAD"):
            return await self._list(codec.decode_list(scope["query_string"]))
        if not raw.startswith(paths.PREFIX):
            return _elsewhere(raw, method, scope, mount)
        if method == "OPTIONS":
            return _preflight(dict(scope["headers"]))
        path = self._paths.get(raw)
        if path is None:
            path = self._learn(raw)
        headers = h.index(scope["headers"])
        match method:
            case "POST":
                return await self._append(path, headers, receive)
            case "GET":
                request = codec.decode_read(scope["query_string"], headers)
                return await self._read(path, request, scope, receive, send)
            case "PUT":
                location = self._location(scope, headers, mount, raw)
                return await self._create(path, headers, receive, root, location)
            case "HEAD":
                return await self._head(path)
            case "DELETE":
                return status.of(await self._streams.delete(codec.decode_delete(path, headers)))
            case _:
                return _not_allowed()

    def _learn(self, raw: bytes) -> str:
        path = paths.stream_path(raw[len(paths.PREFIX) :], self._limits.max_path_bytes)
        if len(raw) > CACHED_PATH_BYTES:
            return path
        if len(self._paths) >= CACHED_PATHS:
            self._paths.clear()
        self._paths[raw] = path
        return path

    def _location(self, scope: Scope, headers: Headers, mount: bytes, target: bytes) -> bytes:
        if self.public_url is not None:
            return self.public_url + target
        scheme: str = scope.get("scheme", "http")
        host = headers.get(b"host", b"")
        return b"".join((scheme.encode(), b"://", host, mount, target) if host else (mount, target))

    # ------------------------------------------------------------------------------------------------------- writes

    async def _append(self, path: str, headers: Headers, receive: Receive) -> Response:
        body = await self._body(headers, receive)
        try:
            command = await self._decoded(codec.decode_append, body, path, headers, body, self._limits)
        except BadRequest as error:
            rejected = await self._rejects_first(path, headers) if error.code == INVALID_JSON else None
            if rejected is None:
                raise
            return rejected
        try:
            outcome = await self._streams.append(command)
        except ClusterError as error:
            return status.refused_append(error, command)
        return self._short.appended(outcome, command, len(body))

    async def _create(self, path: str, headers: Headers, receive: Receive, root: bytes, location: bytes) -> Response:
        body = await self._body(headers, receive)
        roots = [root] if self.public_url is None else [root, unquote_to_bytes(urlsplit(self.public_url).path)]
        fork = codec.decode_fork(headers, roots, self._limits)
        source = await self._streams.head(fork.source) if fork is not None and body else None
        source_type = source.content_type if isinstance(source, Described) else None
        command = await self._decoded(codec.decode_create, body, path, headers, body, fork, source_type, self._limits)
        return status.of(await self._streams.create(command), location)

    async def _decoded(self, decode: Callable[..., T], body: bytes, *args: object) -> T:
        """Decode here, or in a thread what is large: other requests go on between two slices of it."""
        if len(body) <= DECODED_HERE:
            return decode(*args)
        # A thread is waited for, so bodies could gather before it: they count as long as they are held here.
        self._hold(len(body))
        try:
            return await asyncio.to_thread(decode, *args)
        finally:
            self._buffered -= len(body)

    def _hold(self, size: int) -> None:
        """Count ``size`` more bytes of bodies, or refuse them; the caller takes them off again."""
        if self._buffered and self._buffered + size > self._limits.max_inflight_bytes:
            raise Overloaded("too many bytes of requests are arriving; nothing was stored")
        self._buffered += size

    async def _rejects_first(self, path: str, headers: Headers) -> Response | None:
        """What an append is told before its body is looked at (PROTOCOL 5.2): missing, closed, another type."""
        found = await self._streams.head(path)
        if not isinstance(found, Described):
            return status.of_read(found)
        producer = h.producer(headers, self._limits)
        if found.closed:
            return status.closed(found.next_offset, producer)
        return None if found.is_json else status.type_mismatch(found.content_type, producer)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, chunked or not, bounded in bytes, in time, and in what all requests hold together."""
        declared = headers.get(b"content-length")
        if declared is not None:
            asked.fits(int(declared), self._limits)
        # Most bodies came with their head. A time limit costs a tenth of an append: it is for those that are awaited.
        coming = receive().__await__()
        waits_for = message = None
        try:
            waits_for = next(coming)
        except StopIteration as come:
            message = cast("Message", come.value)
            if not message.get("more_body", False) and message["type"] == "http.request":
                whole: bytes = message.get("body", b"")
                asked.fits(len(whole), self._limits)
                return whole
        chunks = []
        held = 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                if message is None:
                    message = await _resumed(coming, waits_for)
                while True:
                    chunk: bytes = message.get("body", b"")
                    self._hold(len(chunk))
                    held += len(chunk)
                    asked.fits(held, self._limits)
                    chunks.append(chunk)
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
                    message = await receive()
        except TimeoutError:
            raise BadRequest("body", "did not arrive in time", "body_timeout") from None
        finally:
            self._buffered -= held
        if message["type"] != "http.request":
            raise BadRequest("body", "ended before it was complete")
        return b"".join(chunks)

    # -------------------------------------------------------------------------------------------------------- reads

    async def _list(self, request: ListRequest) -> Response:
        return pages.listing(await self._streams.list_streams(request.prefix, request.after, request.limit), request)

    async def _head(self, path: str) -> Response:
        found = await self._streams.head(path)
        if not isinstance(found, Described):
            return status.of_read(found)
        headers = [
            *COMMON,
            (b"content-type", found.content_type.encode()),
            status.next_offset(found.next_offset),
            *status.lifetime(found.ttl_s, found.expires_at_ms),
            (b"cache-control", caching.NO_STORE),
        ]
        if found.first_offset.position:
            headers.append(status.first_offset(found.first_offset))
        if found.closed:
            headers.append(status.CLOSED)
        return Response(200, headers)

    async def _read(
        self, path: str, request: ReadRequest, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        if request.live is Live.LONG_POLL:
            client = scope.get("client")
            return await self.live.long_poll(path, request, client[0] if client else "", receive)
        if request.live is Live.SSE:
            return await self.live.sse(path, request, receive, send, fanout.offered(scope))
        return self._short.page(await self._streams.read(path, request.at, self.crowd.page_bytes()), request)


@types.coroutine
def _resumed(steps: Generator[Any, Any, Message], waits_for: Any) -> Generator[Any, Any, Message]:
    """Go on with what was awaited by hand up to its first wait."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # a cancellation, for it to handle
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(sent)
    except StopIteration as done:
        return cast("Message", done.value)


async def respond(send: Send, response: Response, *, head: bool = False) -> None:
    """Send one whole response."""
    headers = status.framed(response, head=head)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


def _preflight(headers: dict[bytes, bytes]) -> Response:
    asked = headers.get(b"access-control-request-headers")
    return Response(
        204,
        [
            *COMMON,
            (b"access-control-allow-methods", CORS_METHODS),
            (b"access-control-allow-headers", h.ALLOWED + (b", " + asked if asked else b"")),
            (b"access-control-max-age", b"86400"),
            (b"allow", METHODS),
        ],
    )


def _not_allowed() -> Response:
    return status.problem(405, "method_not_allowed", "a stream takes " + METHODS.decode(), ((b"allow", METHODS),))


def _elsewhere(raw: bytes, method: str, scope: Scope, mount: bytes) -> Response:
    if method == "OPTIONS":
        return _preflight(dict(scope["headers"]))
    if raw in (b"/", b"") and method in ("GET", "HEAD"):
        host = dict(scope["headers"]).get(b"host", b"127.0.0.1:4437") + mount
        body = WELCOME.replace("HOST", host.decode("latin-1")).encode()
        kind = (b"content-type", b"text/plain; charset=utf-8")
        return Response(200, [*COMMON, kind, (b"cache-control", caching.NO_STORE)], body)
    return status.problem(404, "not_found", "nothing is here: streams are at /v1/stream/<path>")


async def lifespan(receive: Receive, send: Send) -> None:
    """Agree to whatever a server says of its start and end (ASGI's lifespan)."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
