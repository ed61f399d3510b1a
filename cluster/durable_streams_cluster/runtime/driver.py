"""The only event pump: runs turns and carries out their effects, in the order that ``replica`` demands.

One sync is under way at a time, and one entry (``Lead.holds``). What arrives meanwhile waits for the next turn and
shares its batch: under load the pace of a majority's disks makes the batches, and an idle node answers after one sync.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import cast

from durable_streams_cluster.answer import Answer, finish
from durable_streams_cluster.clock import Clock
from durable_streams_cluster.errors import (
    CorruptData,
    OutcomeUnknown,
    ShuttingDown,
    StorageError,
    Unavailable,
)
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.replica.barriers import Barrier
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.effects import Asked, Effects
from durable_streams_cluster.replica.exchange import PROMISES
from durable_streams_cluster.replica.members import Result, Wish
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.replica.tails import Tails
from durable_streams_cluster.runtime import wire
from durable_streams_cluster.runtime.admission import Admission
from durable_streams_cluster.runtime.answers import BEHIND, NOTHING_STORED, REFUSALS, raise_in
from durable_streams_cluster.runtime.disk import Disk
from durable_streams_cluster.runtime.hand_over import HandOver
from durable_streams_cluster.runtime.removal import Removal
from durable_streams_cluster.runtime.syncs import Syncs
from durable_streams_cluster.runtime.ticking import Ticking
from durable_streams_cluster.runtime.transport import Nowhere, Transport
from durable_streams_cluster.runtime.turns import Turns
from durable_streams_cluster.runtime.upkeep import Upkeep
from durable_streams_cluster.runtime.wall import WallClock
from durable_streams_cluster.storage.kv import Kv, WriteStalled
from durable_streams_cluster.streams.commands import Command
from durable_streams_cluster.streams.outcomes import Outcome

log = logging.getLogger(__name__)

MAX_WAITING_MESSAGES = 1000
"""Of other nodes, while the store takes no write."""
FEW_COMPLETIONS = 64
"""Are told before anything is sent."""
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
        transport: Transport | None = None,
    ) -> None:
        """``fatal`` is called once, with what made the node unable to go on; the process must end."""
        self.transport: Transport = transport or Nowhere()
        self.on_asked: Callable[[Asked], None] = lambda _: None
        """Another node asks this leader for a read: the service sees to the streams first."""
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
        self._turns = Turns(self._loop, self._turn)
        self._syncs = Syncs(kv, self._disk, clock, metrics, self._synced, self.fail)
        self._held: Effects | None = None
        """What the store refused for now: admission is closed until it takes it."""
        self._held_since_ms = 0
        self._stall_said_ms = -STALL_SAID_MS
        self._draining = False
        self._closed = False
        self.counts_time = False
        """Whether something counts on cluster time that no stream tells of: retention by age."""
        self._upkeep = Upkeep(kv, self._disk, self.fail)
        self.space = self._upkeep.space
        self.admission = Admission(limits, self.space, replica.group)
        replica.group.lead.refuses = self.admission.refuses
        replica.group.intake.room, replica.group.intake.spares = self.space.room, self.space.spares
        self._settled = True
        """Nothing was written since the last sync of an idle node."""
        self._idle: asyncio.Future[None] | None = None
        self._led: asyncio.Future[None] = self._loop.create_future()
        """This node can serve alone; of several, none waits for it."""
        self._led.add_done_callback(lambda led: led.cancelled() or led.exception())
        self.removal = Removal(replica.group, self.admission, self._go_on)
        self.hand_over = HandOver(replica.group, self._go_on, lambda: self.failure is None and not self.removal.known)
        self._ticking = Ticking(replica, self._go_on)
        self.watchers: list[Callable[[object], None]] = [self.hand_over.watch, self._ticking.watch, self.removal.watch]
        """Are told of each event."""

    def now(self) -> Now:
        """The clocks; the wall's as far as it is believed."""
        steady_ms = self._clock.steady_ms()
        return Now(steady_ms, self.wall.believe(steady_ms, self._clock.wall_ms()))

    async def start(self) -> None:
        """Begin: alone, elect oneself and apply what the log holds, and return when all can be served."""
        self.look()  # comes before the first sync, and so before anything is served
        self._ticking.start()
        self.removal.look()
        if self.replica.group.alone:
            await self._led

    async def is_served(self) -> None:
        """Return when there is a leader, and this node shows what was committed before; if it was removed, never."""
        while True:
            try:
                await self.barrier()
            except Unavailable:
                if self.failure is not None:
                    raise
                if self.removal.known:
                    await self._loop.create_future()
            else:
                return

    def deliver(self, sender: NodeId, incarnation: int, payload: bytes) -> None:
        """A payload came from another node; one that cannot be read is dropped, and what it held is sent again.

        Of another data directory than a member's, under its name, only what anybody may ask or tell is heard: what it
        promises counts for nobody, for it has forgotten what the member promised. It may have taken the member's place,
        and lead, in a membership that this node has not got yet.
        """
        if self.failure is not None or self._closed:
            return
        try:
            packet = wire.unpack(payload)
        except CorruptData as error:
            self._metrics.peer_unreadable += 1
            log.warning("%s sent what cannot be read: %s", sender, error)
            return
        if self._held is not None and self.replica.group.waiting_messages > MAX_WAITING_MESSAGES:
            return  # As if it was lost on the way: the store takes no write, and memory is bounded.
        known = self.replica.group.core.membership.member(sender)
        messages = packet.messages
        if known is not None and known.incarnation not in (0, incarnation):
            messages = [message for message in messages if not isinstance(message, PROMISES)]
        self.replica.deliver(sender, messages)
        self._go_on()

    def lost(self, peer: NodeId) -> None:
        """What was sent to ``peer`` may be lost."""
        if self.replica.lost(peer):
            self.hand_over.another_leads()
        self._go_on()

    def answer_read(self, asked: Asked) -> None:
        """What ``on_asked`` was asked for is done."""
        self.replica.answer_read(asked.sender, asked.number)
        self._go_on()

    def _go_on(self) -> None:
        """Take a turn soon; while the store takes no write, send what must not wait."""
        if self._held is not None or self._syncs.flushes:
            self._send(self.replica.urgent())
        else:
            self._turns.soon()

    def propose(self, command: Command, size: int) -> Answer:
        """Propose a command; the answer gets its replicated outcome.

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
        self.removal.refuse()
        if self._draining:
            raise ShuttingDown("this node is shutting down")
        try:
            self.admission.admit(command, size)
        except StorageError as error:
            self.fail(error)
            raise Unavailable("this node has failed and is stopping") from error
        answer = Answer()
        self.replica.propose(command, (answer, size), self._clock.steady_ms())
        # What is under way ends with a turn: all that comes in meanwhile shares it.
        if not (self._turns.due or self._syncs.under_way or (self._turns.in_time and self.replica.holds)):
            self._turns.soon()
        return answer

    async def barrier(self, path: str | None = None, *, renews: bool = False) -> None:
        """Return when what this node shows is as new as anything that anybody was told before the call.

        Args:
            path: the stream that is going to be read, if it has a deadline: the leader ends it first if its time is up.
            renews: and begins its sliding window anew if not.

        Raises:
            Unavailable: no leader answers, or this node was removed.

        """
        if self.failure is not None:
            raise Unavailable("this node has failed and is stopping")
        self.removal.refuse()
        future: asyncio.Future[None] = self._loop.create_future()
        self.replica.read(Barrier(future, self._clock.steady_ms(), path, renews))
        if not self._turns.due:
            self._go_on()
        await future

    def change(self, wish: Wish, told: Callable[[Result], None]) -> None:
        """Let this leader change who belongs to the cluster; ``told`` is called once, unless this node fails."""
        self.replica.group.change(wish, told)
        self._go_on()

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
            self._turns.soon()

    def close(self) -> bool:
        """No more turns; end the disk's thread and close the store, in bounded time. False when the disk hangs."""
        self._closed = True
        self._ticking.stop()
        self.replica.group.close()
        return self._disk.close() and self._disk.release()

    # -------------------------------------------------------------------------------------------------------- turns

    def _turn(self) -> None:
        if self._held is not None or self._syncs.flushes or self._closed or self.failure is not None:
            return
        try:
            self._carry_out(self.replica.turn(self.now(), syncing=self._syncs.under_way))
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
        self.admission.stalled = False
        self._metrics.turns += 1
        for token in self.replica.written():
            finish(cast("asyncio.Future[None]", token))
        # What is sent is needed by others to go on, if there are entries; else it is news, and not so urgent.
        tells_first = not effects.must_sync and len(effects.completions) <= FEW_COMPLETIONS
        if tells_first:
            self._tell(effects.completions)
        self._send(effects)
        if effects.must_sync:
            self._syncs.want(effects.ticket)
        later = self._loop.call_soon if effects.outbox else None
        if self._syncs.begin_if_due(later):
            if later is not None:  # Behind the flush, on the disk's thread.
                later(self.look)
            else:
                self.look()
        self._answer(effects)
        if effects.completions and not tells_first:
            self._loop.call_soon(self._tell, effects.completions)
        if effects.more:
            self._turns.soon()
        if effects.held_ms:
            self._turns.within(effects.held_ms)
        if not self._led.done() and self.replica.group.can_read:
            self._led.set_result(None)

    def _send(self, effects: Effects) -> None:
        lost = [to for to, kind, payload in wire.pack(effects.outbox) if not self.transport.send(to, payload, kind)]
        for peer in dict.fromkeys(lost):
            self.replica.lost(peer)

    def _answer(self, effects: Effects) -> None:
        for event in effects.events:
            log.info("group %d: %s", self.replica.group.id, event)
            for watch in self.watchers:
                watch(event)
        for each in effects.changes:
            cast("Callable[[Result], None]", each.token)(each.result)
        for token, reason in effects.refusals:
            self.admission.release(token).tell(REFUSALS[reason]())
        for token in effects.unknown:
            self.admission.release(token).tell(OutcomeUnknown(BEHIND))
        for asked in effects.asked:
            self.on_asked(asked)
        if effects.wakes or effects.all_moved:
            self._wake(self.tails.wakes(self.tails.paths if effects.all_moved else effects.wakes))

    def _tell(self, completions: list[tuple[object, Outcome]]) -> None:
        for token, outcome in completions:
            self.admission.release(token).tell(outcome)
        self._check_idle()

    def _wake(self, callbacks: list[Callable[[], None]]) -> None:
        """Wake those who watch, in slices: each takes a moment to answer, and the loop serves others, too."""
        for wake in callbacks[:WAKE_SLICE]:
            wake()
        if len(callbacks) > WAKE_SLICE:
            self._loop.call_soon(self._wake, callbacks[WAKE_SLICE:])

    def _synced(self, durable: int | None) -> None:
        if durable is not None:
            self.replica.durable(durable)
        self._turn()

    def _quiet(self) -> bool:
        """Whether nothing waits, and no turn or sync is due or under way."""
        busy = self.admission.waiting or self._syncs.under_way or self._turns.due or self._held is not None
        return self.failure is not None or not busy

    def _check_idle(self) -> None:
        if self._idle is not None and self._quiet():
            finish(self._idle)

    def give_up_overdue(self) -> None:
        """Answer whoever has waited longer than ``Limits.proposal_timeout_s``: not stored, or nobody knows."""
        timeout_ms = int(self._limits.proposal_timeout_s * 1000)
        withdrawn, unknown = self.replica.give_up(self._clock.steady_ms() - timeout_ms)
        if self._held is not None and self._clock.steady_ms() - self._held_since_ms > timeout_ms:
            unknown += [token for token, _ in self._held.completions]
            self._held.completions.clear()
        self.admission.give_up(withdrawn, unknown, NOTHING_STORED)
        self._check_idle()

    def settle(self) -> None:
        """Sync what an idle node wrote last, and flush what is due though nothing is written.

        Applied state needs no sync of its own; with one, the next start has nothing
        to apply again, and what is durable is on record for recovery (``storage.recovery``).
        """
        if self._syncs.under_way or self._held is not None or self.admission.waiting or self.failure is not None:
            return
        flush = self._kv.flush_due()
        if self._settled and not flush:
            return
        self._settled = True
        self._syncs.begin(flush=flush)

    def look(self) -> None:
        """Look for faults that no call reported, and at the room on disk; nothing while a look is under way."""
        if not self._closed and self.failure is None:
            self._upkeep.look()

    def reclaim(self) -> None:
        """Give back room on disk, if that is due and not under way."""
        if not self._closed and self.failure is None:
            self._upkeep.reclaim()

    def _stall(self, effects: Effects) -> None:
        """Nothing of the batch was written: admission closes and the same effects are tried again."""
        now_ms = self._clock.steady_ms()
        if self._held is None:
            self._held_since_ms = now_ms
            if now_ms - self._stall_said_ms >= STALL_SAID_MS:
                self._stall_said_ms = now_ms
                log.warning("the store refuses writes for now; new appends get 429 until it takes them again")
        self._held = effects
        self.admission.stalled = True
        if not self._syncs.under_way and self._kv.flush_due():
            self._syncs.begin(flush=True)
        self._loop.call_later(STALL_RETRY_S, self._retry, effects)

    def _retry(self, effects: Effects) -> None:
        if self._closed or self.failure is not None:
            return
        if self._syncs.flushes:
            self._loop.call_later(STALL_RETRY_S, self._retry, effects)
            return
        try:
            self._carry_out(effects)
        except Exception as error:
            self.fail(error)
            return
        if self._held is None:
            self._turns.soon()

    def fail(self, error: BaseException) -> None:
        """End the node. Nothing is answered any more: what was in flight may or may not be stored."""
        if self.failure is None:
            wrapped = StorageError(f"{type(error).__name__}: {error}")
            self.failure = error if isinstance(error, StorageError) else wrapped
            self._ticking.stop()
            log.critical("this node cannot go on: %s", self.failure, exc_info=error)
            if self._idle is not None:
                finish(self._idle)
            raise_in(self._led, self.failure)
            self._fatal(self.failure)
