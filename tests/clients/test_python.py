"""PyPI durable-streams 0.1.0: everything it can do, against our server.

It has no producer and no close, its SSE iterator ends with the connection, and it asks a closed stream again at once.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import durable_streams as official
import httpx
import pytest

LIMIT = 30.0
PACING_WINDOW = 1.0
JSON, TEXT, BYTES = "application/json", "text/plain", "application/octet-stream"


@pytest.fixture
def url(base_url: str, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{base_url}/v1/stream/python/{name}"


@pytest.fixture
def create(url: str) -> Iterator[Callable[..., official.DurableStream]]:
    with contextlib.ExitStack() as stack:
        yield lambda kind, **more: stack.enter_context(official.DurableStream.create(url, content_type=kind, **more))


class Tail:
    """Reads in a thread, as a program that follows a stream does; each item is awaited by whoever wrote it."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items: list[Any] = []
        self.ended: Future[None] = Future()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def _run(self, items: Iterable[Any]) -> None:
        try:
            for item in items:
                with self._changed:
                    self.items.append(item)
                    self._changed.notify_all()
            self.ended.set_result(None)
        except Exception as error:
            self.ended.set_exception(error)
        with self._changed:
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[Any]], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: enough(self.items) or self.ended.done(), LIMIT) or not enough(
                self.items
            ):
                raise AssertionError(f"the tail has {self.items!r}, ended {self.ended!r}")


def close(url: str, body: bytes = b"", kind: str = JSON) -> None:
    """The close that this client lacks."""
    headers = {"stream-closed": "true"} | ({"content-type": kind} if body else {})
    httpx.post(url, headers=headers, content=body).raise_for_status()


def test_append_and_read_json(create: Callable[..., official.DurableStream]) -> None:
    handle = create(JSON)
    values = [{"n": 1}, [1, [2]], "zwölf ☂", 3.5, None, True]
    results = [handle.append(value) for value in values]
    with handle.stream(live=False) as read:
        assert read.read_json() == values
        assert read.up_to_date
        assert read.offset == results[-1].next_offset
    assert handle.head().offset == results[-1].next_offset
    handle.append("more")
    with handle.stream(offset=results[-1].next_offset, live=False) as read:
        assert list(read.iter_json()) == ["more"]


def test_append_and_read_text(create: Callable[..., official.DurableStream]) -> None:
    handle = create(TEXT, body="first, ")
    handle.append("zwölf ☂")
    with handle.stream(live=False) as read:
        assert read.read_text() == "first, zwölf ☂"


def test_append_and_read_bytes(create: Callable[..., official.DurableStream]) -> None:
    handle = create(BYTES)
    every = bytes(range(256)) * 1_000
    handle.append(every)
    handle.append(every)
    with handle.stream(live=False) as read:
        assert read.read_bytes() == every * 2


def test_batches_of_threads(create: Callable[..., official.DurableStream]) -> None:
    handle = create(JSON)
    threads = [threading.Thread(target=handle.append, args=([n],)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    with handle.stream(live=False) as read:
        assert sorted(read.read_json()) == [[n] for n in range(50)]


def test_head_delete_and_errors(create: Callable[..., official.DurableStream], url: str) -> None:
    handle = create(JSON, ttl_seconds=3_600)
    head = handle.head()
    assert (head.exists, head.content_type) == (True, JSON)
    assert head.offset
    create(JSON, ttl_seconds=3_600).close()
    with pytest.raises(official.StreamExistsError):
        official.DurableStream.create(url, content_type=TEXT)
    handle.append(1, seq="b")
    with pytest.raises(official.SeqConflictError):
        handle.append(2, seq="a")
    close(url)
    with pytest.raises(official.SeqConflictError):
        handle.append(3)
    handle.delete()
    with pytest.raises(official.StreamNotFoundError):
        handle.head()
    with pytest.raises(official.StreamNotFoundError):
        handle.stream(live=False)
    with pytest.raises(official.StreamNotFoundError):
        handle.delete()


@pytest.mark.parametrize("live", ["long-poll", "auto"])
@pytest.mark.parametrize("kind", [JSON, TEXT, BYTES])
def test_tail_by_long_poll(create: Callable[..., official.DurableStream], url: str, kind: str, live: Any) -> None:
    handle = create(kind)
    sent = [{JSON: n, TEXT: f"{n} ☂\n", BYTES: bytes([n, 0, 255])}[kind] for n in range(10)]
    handle.append(sent[0])
    with official.stream(url, offset="-1", live=live) as read:
        items = {JSON: read.iter_json, TEXT: read.iter_text, BYTES: read.__iter__}[kind]()
        tail = Tail(_ended_by(items, sent[-1]))
        for position, item in enumerate(sent[1:], 1):
            tail.wait(lambda got, position=position: _same(got, sent[:position]))
            handle.append(item)
        tail.wait(lambda got: _same(got, sent))
        tail.ended.result(LIMIT)


@pytest.mark.parametrize("kind", [JSON, TEXT])
def test_tail_by_sse(create: Callable[..., official.DurableStream], url: str, kind: str) -> None:
    handle = create(kind)
    sent = [{"n": n, "text": "a\nb"} if kind == JSON else f"{n} ☂\nsecond line" for n in range(10)]
    handle.append(sent[0])
    with official.stream(url, offset="-1", live="sse") as read:
        tail = Tail(read.iter_json() if kind == JSON else read.iter_text())
        for position, item in enumerate(sent[1:], 1):
            tail.wait(lambda got, position=position: _same(got, sent[:position]))
            handle.append(item)
        tail.wait(lambda got: _same(got, sent))
        # The server ends the connection of a closed stream, and with it ends this client's iterator.
        close(url, b'"end"' if kind == JSON else b"end", kind)
        tail.wait(lambda got: _same(got, [*sent, "end"]))
        tail.ended.result(LIMIT)
        assert read.offset == handle.head().offset


class StopPollingError(Exception):
    """Breaks off a client that would go on for ever."""


def test_a_closed_stream_paces_a_client_that_asks_again(
    create: Callable[..., official.DurableStream], url: str
) -> None:
    create(JSON, body=b"[1,2]")
    close(url)
    answers: list[tuple[float, int]] = []

    def count(response: httpx.Response) -> None:
        answers.append((time.monotonic(), response.status_code))
        if answers[-1][0] - answers[0][0] > PACING_WINDOW:
            raise StopPollingError

    with httpx.Client(timeout=LIMIT, event_hooks={"response": [count]}) as client:
        read = official.stream(url, offset="-1", live="long-poll", client=client)
        items = read.iter_json()
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(StopPollingError):
            next(items)
    closed = [status for _, status in answers if status == 204]
    print(f"{len(closed)} answers to a closed stream in {answers[-1][0] - answers[0][0]:.1f} s")
    assert 0 < len(closed) < 50


def _ended_by(items: Iterable[Any], last: Any) -> Iterator[Any]:
    for item in items:
        yield item
        if item == last or (isinstance(item, str | bytes) and item.endswith(last)):
            return


def _same(got: list[Any], sent: list[Any]) -> bool:
    """Text and bytes may arrive in other pieces than they were sent in."""
    if sent and isinstance(sent[0], str | bytes):
        return sent[0][:0].join(got) == sent[0][:0].join(sent)
    return got == sent
