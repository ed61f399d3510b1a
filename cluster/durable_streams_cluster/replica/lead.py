"""What a leader does with writes, its own and those that others forward: takes them or not, stamps and appends them."""

from collections import deque
from collections.abc import Callable, Iterable

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.limits import MAX_ENTRY_BYTES, MAX_INFLIGHT_BYTES
from durable_streams_cluster.raft import EntryKind, RaftCore
from durable_streams_cluster.replica.cluster_time import ClusterTime, Now
from durable_streams_cluster.replica.exchange import Reason
from durable_streams_cluster.replica.proposals import Proposals, size_of
from durable_streams_cluster.storage.codecs import Origin, Proposal, encode_proposals
from durable_streams_cluster.storage.raft_log import RaftLogStore
from durable_streams_cluster.streams.commands import Append, Command

NOBODY = Origin()
HOLD_MS = 20
"""Writes wait so long, at most, for the entries under way: several times as long as a majority nearby takes."""


class Lead:
    """Of one group; it does nothing while the node follows."""

    def __init__(self, core: RaftCore, log: RaftLogStore, time: ClusterTime) -> None:
        self._core = core
        self._log = log
        self._time = time
        self.since_ms = 0
        """Cluster time at which this node began to lead."""
        self.refuses: Callable[[Command, int], Reason | None] = lambda command, size: None
        """Whether a command of another node is not taken now, for want of room or because the store is behind."""
        self.prepare: Callable[[Command], tuple[Command, ...]] = lambda command: (command,)
        """What goes into the log for a command: before it the end of a stream whose time is up."""
        self._term: Term | None = None
        self._foreign: deque[tuple[Proposal, int]] = deque()
        """Of other nodes, to be proposed in the next turn; with their size."""
        self._unapplied: deque[tuple[Index, int]] = deque()
        """Entries proposed here and not applied, and their bytes."""
        self._unapplied_bytes = 0
        self._appended_ms = 0
        """When the newest entry with commands was appended here (steady)."""

    def take(self, proposals: Iterable[Proposal]) -> dict[Reason, list[int]]:
        """Another node forwards these: sequence numbers of those that are not taken, and why.

        What is behind one that finds no room finds none either, however small: it would overtake what is given again.
        """
        refused: dict[Reason, list[int]] = {}
        for proposal in proposals:
            size = size_of(proposal.command)
            full = Reason.OVERLOADED in refused
            reason = Reason.OVERLOADED if full else self._refusal(proposal.command, size)
            if reason is None:
                self._foreign.append((proposal, size))
                self._unapplied_bytes += size
            else:
                refused.setdefault(reason, []).append(proposal.origin.sequence)
        return refused

    def _refusal(self, command: Command, size: int) -> Reason | None:
        if not self._core.may_propose:
            return Reason.NOT_LEADER
        if self._unapplied_bytes and self._unapplied_bytes + size > MAX_INFLIGHT_BYTES:
            return Reason.OVERLOADED
        return self.refuses(command, size)

    def begin(self, now: Now) -> None:
        """Before anything else of the term: restart the clock, and append an entry that commits all before it.

        The clock begins above the newest stamp in the log, applied or not, and above what the last leader's heartbeats
        told: it never goes back, and what this leader stamped is told from what others did.
        """
        if self._term == self._core.term:
            return
        last = self._log.entry(self._log.last) if self._log.last else None
        newest = max(self._time.at(now), self._core.cluster_ms, last.cluster_ms + 1 if last is not None else 0)
        self._time.begin_at(newest, now)
        self._term, self.since_ms = self._core.term, newest
        self._core.propose(EntryKind.NOOP, b"", newest, now.wall_ms)

    def stamp(self, now: Now) -> None:
        """Append an entry that only keeps the time."""
        self._core.propose(EntryKind.NOOP, b"", self._time.at(now), now.wall_ms)

    @property
    def holds(self) -> bool:
        """Whether this node leads and entries are under way: what comes in now shares the next one.

        An entry costs its leader and each follower as much time as twenty small appends (measured). With one under way
        at a time, one part of the writers is answered and writes again while the other part's appends are replicated,
        and the news of what is committed travels with the next entry.
        """
        return self._core.may_propose and self._core.has_uncommitted

    def append(self, own: Proposals, now: Now, *, syncing: bool) -> int:
        """Append all that waits, what came in here and what others forwarded; or hold it.

        Rounds overlap where a majority is far away: the newest entry is waited for no longer than ``HOLD_MS``. But
        while this disk is busy with it (``syncing``), another could only wait for the disk, too.

        Returns:
            For how many milliseconds it may still be held; 0 when nothing waits, or the end of the sync is waited for.

        """
        if not (own.waits or self._foreign):
            return 0
        held_ms = max(0, self._appended_ms + HOLD_MS - now.steady_ms)
        if self.holds and (held_ms or syncing):
            return held_ms
        self._appended_ms = now.steady_ms
        while own.waits:
            self._append([each.proposal for each in own.take(MAX_ENTRY_BYTES)], now)
        while self._foreign:
            taken: list[Proposal] = []
            size = 0
            while self._foreign and (not taken or size + self._foreign[0][1] <= MAX_ENTRY_BYTES):
                proposal, needs = self._foreign.popleft()
                taken.append(proposal)
                size += needs
                self._unapplied_bytes -= needs  # counted by entry from here on
            self._append(taken, now)
        return 0

    def _append(self, proposals: list[Proposal], now: Now) -> None:
        if not proposals:
            return
        prepared: list[Proposal] = []
        looked_at: set[str] = set()
        for each in proposals:
            if type(each.command) is Append:
                if each.command.path in looked_at:
                    prepared.append(each)  # What ends before it would be the same again, and is there already.
                    continue
                looked_at.add(each.command.path)
            *before, command = self.prepare(each.command)
            prepared += [Proposal(NOBODY, ending) for ending in before]
            prepared.append(each if command is each.command else Proposal(each.origin, command))
        data = encode_proposals(prepared)
        made = self._core.propose(EntryKind.COMMANDS, data, self._time.at(now), now.wall_ms)
        self._unapplied.append((made.index, len(data)))
        self._unapplied_bytes += len(data)

    def applied(self, index: Index) -> None:
        """Everything up to ``index`` is applied: what it held is free."""
        while self._unapplied and self._unapplied[0][0] <= index:
            self._unapplied_bytes -= self._unapplied.popleft()[1]

    def drop(self) -> None:
        """Not leading any more: whoever sent what waits gives it to the next leader."""
        self._foreign.clear()
        self._unapplied.clear()
        self._unapplied_bytes = 0
