"""Committed entries become state, outcomes and wakes; the same on every replica."""

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.raft import FEATURE_LEVEL, Entry, EntryKind
from durable_streams_cluster.replica.divergence import Hashed, Hashes
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.proposals import Proposals
from durable_streams_cluster.replica.sessions import Sessions
from durable_streams_cluster.storage.codecs import Session, decode_proposals
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams import machine
from durable_streams_cluster.streams.commands import Stamp
from durable_streams_cluster.streams.machine import Applied


class Applier:
    """Of one group."""

    def __init__(self, store: StreamStore, own: Proposals, *, alone: bool) -> None:
        """``own`` are the writes that wait here for their outcome; ``alone``: this node is the group."""
        self._store = store
        self._own = own
        self.sessions = Sessions(store.sessions())
        self.hashes = Hashes(alone=alone)

    def restart(self, sessions: dict[int, Session]) -> None:
        """A snapshot took the place of what was applied."""
        self.sessions = Sessions(sessions)
        self.hashes = Hashes()

    def apply(self, effects: Effects, entries: tuple[Entry, ...]) -> list[Hashed]:
        """Apply in order, one at least, and stage how far that came.

        Returns:
            A hash for each window of entries that ended.

        Raises:
            CorruptData: an entry is of a newer build, or cannot be read; or the leader's replica differs.

        """
        hashed = []
        for entry in entries:
            if entry.feature_level > FEATURE_LEVEL:
                raise CorruptData(
                    f"log entry {entry.index} needs feature level {entry.feature_level}, this build knows "
                    f"{FEATURE_LEVEL}: run the newer build on this node"
                )
            if entry.kind is EntryKind.COMMANDS:
                self._commands(effects, entry)
            window = self.hashes.end_of(entry.index)
            if window is not None:
                hashed.append(window)
        newest = entries[-1]
        self._store.finish(effects.batch, newest.index, newest.term, newest.cluster_ms, self.sessions.changes())
        return hashed

    def _commands(self, effects: Effects, entry: Entry) -> None:
        stamp = Stamp(entry.cluster_ms, entry.wall_ms)
        here, batch, wakes, sessions = self._own.incarnation, effects.batch, effects.wakes, self.sessions
        did: list[Applied] = []
        for proposal in decode_proposals(entry.data):
            incarnation, sequence = proposal.origin.incarnation, proposal.origin.sequence
            if not sessions.is_new(incarnation, sequence):
                continue  # Proposed twice, by an origin that did not know; the first one was applied and answered.
            applied = machine.apply(self._store, proposal.command, stamp)
            sessions.applied(incarnation, sequence, entry.index)
            did.append(applied)
            self._store.stage(batch, applied.writes)
            for wake in applied.wakes:
                wakes.append(wake.path)
            if incarnation == here and (own := self._own.applied(sequence)) is not None:
                effects.completions.append((own.token, applied.outcome))
        self.hashes.applied(did)
