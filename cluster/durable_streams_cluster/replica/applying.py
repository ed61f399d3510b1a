"""Committed entries become state, outcomes and wakes; the same on every replica."""

from collections.abc import Iterator
from typing import cast

from durable_streams_cluster.errors import FromNewerBuild
from durable_streams_cluster.raft import FEATURE_LEVEL, Entry, EntryKind
from durable_streams_cluster.raft.membership import decode
from durable_streams_cluster.replica.divergence import Did, Hashed, Hashes
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.proposals import Own, Proposals
from durable_streams_cluster.replica.sessions import Sessions
from durable_streams_cluster.storage.codecs import Session, decode_proposals
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams import machine
from durable_streams_cluster.streams.commands import Append, Command, Stamp


class Applier:
    """Of one group."""

    def __init__(self, store: StreamStore, own: Proposals) -> None:
        """``own`` are the writes that wait here for their outcome."""
        self._store = store
        self._own = own
        self.sessions = Sessions(store.sessions())
        self.hashes = Hashes()

    def restart(self, sessions: dict[int, Session]) -> None:
        """A snapshot took the place of what was applied."""
        self.sessions = Sessions(sessions)
        self.hashes = Hashes()

    def apply(self, effects: Effects, entries: tuple[Entry, ...]) -> list[Hashed]:
        """Apply in order, one at least, and stage how far that came.

        Returns:
            A hash for each window of entries that ended.

        Raises:
            CorruptData: an entry cannot be read; or the leader's replica differs.
            FromNewerBuild: an entry needs a newer build.

        """
        hashed = []
        for entry in entries:
            if entry.feature_level > FEATURE_LEVEL:
                raise FromNewerBuild(
                    f"log entry {entry.index} needs feature level {entry.feature_level}, this build knows "
                    f"{FEATURE_LEVEL}: run the newer build on this node"
                )
            if entry.kind is EntryKind.COMMANDS:
                self._commands(effects, entry)
            elif entry.kind is EntryKind.MEMBERSHIP:
                self._store.know_members(effects.batch, decode(entry.data))
            window = self.hashes.end_of(entry.index)
            if window is not None:
                hashed.append(window)
        newest = entries[-1]
        self._store.finish(effects.batch, newest.index, newest.term, newest.cluster_ms, self.sessions.changes())
        return hashed

    def _commands(self, effects: Effects, entry: Entry) -> None:
        stamp = Stamp(entry.cluster_ms, entry.wall_ms)
        did: list[Did] = []
        for run in self._runs(entry):
            command = run[0][0]
            if type(command) is Append:
                appends = machine.apply_run(self._store, [cast("Append", each) for each, _ in run], stamp)
                outcomes, writes, wakes = appends.outcomes, appends.writes, appends.wakes
            else:
                applied = machine.apply(self._store, command, stamp)
                outcomes, writes, wakes = (applied.outcome,), applied.writes, applied.wakes
            did.append((outcomes, writes))
            self._store.stage(effects.batch, writes)
            effects.wakes += [wake.path for wake in wakes]
            effects.completions += [
                (own.token, outcome) for (_, own), outcome in zip(run, outcomes, strict=True) if own is not None
            ]
        self.hashes.applied(did)

    def _runs(self, entry: Entry) -> Iterator[list[tuple[Command, Own | None]]]:
        """The commands of an entry, and who waits here for their outcome: appends to one path in a row together."""
        here, sessions, index = self._own.incarnation, self.sessions, entry.index
        run: list[tuple[Command, Own | None]] = []
        path = None
        for proposal in decode_proposals(entry.data):
            incarnation, sequence = proposal.origin.incarnation, proposal.origin.sequence
            if not sessions.is_new(incarnation, sequence):
                continue  # Proposed twice, by an origin that did not know; the first one was applied and answered.
            sessions.applied(incarnation, sequence, index)
            command = proposal.command
            goes_to = command.path if type(command) is Append else None
            if run and (goes_to is None or goes_to != path):
                yield run
                run = []
            run.append((command, self._own.applied(sequence) if incarnation == here else None))
            path = goes_to
        if run:
            yield run
