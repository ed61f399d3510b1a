"""Accepting connections, for as long as there are file descriptors for them, and waiting while there are none.

Done here and not by the event loop's server, because none survives the moment at which the process or the machine has
no descriptor left (EMFILE, ENFILE). libuv before 1.49 reports it, and uvloop then closes the listener for good: a node
that nobody can reach. Later ones try again at once, and for ever, as asyncio's does, with a traceback each time.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from durable_streams_cluster.limits import ACCEPT_BATCH

RETRY_S = 0.5
"""After an accept that failed; until then connections wait in the backlog."""
LAST_BATCHES = 128
"""At the end, so many batches are taken at most: as much as the backlog holds."""

_NOTHING = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})
_GONE = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPERM),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET, errno.ETIMEDOUT),
    }
)
"""What is wrong with one connection only: Linux hands its network errors on here (accept(2))."""

_log = logging.getLogger(__name__)


class Acceptor:
    """Takes connections from one listening socket, which it owns; ``protocol`` makes the protocol of each."""

    def __init__(
        self, name: str, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], retry_s: float = RETRY_S
    ) -> None:
        self._name = name
        self._listener = listener
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._retry_s = retry_s
        self._retry: asyncio.TimerHandle | None = None
        self._failing = False
        self._closed = False
        self._beginning: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin."""
        self._loop.add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Accept no more; the port is free when this is called, and all that was accepted is known when it returns.

        What the kernel holds is taken first: closing the listener resets it, with the requests that came along.
        """
        if not self._closed:
            self._closed = True
            for _ in range(LAST_BATCHES):
                if not self._accept():
                    break
            self._loop.remove_reader(self._listener)
            self._listener.close()
            if self._retry is not None:
                self._retry.cancel()
        await asyncio.gather(*self._beginning)

    def _accept(self) -> bool:
        """Take a batch; whether there may be more."""
        for _ in range(ACCEPT_BATCH):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _NOTHING:
                    return False
                if error.errno in _GONE:
                    continue
                self._pause(error)
                return False
            if self._failing:
                self._failing = False
                _log.info("%s: accepting connections again", self._name)
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)
        return True

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError as error:  # it is gone already
            _log.debug("%s: a connection ended as it began: %s", self._name, error)
            connection.close()

    def _pause(self, error: OSError) -> None:
        """Leave connections where they are; whatever fails would fail again at once."""
        if not self._failing:  # said once for all of the time that it lasts
            self._failing = True
            _log.warning("%s: cannot accept connections: %s; they wait until that is over", self._name, error.strerror)
        self._loop.remove_reader(self._listener)
        self._retry = self._loop.call_later(self._retry_s, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listener, self._accept)
