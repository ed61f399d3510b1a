"""The same for programs without an event loop: a thread has one, and each call waits for what it does there.

    from durable_streams_client.sync import Client

    with Client("n1:4438,n2:4438,n3:4438") as client:
        chat = client.stream("chat/1")
        chat.create(content_type="application/json")
        chat.append({"say": "hi"})

The names are those of ``durable_streams_client``, and so are the arguments; a client may be used by several threads.
"""

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from durable_streams_client import client, follower, producer, stream
from durable_streams_client._arguments import DEFAULT_TARGET
from durable_streams_client._batching import ProducerLimits
from durable_streams_client._http import RequestHeaders
from durable_streams_client.errors import ClientClosedError, DurableStreamError
from durable_streams_client.types import (
    START,
    AppendResult,
    CreateResult,
    HeadResult,
    ListedStream,
    Offset,
    Page,
)

if TYPE_CHECKING:
    import grpc

__all__ = ["Client", "DurableStreamError", "Follower", "Producer", "Stream"]

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own, from the first call on."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Do it there, and wait for it; an interrupt here ends it there."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a callback of an acknowledgement must not wait: hand what follows to another thread")
        future = self.begin(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise ClientClosedError("this client was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Do it there."""
        if self._process != os.getpid():
            coroutine.close()
            raise ClientClosedError(f"this client was made in another process; {client.ELSEWHERE}")
        with self._lock:
            if self._closed:
                coroutine.close()
                raise ClientClosedError("this client was closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: a program that forgets to close ends all the same.
                self._thread = threading.Thread(target=self._loop.run_forever, name="durable-streams", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End the thread, and whatever waits for it."""
        if self._process != os.getpid():
            return  # Of the other process.
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None:
            return
        atexit.unregister(self.close)
        assert self._thread is not None
        with contextlib.suppress(CancelledError):
            asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


class Client:
    """See ``durable_streams_client.Client``."""

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        token: str | None = None,
        headers: RequestHeaders | None = None,
        credentials: "grpc.ChannelCredentials | None" = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._inner = client.Client(target, token=token, headers=headers, credentials=credentials, timeout_s=timeout_s)
        self._loop = _Loop()

    def stream(self, path: str, *, content_type: str | None = None) -> "Stream":
        """See ``durable_streams_client.Client.stream``."""
        return Stream(self._loop, self._inner.stream(path, content_type=content_type))

    def list(self, prefix: str = "", *, after: str = "", timeout_s: float | None = None) -> Iterator[ListedStream]:
        """See ``durable_streams_client.Client.list``."""
        found = self._inner.list(prefix, after=after, timeout_s=timeout_s)
        while (each := self._loop.run(_next(found))) is not None:
            yield each

    def close(self) -> None:
        """See ``durable_streams_client.Client.aclose``."""
        try:
            self._loop.run(self._inner.aclose())
        except ClientClosedError:
            return
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream:
    """See ``durable_streams_client.Stream``."""

    def __init__(self, loop: _Loop, inner: stream.Stream) -> None:
        self._loop, self._inner = loop, inner

    @property
    def path(self) -> str:
        """Where it is."""
        return self._inner.path

    @property
    def content_type(self) -> str | None:
        """Of the stream, as far as it is known here."""
        return self._inner.content_type

    def create(self, **options: Any) -> CreateResult:
        """See ``durable_streams_client.Stream.create``."""
        return self._loop.run(self._inner.create(**options))

    def fork(self, path: str, **options: Any) -> "Stream":
        """See ``durable_streams_client.Stream.fork``."""
        return Stream(self._loop, self._loop.run(self._inner.fork(path, **options)))

    def append(self, data: Any, **options: Any) -> AppendResult:
        """See ``durable_streams_client.Stream.append``."""
        return self._loop.run(self._inner.append(data, **options))

    def close(self, *, timeout_s: float | None = None) -> AppendResult:
        """See ``durable_streams_client.Stream.close``."""
        return self._loop.run(self._inner.close(timeout_s=timeout_s))

    def delete(self, *, timeout_s: float | None = None) -> bool:
        """See ``durable_streams_client.Stream.delete``."""
        return self._loop.run(self._inner.delete(timeout_s=timeout_s))

    def head(self, *, timeout_s: float | None = None) -> HeadResult:
        """See ``durable_streams_client.Stream.head``."""
        return self._loop.run(self._inner.head(timeout_s=timeout_s))

    def read(self, offset: Offset = START, *, max_bytes: int = 0, timeout_s: float | None = None) -> Page:
        """See ``durable_streams_client.Stream.read``."""
        return self._loop.run(self._inner.read(offset, max_bytes=max_bytes, timeout_s=timeout_s))

    def follow(self, offset: Offset | None = None, **options: Any) -> "Follower":
        """See ``durable_streams_client.Stream.follow``."""
        return Follower(self._loop, self._inner.follow(offset, **options))

    def producer(
        self,
        id: str | None = None,  # noqa: A002
        *,
        epoch: int = 0,
        auto_claim: bool = False,
        limits: ProducerLimits | None = None,
    ) -> "Producer":
        """See ``durable_streams_client.Stream.producer``."""
        return Producer(self._loop, self._inner.producer(id, epoch=epoch, auto_claim=auto_claim, limits=limits))


class Follower:
    """See ``durable_streams_client.Follower``."""

    def __init__(self, loop: _Loop, inner: follower.Follower) -> None:
        self._loop, self._inner = loop, inner

    @property
    def offset(self) -> Offset | None:
        """Where the next page begins; None: it is not known yet."""
        return self._inner.offset

    @property
    def up_to_date(self) -> bool:
        """Nothing more was there when the server last said something."""
        return self._inner.up_to_date

    @property
    def lag_bytes(self) -> int | None:
        """Bytes of the stream behind ``offset``, as far as the server said; None: it did not."""
        return self._inner.lag_bytes

    @property
    def closed(self) -> bool:
        """The stream is closed, and all of it was read."""
        return self._inner.closed

    def __iter__(self) -> Iterator[Page]:
        while (page := self._loop.run(_next(self._inner))) is not None:
            yield page

    def iter_bytes(self) -> Iterator[bytes]:
        """See ``durable_streams_client.Follower.iter_bytes``."""
        yield from self._each(self._inner.iter_bytes())

    def iter_text(self, encoding: str = "utf-8") -> Iterator[str]:
        """See ``durable_streams_client.Follower.iter_text``."""
        yield from self._each(self._inner.iter_text(encoding))

    def iter_json(self) -> Iterator[Any]:
        """See ``durable_streams_client.Follower.iter_json``."""
        for page in self:
            yield from page.json()

    def commit(self) -> None:
        """See ``durable_streams_client.Follower.commit``."""
        self._loop.run(self._inner.commit())

    def close(self) -> None:
        """See ``durable_streams_client.Follower.aclose``."""
        self._loop.run(self._inner.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _each(self, iterator: Any) -> Iterator[Any]:
        while (each := self._loop.run(_next(iterator))) is not None:
            yield each


class Producer:
    """See ``durable_streams_client.Producer``."""

    def __init__(self, loop: _Loop, inner: producer.Producer) -> None:
        self._loop, self._inner = loop, inner

    @property
    def id(self) -> str:
        """Names it for ever in the stream."""
        return self._inner.id

    @property
    def epoch(self) -> int:
        """Of what is sent now."""
        return self._inner.epoch

    def append(self, record: Any) -> "Future[AppendResult]":
        """See ``durable_streams_client.Producer.append``; the future is one of ``concurrent.futures``."""
        acknowledged: Future[AppendResult] = Future()
        acknowledged.set_running_or_notify_cancel()  # From here on nobody can call it off.
        self._loop.run(self._append(record, acknowledged))
        return acknowledged

    async def _append(self, record: Any, acknowledged: "Future[AppendResult]") -> None:
        def told(ack: "asyncio.Future[AppendResult]") -> None:
            if (error := ack.exception()) is not None:
                acknowledged.set_exception(error)
            else:
                acknowledged.set_result(ack.result())

        (await self._inner.append(record)).add_done_callback(told)

    def flush(self) -> None:
        """See ``durable_streams_client.Producer.flush``."""
        self._loop.run(self._inner.flush())

    def close_stream(self) -> AppendResult:
        """See ``durable_streams_client.Producer.close_stream``."""
        return self._loop.run(self._inner.close_stream())

    def close(self) -> None:
        """See ``durable_streams_client.Producer.aclose``."""
        self._loop.run(self._inner.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._inner.__aexit__(kind, error, trace))


async def _end_all() -> None:
    """Call off everything that is done on this loop, and wait until it is over."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _next(iterator: Any) -> Any:
    """The next of an async iterator; None: there is none."""
    return await anext(iterator, None)
