"""Streams that end: whose time is up, and whom a read gives more; on the leader, and asked of it by the others.

Only the leader decides. It knows which reads began a window anew since that was last recorded, and its clock is the
cluster's. Every node asks before it shows a stream that has a deadline (DESIGN: Time).
"""

import asyncio

from msgspec.structs import replace

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.errors import ClusterError, Overloaded, StorageError, Unavailable
from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.policies import Policies
from durable_streams_cluster.replica.effects import Asked
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.retention import COMMAND_BYTES
from durable_streams_cluster.streams import lifetime
from durable_streams_cluster.streams.commands import Append, Command, Create, Delete, Expire, Touch
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.outcomes import NotFound, SoftDeleted

Found = tuple[StreamRef, StreamMeta] | NotFound | SoftDeleted

NEVER = -1
"""No stream was touched then: what should end its window does nothing."""
SETTLING_MS = 2_000
"""A new leader expires nothing for this long (DESIGN: Time)."""


class Lifetimes:
    """See the module."""

    def __init__(self, driver: Driver, policies: Policies) -> None:
        self._driver = driver
        self._policies = policies
        self._group = driver.replica.group
        self._view = self._group.store.committed
        self._group.lead.prepare = self._prepare
        driver.on_asked = self._on_asked
        self._renewed: dict[StreamRef, int] = {}
        """Reads of streams with a TTL since their last recorded touch: cluster time (ms). Only the leader's memory."""
        self._answering: set[asyncio.Task[None]] = set()

    # -------------------------------------------------------------------------------------------------------- writes

    def _prepare(self, command: Command) -> tuple[Command, ...]:
        """What the leader puts into the log for a command: the log keeps the order, so it finds what is over gone."""
        match command:
            case Create(path=path):
                over = self._over(path)
                if command.fork is not None:
                    over += self._over(command.fork.source)
                if self._policies:
                    policy = self._policies.of(path)
                    command = replace(command, default_ttl_s=policy.ttl_s, max_bytes=policy.max_bytes)
                return (*over, command)
            case Append(path=path) | Delete(path=path):
                return (*self._over(path), command)
            case Expire(path=path):
                # Of a leader that was, perhaps, which did not know what was read since then: it is decided here.
                return self._over(path) or (replace(command, touched_at=NEVER),)
            case _:
                return (command,)

    def _over(self, path: str) -> tuple[Command, ...]:
        ref = self._view.find(path)
        meta = self._view.meta(ref) if ref is not None else None
        if ref is None or meta is None or meta.deleted or not self.is_due(ref, meta):
            return ()
        return (self._end(path, ref, meta),)

    def _end(self, path: str, ref: StreamRef, meta: StreamMeta) -> Expire:
        self._renewed.pop(ref, None)
        return Expire(path, ref.id, meta.touched_at)

    def forget(self, ref: StreamRef) -> None:
        """The stream is gone."""
        self._renewed.pop(ref, None)

    # --------------------------------------------------------------------------------------------------------- reads

    async def living(self, path: str, *, renews: bool = False) -> Found:
        """The stream at ``path``, as new as anything that anybody was told before the call.

        Args:
            path: where it is.
            renews: whether its sliding window, if it has one, begins anew.

        Raises:
            Unavailable: no leader answers.
            StorageError: the store cannot be read.

        """
        if self._group.alone:
            self.check_leads()
        asked = self._deadline(path)
        if not self._group.alone:
            led = self._leader
            if asked and self._group.can_read:
                await self._settle(path, renews=renews)
            await self._driver.barrier(path if asked else None, renews=renews)
            if self._deadline(path) and (not asked or self._leader != led):
                # It came with what was waited for; or there is another leader, perhaps this node, that was not asked.
                return await self.living(path, renews=renews)
        elif asked:
            await self._settle(path, renews=renews)
        return self.here(path)

    def living_now(self, path: str) -> Found | None:
        """The same, if nobody need be asked: of a stream without a deadline, in a group of one; else None.

        Raises as ``living``.
        """
        if not self._group.alone or self._deadline(path):
            return None
        self.check_leads()
        return self.here(path)

    @property
    def _leader(self) -> tuple[Term, NodeId | None]:
        return self._group.core.term, self._group.core.leader

    def here(self, path: str) -> Found:
        """The stream at ``path``, as this node shows it; raises ``StorageError``."""
        ref = self._view.find(path)
        meta = self._view.meta(ref) if ref is not None else None
        if ref is None or meta is None:
            return NotFound()
        return SoftDeleted() if meta.deleted else (ref, meta)

    def check_leads(self) -> None:
        """Raise ``Unavailable`` unless this node leads, and so a group of one is as new as can be."""
        if self._driver.failure is not None:
            raise Unavailable("this node has failed and is stopping")
        if not self._group.can_read:
            raise Unavailable("no leader yet")

    def _deadline(self, path: str) -> bool:
        ref = self._view.find(path)
        meta = self._view.meta(ref) if ref is not None else None
        return meta is not None and (meta.ttl_s is not None or meta.expires_at_ms is not None)

    async def _settle(self, path: str, *, renews: bool) -> None:
        """On the leader: end the stream if its time is up; else give it more, if it is read."""
        while True:
            ended = self.expire_if_due(path)
            if ended is not None:
                await ended
            ref = self._view.find(path) if renews else None
            meta = self._view.meta(ref) if ref is not None else None
            if ref is None or meta is None or meta.deleted or meta.ttl_s is None:
                return
            if not await self._renew(path, ref, meta):
                return
            renews = False  # But it took a wait: the stream may be another one, or over.

    def expire_if_due(self, path: str) -> Answer | None:
        """Propose the end of the stream at ``path`` when its time is up; None when it is not."""
        try:
            over = self._over(path)
        except StorageError as error:
            self._driver.fail(error)
            raise Unavailable("this node has failed and is stopping") from error
        return self._driver.propose(over[0], COMMAND_BYTES) if over else None

    def is_due(self, ref: StreamRef, meta: StreamMeta) -> bool:
        """Whether its time is up, as far as this node knows."""
        if meta.ttl_s is None and meta.expires_at_ms is None:
            return False
        now = self._driver.now()
        cluster_ms = self._group.time.at(now)
        led_since = self._group.lead.since_ms
        if cluster_ms - led_since < SETTLING_MS and meta.touched_at < led_since:
            return False
        touched_at = self._renewed.get(ref, 0)
        return lifetime.due(
            meta, touched_at, cluster_ms, now.wall_ms, slack=max(touched_at, meta.touched_at) < led_since
        )

    async def _renew(self, path: str, ref: StreamRef, meta: StreamMeta) -> bool:
        """Reading restarts the window. A touch is recorded (replicated) once the recorded one is a tenth of it old.

        Returns:
            Whether that took a wait.

        """
        cluster_ms = self._group.time.at(self._driver.now())
        if cluster_ms - meta.touched_at < lifetime.coalesce_ms(meta):
            self._renewed[ref] = cluster_ms
            return False
        try:
            touched = self._driver.propose(Touch(path, ref.id), COMMAND_BYTES)
        except Overloaded:
            self._renewed[ref] = cluster_ms  # recorded by a later read; what is stored is still read meanwhile
            return False
        await touched
        # Only now: had it failed, earlier reads would have lost their renewal with it.
        if self._renewed.get(ref, 0) <= cluster_ms:
            self._renewed.pop(ref, None)
        return True

    # ------------------------------------------------------------------------------------------------- for other nodes

    def _on_asked(self, asked: Asked) -> None:
        task = asyncio.ensure_future(self._answer(asked))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, asked: Asked) -> None:
        try:
            for path in asked.seen:
                await self._settle(path, renews=False)
            for path in asked.renewed:
                await self._settle(path, renews=True)
        except ClusterError:
            return  # The asker comes back, to this leader or to the next.
        self._driver.answer_read(asked)
