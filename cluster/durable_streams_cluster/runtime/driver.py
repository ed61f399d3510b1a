"""The only event pump: runs turns and carries out their effects, in the order that ``replica`` demands.

One sync is under way at a time. What arrives meanwhile waits for the next turn and shares its batch: under load the
disk's pace makes the batches, and an idle node answers after one sync.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import cast

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.errors import (
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    StorageError,
    StorageFull,
    Unavailable,
)
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.group import Now
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.replica.tails import Tails
from durable_streams_cluster.runtime.disk import Disk
from durable_streams_cluster.runtime.space import NO_ROOM, DiskSpace, grows, only_asks
from durable_streams_cluster.runtime.wall import WallClock
from durable_streams_cluster.storage.kv import Kv, Space, WriteStalled
from durable_streams_cluster.streams.commands import Append, Command, Create
from durable_streams_cluster.streams.outcomes import Outcome

log = logging.getLogger(__name__)

WAKE_SLICE = 50
"""Live readers that are woken before the loop gets its turn: some four milliseconds."""
STALL_RETRY_S = 0.005
STALL_SAID_MS = 10_000
"""A disk that is too slow for what is sent stalls many times a second: said this often."""


class Driver:
    """Owns the replica and the store; everything happens on one event loop."""

    def __init__(
        self,
        replica: Replica,
        kv: Kv,
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
        fatal: Callable[[BaseException], None],
    ) -> None:
        """``fatal`` is called once, with what made the node unable to go on; the process must end."""
        self.replica = replica
        self.tails = Tails()
        self.failure: BaseException | None = None
        self._kv = kv
        self._clock = clock
        self.wall = WallClock(clock.steady_ms(), clock.wall_ms())
        self._limits = limits
        self._metrics = metrics
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._disk = Disk(kv, self._loop)
        self._scheduled = False
        self._busy = False
        """A sync is under way, or a refused batch waits: no turn may run."""
        self._held: Effects | None = None
        """What the store refused for now: admission is closed until it takes it."""
        self._held_since_ms = 0
        self._stall_said_ms = -STALL_SAID_MS
        self._draining = False
        self._closed = False
        self._reclaiming = False
        self.counts_time = False
        """Whether something counts on cluster time that no stream tells of: retention by age."""
        self._looking = False
        self.space = DiskSpace()
        self._settled = True
        """Nothing was written since the last sync of an idle node."""
        self._inflight_bytes = 0
        self._waiting = 0
        self._idle: asyncio.Future[None] | None = None
        self._led: asyncio.Future[None] = self._loop.create_future()

    def now(self) -> Now:
        """The clocks; the wall's as far as it is believed."""
        steady_ms = self._clock.steady_ms()
        return Now(steady_ms, self.wall.believe(steady_ms, self._clock.wall_ms()))

    async def start(self) -> None:
        """Elect a leader and apply what the log holds; returns when reads and writes can be served."""
        self.replica.tick()
        self.look()  # comes before the first sync, and so before anything is served
        self._kick()
        await self._led

    def propose(self, command: Command, size: int) -> asyncio.Future[Outcome]:
        """Propose a command; the future gets its replicated outcome.

        Args:
            command: What should happen.
            size: Bytes it holds in memory, counted against ``Limits.max_inflight_bytes``.

        Raises:
            Overloaded: too much is in flight, or the store is stalled; nothing was proposed.
            StorageFull: the disk is almost full and the command would take room; nothing was proposed.
            ShuttingDown, Unavailable: nothing was proposed.

        """
        if self.failure is not None:
            raise Unavailable("this node has failed and is stopping")
        if self._draining:
            raise ShuttingDown("this node is shutting down")
        if self._held is not None:
            raise Overloaded("the store is busy writing out what it has; nothing was stored")
        if self._inflight_bytes and self._inflight_bytes + size > self._limits.max_inflight_bytes:
            raise Overloaded("too many bytes are waiting to be stored; nothing was stored")
        if self._waiting >= self._limits.max_pending_proposals:
            raise Overloaded("too many operations are waiting; nothing was stored")
        if grows(command) and not self._has_room(command, size):
            raise StorageFull(NO_ROOM)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._inflight_bytes += size
        self._waiting += 1
        self.replica.propose(command, (future, size), self._clock.steady_ms())
        if not self._scheduled and not self._busy:
            self._kick()
        return future

    def _has_room(self, command: Create | Append, size: int) -> bool:
        # Twice: everything is written as an entry of the log, and again when it is applied.
        coming = 2 * (self._inflight_bytes + size)
        if self.space.has(coming):
            return True
        if command.body and not self.space.has(coming, stays=False):
            return False
        try:
            return only_asks(self.replica.group.store.committed, command)
        except StorageError as error:
            self.fail(error)
            raise Unavailable("this node has failed and is stopping") from error

    async def drain(self) -> None:
        """Refuse new proposals and wait, at most ``Limits.drain_timeout_s``, for those in flight to be answered.

        A last entry keeps the cluster time that passed since the one before, if anything counts on it.
        """
        self._draining = True
        self.stamp()
        if not self._quiet():
            self._idle = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle, self._limits.drain_timeout_s)

    def stamp(self) -> None:
        """Put the present cluster time into the log, if a stream's window or retention counts on it.

        What is not in the log is lost at a restart: a node that is idle and restarted again and again would never see
        the end of any window, nor of the time that an append is kept.
        """
        if self.failure is None and self._held is None and self.replica.stamp(self.now(), counts=self.counts_time):
            self._kick()

    def close(self) -> bool:
        """No more turns; end the disk's thread and close the store, in bounded time. False when the disk hangs."""
        self._closed = True
        return self._disk.close() and self._disk.release()

    @property
    def waiting(self) -> int:
        """Operations that wait for their outcome."""
        return self._waiting

    @property
    def inflight_bytes(self) -> int:
        """Bytes that the waiting operations hold."""
        return self._inflight_bytes

    # -------------------------------------------------------------------------------------------------------- turns

    def _kick(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._busy or self._closed or self.failure is not None:
            return
        try:
            self._carry_out(self.replica.turn(self.now()))
        except Exception as error:
            self.fail(error)
        self._check_idle()

    def _carry_out(self, effects: Effects) -> None:
        if effects.batch:
            self._settled = False
            try:
                self._kv.write(effects.batch)
            except WriteStalled:
                self._stall(effects)
                return
            self.space.spend(effects.batch.size)
        self._held = None
        self._metrics.turns += 1
        self.replica.written()
        for event in effects.events:
            log.info("%s leads group %d in term %d", event.node, self.replica.group.id, event.term)
        for token, outcome in effects.completions:
            future = self._released(token)
            if not future.done():
                future.set_result(outcome)
        if effects.wakes:
            self._wake(self.tails.wakes(effects.wakes))
        flush = self._kv.flush_due()
        if effects.must_sync or flush:
            self._busy = True
            ticket, began_ns = effects.ticket, self._clock.steady_ns()
            self._disk.sync(lambda failure: self._synced(ticket, began_ns, failure), then_flush=flush)
            if flush:
                self.look()
        if not self._led.done() and self.replica.group.core.can_read:
            self._led.set_result(None)

    def _wake(self, callbacks: list[Callable[[], None]]) -> None:
        """Wake those who watch, in slices: each takes a moment to answer, and the loop serves others, too."""
        for wake in callbacks[:WAKE_SLICE]:
            wake()
        if len(callbacks) > WAKE_SLICE:
            self._loop.call_soon(self._wake, callbacks[WAKE_SLICE:])

    def _synced(self, ticket: int, began_ns: int, failure: BaseException | None) -> None:
        if failure is not None:
            self.fail(failure)
            return
        self._busy = False
        self._metrics.wal_syncs += 1
        self._metrics.wal_sync_seconds.observe((self._clock.steady_ns() - began_ns) / 1e9)
        if ticket:
            self.replica.durable(ticket)
        self._turn()

    def _released(self, token: object) -> asyncio.Future[Outcome]:
        """The future of a proposal that is answered now; what it held is free."""
        future, size = cast("tuple[asyncio.Future[Outcome], int]", token)
        self._inflight_bytes -= size
        self._waiting -= 1
        return future

    def _quiet(self) -> bool:
        """Whether nothing waits, and no turn or sync is due or under way."""
        return self.failure is not None or not (self._waiting or self._busy or self._scheduled)

    def _check_idle(self) -> None:
        if self._idle is not None and not self._idle.done() and self._quiet():
            self._idle.set_result(None)

    def give_up_overdue(self) -> None:
        """Answer whoever has waited longer than ``Limits.proposal_timeout_s``: not stored, or nobody knows."""
        timeout_ms = int(self._limits.proposal_timeout_s * 1000)
        withdrawn, unknown = self.replica.give_up(self._clock.steady_ms() - timeout_ms)
        if self._held is not None and self._clock.steady_ms() - self._held_since_ms > timeout_ms:
            unknown += [token for token, _ in self._held.completions]
            self._held.completions.clear()
        for token in withdrawn:
            _raise_in(self._released(token), Unavailable("the disk does not answer; nothing was stored"))
        for token in unknown:
            _raise_in(self._released(token), OutcomeUnknown("the disk does not answer; it may or may not be stored"))
        self._check_idle()

    def settle(self) -> None:
        """Sync what an idle node wrote last, and flush what is due though nothing is written.

        Applied state needs no sync of its own; with one, the next start has nothing
        to apply again, and what is durable is on record for recovery (``storage.recovery``).
        """
        if self._busy or self._waiting or self.failure is not None:
            return
        flush = self._kv.flush_due()
        if self._settled and not flush:
            return
        self._settled = self._busy = True
        began_ns = self._clock.steady_ns()
        self._disk.sync(lambda failure: self._synced(0, began_ns, failure), then_flush=flush)

    def look(self) -> None:
        """Look for faults that no call reported, and at the room on disk; nothing while a look is under way."""
        if not self._looking and not self._closed and self.failure is None:
            self._looking = True
            self.space.begin_look()
            self._disk.tend(self._looked)

    def _looked(self, space: Space | None, failure: BaseException | None) -> None:
        self._looking = False
        if failure is not None:
            self.fail(failure)
            return
        self.space.see(space)

    def reclaim(self) -> None:
        """Give back room on disk, if that is due and not under way."""
        if not self._reclaiming and not self._closed and self.failure is None and self._kv.reclaim_due():
            self._reclaiming = True
            self._disk.reclaim(self._reclaimed)

    def _reclaimed(self, failure: BaseException | None) -> None:
        self._reclaiming = False
        if failure is not None:
            self.fail(failure)

    def _stall(self, effects: Effects) -> None:
        """Nothing of the batch was written: admission closes and the same effects are tried again."""
        now_ms = self._clock.steady_ms()
        if self._held is None:
            self._held_since_ms = now_ms
            if now_ms - self._stall_said_ms >= STALL_SAID_MS:
                self._stall_said_ms = now_ms
                log.warning("the store refuses writes for now; new appends get 429 until it takes them again")
        self._held, self._busy = effects, True
        if self._kv.flush_due():
            self._disk.sync(lambda failure: self._retry(effects, failure), then_flush=True)
        else:
            self._loop.call_later(STALL_RETRY_S, self._retry, effects)

    def _retry(self, effects: Effects, failure: BaseException | None = None) -> None:
        if failure is not None:
            self.fail(failure)
        if self._closed or self.failure is not None:
            return
        self._busy = False
        try:
            self._carry_out(effects)
        except Exception as error:
            self.fail(error)
            return
        if not self._busy:
            self._kick()

    def fail(self, error: BaseException) -> None:
        """End the node. Nothing is answered any more: what was in flight may or may not be stored."""
        if self.failure is None:
            self.failure = (
                error if isinstance(error, StorageError) else StorageError(f"{type(error).__name__}: {error}")
            )
            log.critical("this node cannot go on: %s", self.failure, exc_info=error)
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            if not self._led.done():
                self._led.set_exception(self.failure)
            self._fatal(self.failure)


def _raise_in(future: asyncio.Future[Outcome], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
