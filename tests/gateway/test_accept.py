"""Accepting when the process has no descriptor left, and when a connection is gone before it is accepted."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import uvloop

from durable_streams_cluster.gateway.accept import Acceptor
from tests.gateway.serving import until


class Listener:
    """A listening socket whose ``accept`` fails for as long as the test says."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.failure: int | None = None
        self.calls = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        self.calls += 1
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        return self.socket.accept()

    def close(self) -> None:
        self.socket.close()


class Hello(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"hello")
        transport.close()


@contextlib.asynccontextmanager
async def accepting(
    listener: Listener, retry_s: float, protocol: Callable[[], asyncio.Protocol] = Hello
) -> AsyncIterator[Acceptor]:
    acceptor = Acceptor("http", cast("socket.socket", listener), protocol, retry_s)
    acceptor.start()
    try:
        yield acceptor
    finally:
        await acceptor.close()


async def greeting(listener: Listener) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    with contextlib.closing(writer):
        return await reader.read()


def run(test: Any, *arguments: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test(*arguments), 10))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_it_waits_and_the_loop_is_free(code: int, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        listener = Listener()
        listener.failure = code
        async with accepting(listener, 3600):
            waiting = asyncio.create_task(greeting(listener))
            await until(lambda: listener.calls > 0)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert listener.calls == 1, "not tried again at once"
            waiting.cancel()

    run(play)
    assert [record.getMessage() for record in caplog.records] == [
        f"http: cannot accept connections: {os.strerror(code)}; they wait until that is over"
    ]


def test_what_waited_is_served_when_there_are_descriptors_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def play() -> None:
        listener = Listener()
        listener.failure = errno.EMFILE
        async with accepting(listener, 0):
            waiting = [asyncio.create_task(greeting(listener)) for _ in range(40)]
            await until(lambda: listener.calls > 10)
            listener.failure = None
            assert await asyncio.gather(*waiting) == [b"hello"] * 40

    run(play)
    warning, information = caplog.records
    assert (warning.levelname, information.getMessage()) == ("WARNING", "http: accepting connections again")


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH])
def test_a_connection_that_is_gone_stops_nobody(code: int, caplog: pytest.LogCaptureFixture) -> None:
    class Once(Listener):
        def accept(self) -> tuple[socket.socket, Any]:
            self.failure = code if self.calls == 0 else None
            return super().accept()

    async def play() -> None:
        listener = Once()
        async with accepting(listener, 3600):
            assert await greeting(listener) == b"hello"

    run(play)
    assert not caplog.records


def test_the_port_is_free_after_the_close_also_while_it_waits() -> None:
    async def play(failure: int | None) -> None:
        listener = Listener()
        listener.failure = failure
        async with accepting(listener, 0) as acceptor:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            await until(lambda: listener.calls > 0)
            await acceptor.close()
            calls = listener.calls
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == (b"hello" if failure is None else b"")
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", listener.port)
            assert listener.calls == calls

    run(play, None)
    run(play, errno.EMFILE)


def test_what_is_accepted_is_set_up_as_a_server_would() -> None:
    made: list[asyncio.Transport] = []

    class Kept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(cast("asyncio.Transport", transport))

    async def play() -> None:
        listener = Listener()
        async with accepting(listener, 0, Kept):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            await until(lambda: bool(made))
            accepted = made[0].get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not os.get_blocking(accepted.fileno())
            assert made[0].get_extra_info("peername") == writer.get_extra_info("sockname")
            made[0].abort()
            writer.close()

    run(play)
