"""Requests of the service ``Streams`` to ``api.Streams``, in the same words and with the same rules as over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from durable_streams_cluster import asked
from durable_streams_cluster.answer import Answer
from durable_streams_cluster.api import Described, Page, Streams
from durable_streams_cluster.asked import INVALID_JSON, BadRequest
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.limits import KIB, Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime import streams_wire as wire
from durable_streams_cluster.runtime.follows import Follows
from durable_streams_cluster.runtime.grpc_status import rejected, unread
from durable_streams_cluster.runtime.whereabouts import Whereabouts
from durable_streams_cluster.runtime.writing import Asked, Failed, Writing
from durable_streams_cluster.streams.commands import Append, Command, Create, Delete
from durable_streams_cluster.streams.outcomes import Appended, StreamClosed, TypeMismatch
from durable_streams_proto.v1 import streams_pb2 as pb

DECODED_HERE = 256 * KIB
"""Bytes of a body that are decoded on the loop; a larger one is in a thread."""
CACHED_PATHS = 10_000
CACHED_PATH_CHARS = 256

T = TypeVar("T")


class Calls:
    """Answers from before the node is of a cluster until it ends.

    Every call may raise BadRequest, ClusterError, and ``Failed`` with the reason why it was not done.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._streams: Streams | None = None
        self.whereabouts: Whereabouts | None = None
        """Whom clients may ask, once the node is of a cluster."""
        self._paths: set[str] = set()
        self._writing: dict[Writing, None] = {}
        self.draining = False
        """This node goes away: it takes no more calls to write."""
        self.follows = Follows(limits, metrics)

    def attach(self, streams: Streams, crowd: Crowd) -> None:
        """The node is of a cluster: from now on it answers."""
        self._streams, self.follows.crowd = streams, crowd

    @property
    def max_append_bytes(self) -> int:
        """How large an append may be."""
        return self._limits.max_append_bytes

    def drain(self) -> None:
        """End what goes on and on, once it was told what there is to tell: its clients go on at another node."""
        self.draining = True
        self.follows.drain()
        if self.whereabouts is not None:
            self.whereabouts.end()
        for writing in tuple(self._writing):
            writing.end()

    # ------------------------------------------------------------------------------------------------- one at a time

    async def operate(self, request: Asked) -> wire.Reply:
        """Create, append or delete; never an ``Error``."""
        reply = wire.reply_of(await self.begin(await self.command(request)))
        if isinstance(reply, pb.Error):
            raise Failed(reply)
        return reply

    async def head(self, request: pb.HeadRequest) -> pb.HeadReply:
        """See streams.proto."""
        found = await self._door.head(self._path(request.path))
        if not isinstance(found, Described):
            raise Failed(unread(found))
        return wire.head_of(found)

    async def list_streams(self, request: pb.ListRequest) -> pb.ListReply:
        """See streams.proto."""
        limit = wire.limit_of(request)
        return wire.list_of(await self._door.list_streams(request.prefix, request.after, limit), limit)

    async def read(self, request: pb.ReadRequest) -> pb.Page:
        """See streams.proto."""
        crowd = self.follows.crowd
        most = crowd.page_of_at_most(request.max_bytes)
        found = await self._door.read(self._path(request.path), wire.place_of(request.offset), most)
        if not isinstance(found, Page):
            raise Failed(unread(found))
        return wire.page_of(crowd.admit(found))

    # ------------------------------------------------------------------------------------------------ many at a time

    async def follow(self, request: pb.FollowRequest, send: Callable[[pb.Page], Awaitable[None]]) -> None:
        """See streams.proto; ``send`` returns when there is room for the next."""
        at = wire.place_of(request.offset)
        ended = await self.follows.run(self._door, self._path(request.path), at, request.max_bytes, send)
        if ended is not None:
            raise Failed(ended)

    async def nodes(self, send: Callable[[pb.NodesReply], Awaitable[None]]) -> None:
        """See streams.proto."""
        if self.whereabouts is None:
            raise Unavailable("this node is of no cluster yet")
        await self.whereabouts.follow(send)

    async def write(
        self, read: Callable[[], Awaitable[object]], send: Callable[[pb.WriteReplies], Awaitable[None]]
    ) -> None:
        """See streams.proto; ``read`` gives something else than requests when there are no more."""
        writing = Writing(self, send)
        self._writing[writing] = None
        try:
            await writing.run(read)
        finally:
            del self._writing[writing]

    # -------------------------------------------------------------------------------------------------------- commands

    @property
    def _door(self) -> Streams:
        if self._streams is None:
            raise Unavailable("this node is of no cluster yet; nothing was stored")
        return self._streams

    async def command(self, request: Asked) -> Command:
        """What is asked for. Raises BadRequest, Failed, ClusterError."""
        path, limits = self._path(request.path), self._limits
        match request:
            case pb.AppendRequest():
                try:
                    return await _decoded(len(request.body), lambda: wire.append_of(request, limits))
                except BadRequest as error:
                    if error.code == INVALID_JSON:
                        await self._reject_first(path)
                    raise
            case pb.CreateRequest():
                fork = wire.fork_of(request, limits)
                source = await self._door.head(fork.source) if fork is not None and request.body else None
                source_type = source.content_type if isinstance(source, Described) else None
                return await _decoded(len(request.body), lambda: wire.create_of(request, fork, source_type, limits))
            case pb.DeleteRequest():
                return Delete(path)

    async def _reject_first(self, path: str) -> None:
        """Raise what an append is told before its body is looked at (PROTOCOL 5.2): missing, closed, another type."""
        found = await self._door.head(path)
        if not isinstance(found, Described):
            raise Failed(unread(found))
        if found.closed:
            raise Failed(rejected(StreamClosed(found.next_offset)))
        if not found.is_json:
            raise Failed(rejected(TypeMismatch(found.content_type)))

    def begin(self, command: Command) -> Answer:
        """Ask for it; its outcome comes later. Raises ClusterError."""
        match command:
            case Append():
                answer = self._door.append(command)
                answer.then(lambda told: self._count(command, told))
                return answer
            case Create():
                return self._door.create(command)
            case Delete():
                return self._door.delete(command)
            case _:
                raise AssertionError(command)

    def _count(self, command: Append, told: object) -> None:
        if isinstance(told, Appended) and command.body and not told.duplicate:
            self._metrics.appends += 1
            self._metrics.append_bytes += len(command.body)

    def _path(self, path: str) -> str:
        if path not in self._paths:
            asked.stream_path(path, "path", self._limits.max_path_bytes)
            if len(self._paths) >= CACHED_PATHS:
                self._paths.clear()
            if len(path) <= CACHED_PATH_CHARS:
                self._paths.add(path)
        return path


async def _decoded(size: int, decode: Callable[[], T]) -> T:
    """Decode here, or in a thread what is large: others go on between two slices of it."""
    return decode() if size <= DECODED_HERE else await asyncio.to_thread(decode)
