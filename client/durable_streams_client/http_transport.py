"""A cluster behind a URL: the protocol over HTTP, with httpx (the extra ``[http]``)."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from random import SystemRandom
from urllib.parse import quote

import httpx

from durable_streams_client import _http, errors
from durable_streams_client._http_errors import CHANGES, Asked, error_of
from durable_streams_client._retry import Backoff, may_end_in_time
from durable_streams_client.errors import DurableStreamError
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

CONNECT_S = 5.0
ATTEMPT_S = 40.0
"""The server has so long for one request: it waits for a leader itself, and for what a long-poll waits for."""
CONNECTIONS = 200
RANDOM = SystemRandom()


class HttpTransport:
    """See ``transport.Transport``.

    Appends to one stream leave one after the other, since requests on several connections may overtake each other.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        headers: _http.RequestHeaders | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        """``url``: as of ``_http.base_of``; ``client``: for tests. Raises ValueError: a header is none."""
        self._base = _http.base_of(url)
        self._token = token
        self._more = headers if callable(headers) else _http.headers_for_all(token, headers or {})
        self._client = client or httpx.AsyncClient(
            timeout=httpx.Timeout(ATTEMPT_S, connect=CONNECT_S), limits=httpx.Limits(max_connections=CONNECTIONS)
        )
        self._last: dict[str, asyncio.Task[AppendResult]] = {}
        """The newest append to each path: the next one waits for it."""
        self._appends: set[asyncio.Task[AppendResult]] = set()
        self._requests: set[asyncio.Task[httpx.Response]] = set()
        self._closed = False

    # ---------------------------------------------------------------------------------------------------------- writes

    def begin_append(self, request: AppendRequest, timeout_s: float) -> "asyncio.Future[AppendResult]":
        """See ``transport.Transport``."""
        self._check()
        headers = _http.append_headers(request)
        before = self._last.get(request.path)
        task = asyncio.ensure_future(self._append(request, headers, timeout_s, before))
        self._last[request.path] = task
        self._appends.add(task)
        task.add_done_callback(lambda done: self._forget(request.path, done))
        return task

    def _forget(self, path: str, done: "asyncio.Task[AppendResult]") -> None:
        self._appends.discard(done)
        if self._last.get(path) is done:
            del self._last[path]

    async def _append(
        self,
        request: AppendRequest,
        headers: _http.Headers,
        timeout_s: float,
        before: "asyncio.Task[AppendResult] | None",
    ) -> AppendResult:
        end, begun = _now() + timeout_s, False
        try:
            if before is not None and (await asyncio.wait({before}, timeout=timeout_s))[1]:
                raise errors.UnavailableError(
                    f"no answer to the append before within {timeout_s:g} s; nothing was stored"
                )
            begun = True
            repeats = request.is_idempotent
            return _http.appended(await self._ask("POST", request.path, end, headers, request.body, repeats=repeats))
        except asyncio.CancelledError:
            if not self._closed:
                raise
            if begun:
                raise errors.OutcomeUnknownError("the client was closed; it may or may not have happened") from None
            raise errors.ClientClosedError("the client was closed; nothing was stored") from None

    async def create(self, request: CreateRequest, timeout_s: float) -> CreateResult:
        """See ``transport.Transport``."""
        headers = _http.create_headers(request, self._base)
        return _http.created(await self._ask("PUT", request.path, _now() + timeout_s, headers, request.body))

    async def delete(self, path: str, timeout_s: float) -> bool:
        """See ``transport.Transport``; over HTTP nobody says whether the data stays: False."""
        await self._ask("DELETE", path, _now() + timeout_s, missing_is_done=True)
        return False

    # ----------------------------------------------------------------------------------------------------------- reads

    async def head(self, path: str, timeout_s: float) -> HeadResult:
        """See ``transport.Transport``."""
        return _http.head(await self._ask("HEAD", path, _now() + timeout_s))

    async def list_streams(self, prefix: str, after: str, limit: int, timeout_s: float) -> list[ListedStream]:
        """See ``transport.Transport``."""
        params = {"prefix": prefix, "after": after, "limit": str(limit)}
        return _http.listed(await self._ask("GET", "", _now() + timeout_s, params=params))

    async def read(self, path: str, offset: Offset, max_bytes: int, timeout_s: float) -> Page:
        """See ``transport.Transport``; ``max_bytes`` is not asked for: the server has pages of its own size."""
        return _http.page(offset, await self._ask("GET", path, _now() + timeout_s, params={"offset": offset}))

    async def follow(self, path: str, offset: Offset, max_bytes: int) -> AsyncGenerator[Page, None]:
        """See ``transport.Transport``: a long-poll after the other (PROTOCOL 5.7)."""
        params = {"offset": offset}
        while True:
            answer = await self._attempt("GET", path, [], b"", params, _now() + ATTEMPT_S)
            page = _http.page(params["offset"], answer)
            yield page
            if page.closed:
                return
            params = _http.next_params(page, answer)

    # -------------------------------------------------------------------------------------------------------- requests

    async def _ask(
        self,
        method: str,
        path: str,
        end_s: float,
        headers: _http.Headers | None = None,
        body: bytes = b"",
        *,
        params: Mapping[str, str] | None = None,
        repeats: bool = True,
        missing_is_done: bool = False,
    ) -> _http.Answer:
        """Ask until it is answered; ``repeats``: also when nobody knows what became of the request before."""
        backoff, unknown = Backoff(RANDOM.random), False
        while True:
            begun_s = _now()
            try:
                answer = await self._attempt(method, path, headers or [], body, params, end_s)
            except DurableStreamError as error:
                if missing_is_done and unknown and isinstance(error, errors.StreamNotFoundError):
                    return _http.Answer(204, {}, b"")  # By the request before.
                resent, unknown = unknown, unknown or error.maybe_applied
                may = (error.retryable and not isinstance(error, errors.StorageFullError)) or (
                    error.maybe_applied and repeats
                )
                wait_s = backoff.wait_s(getattr(error, "retry_after_s", 0.0))
                if method in CHANGES and not unknown:
                    may = may and may_end_in_time(_now() - begun_s, end_s - _now() - wait_s)
                if not may or _now() + wait_s >= end_s:
                    raised = _at_last(error, unknown=unknown, changes=method in CHANGES)
                    raise (raised.after_another() if resent and method in CHANGES else raised) from None
            else:
                return replace(answer, again=unknown)
            await asyncio.sleep(wait_s)

    async def _attempt(
        self,
        method: str,
        path: str,
        headers: _http.Headers,
        body: bytes,
        params: Mapping[str, str] | None,
        end_s: float,
    ) -> _http.Answer:
        self._check()
        more = _http.headers_for_all(self._token, self._more()) if callable(self._more) else self._more
        url = f"{self._base}/{quote(path)}" if path else self._base
        left_s = max(min(ATTEMPT_S, end_s - _now()), 0.001)
        request = asyncio.ensure_future(
            self._client.request(
                method,
                url,
                headers=[*more, *headers],
                content=body,
                params=params,
                timeout=httpx.Timeout(left_s, connect=min(CONNECT_S, left_s)),
            )
        )
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        try:
            response = await request
        except asyncio.CancelledError:
            if not self._closed:
                raise  # Whoever waits for it was called off.
            if method in CHANGES:
                raise errors.OutcomeUnknownError("the client was closed; it may or may not have happened") from None
            raise errors.ClientClosedError("this client was closed") from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise errors.UnavailableError(f"{self._base} cannot be reached: {_words(error)}") from None
        except httpx.TransportError as error:
            if method in ("GET", "HEAD"):
                raise errors.UnavailableError(f"{self._base} did not answer: {_words(error)}") from None
            why = f"{self._base} did not answer: {_words(error)}; it may or may not have happened"
            raise errors.OutcomeUnknownError(why) from None
        answer = _http.Answer(response.status_code, response.headers, response.content)
        if response.status_code >= 300:
            sent = response.request.url.raw_path.decode()
            raise error_of(answer, Asked(method, sent, headers))
        return answer

    def _check(self) -> None:
        if self._closed:
            raise errors.ClientClosedError("this client was closed")

    async def aclose(self) -> None:
        """See ``transport.Transport``."""
        self._closed = True
        waiting = [*self._appends, *self._requests]
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        await self._client.aclose()


def _at_last(error: DurableStreamError, *, unknown: bool, changes: bool) -> DurableStreamError:
    """What is told when it is not tried again: one attempt of several may have done it."""
    if changes and unknown and (error.retryable or isinstance(error, errors.ClientClosedError)):
        return errors.OutcomeUnknownError(f"{error}; an attempt before may have done it")
    return error


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
