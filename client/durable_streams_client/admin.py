"""What operators ask of a cluster: how it is, and that it changes. Any node answers, at its ``--grpc`` address."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from durable_streams_proto.v1.admin_pb2 import StatusReply, StatusRequest
from durable_streams_proto.v1.admin_pb2_grpc import AdminStub
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest

if TYPE_CHECKING:
    from durable_streams_proto.v1.admin_pb2_grpc import AdminAsyncStub

CONNECT_S = 3.0
"""How long one connection may take."""
STATUS_S = 10.0
"""How long one node may take to answer how the cluster is: it waits for the others for some three seconds."""
LEAST_S = 2.0
"""For how long a node is given to answer a change, even if less is left: what it does later is not known."""
AGAIN_S = 0.5
"""Between two rounds, while there is no leader."""

_LOOK = "Next step: see what came of it with durable-streams admin members"


class AdminError(Exception):
    """It was refused, nobody could be reached, or what became of it is not known; the text says what to do next."""


class Admin:
    """Asks the nodes of a cluster, one after the other until one answers."""

    def __init__(self, targets: Sequence[str], timeout_s: float) -> None:
        """``targets``: ``HOST:PORT`` of listeners for clients; ``timeout_s`` bounds each call of a method."""
        assert targets
        self._targets = targets
        self._timeout_s = timeout_s

    async def status(self, *, members_only: bool = False) -> StatusReply:
        """Who belongs to the cluster and, unless ``members_only``, how they are.

        A node that hears from no leader may have been removed, or be cut off: it is believed when no other one knows
        better. Raises AdminError.
        """
        failures, request, outdated = [], StatusRequest(members_only=members_only), None
        try:
            async with asyncio.timeout(self._timeout_s):
                for target in self._targets:
                    try:
                        async with _reach(target) as stub:
                            reply = await stub.Status(request, timeout=STATUS_S)
                    except (grpc.aio.AioRpcError, OSError) as error:
                        failures.append(f"{target}: {_words(error)}")
                        continue
                    if reply.current:
                        return reply
                    outdated = outdated or reply
        except TimeoutError:
            failures.append(f"nobody else was asked within {self._timeout_s:g} s")
        if outdated is not None:
            return outdated
        raise _unreachable(failures)

    async def change(self, request: ChangeRequest) -> ChangeReply:
        """Change the membership, or who leads; return once that is done. While there is no leader, it is asked again.

        Raises:
            AdminError: it was not done, or that is not known; the text says which.

        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s
        while True:
            failures, leaderless = [], None
            for target in self._targets:
                reply = await self._ask(target, request, max(end - loop.time(), LEAST_S))
                if isinstance(reply, str):
                    failures.append(f"{target}: {reply}")
                elif reply.result == ChangeReply.NO_LEADER:
                    leaderless = reply.text
                else:
                    return _done(reply)
            if leaderless is None:
                raise _unreachable(failures)
            if loop.time() + AGAIN_S >= end:
                step = "Next step: see who answers with durable-streams admin status; a majority of the voters must"
                raise AdminError(f"nothing was done within {self._timeout_s:g} s: {leaderless}. {step}")
            await asyncio.sleep(AGAIN_S)

    async def leader(self) -> StatusReply:
        """Return the status as soon as there is a leader that others follow. Raises AdminError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    reply = await self.status()
                    if reply.current and reply.leader:
                        return reply
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            step = "Next step: see who answers with durable-streams admin status"
            raise AdminError(f"nobody leads within {self._timeout_s:g} s. {step}") from None

    async def _ask(self, target: str, request: ChangeRequest, timeout_s: float) -> ChangeReply | str:
        """The answer of one node; or why it was not asked."""
        asked = False
        try:
            async with _reach(target) as stub:
                asked = True
                return await stub.Change(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise AdminError(f"nothing was done: {error.details()}") from error
            if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED):
                return _words(error)
            raise AdminError(f"it may or may not be done: {target}: {_words(error)}. {_LOOK}") from error
        except OSError as error:
            assert not asked, "only connecting raises it"
            return _words(error)


@asynccontextmanager
async def _reach(target: str) -> AsyncIterator["AdminAsyncStub"]:
    """A channel to somebody who listens. Raises OSError when nobody does, which gRPC would find out late."""
    host, _, port = target.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except TimeoutError as error:
        raise OSError(f"no connection within {CONNECT_S:g} s") from error
    writer.close()
    # HTTP_PROXY and its like are for the world outside.
    async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield AdminStub(channel)


def _done(reply: ChangeReply) -> ChangeReply:
    if reply.result == ChangeReply.DONE:
        return reply
    if reply.result == ChangeReply.REFUSED:
        raise AdminError(reply.text)
    raise AdminError(f"it may or may not be done: {reply.text}. {_LOOK}")


def _unreachable(failures: Sequence[str]) -> AdminError:
    step = "Next step: name nodes that run, by their --grpc addresses, with --target HOST:PORT,..."
    return AdminError(f"no node answers: {'; '.join(failures)}. {step}")


def _words(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
