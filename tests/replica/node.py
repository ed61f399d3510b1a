"""A replica on a store that remembers every write, so that a test can lose the newest ones."""

import itertools

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Membership, Settings
from durable_streams_cluster.replica import compaction
from durable_streams_cluster.replica.cluster_time import Now
from durable_streams_cluster.replica.effects import Effects
from durable_streams_cluster.replica.group import Place
from durable_streams_cluster.replica.members import Result
from durable_streams_cluster.replica.replica import Replica
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.codecs import decode_entry, decode_proposals
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.streams import reading
from durable_streams_cluster.streams.commands import Append, Command, Create
from durable_streams_cluster.streams.outcomes import Outcome

GROUP = 1


_lives = itertools.count(1)


def alone(kv: KvView, now: Now) -> Replica:
    """A replica that is its own group, in a new life."""
    return of_group(kv, now, "n1", ("n1",))


def of_group(kv: KvView, now: Now, name: str, voters: tuple[str, ...], directory: int = 0) -> Replica:
    """A replica in a new life; of several, the first stands first."""
    place = Place(NodeId(name), Membership.of(*voters), next(_lives), directory=directory)
    settings = Settings(cache_bytes=min(Settings().cache_bytes, compaction.KEPT_LOG_BYTES))
    return Replica(place, kv, now, random=lambda below: (int(name[1:]) - 1) * 3 % below, settings=settings)


class Node:
    """Carries effects out as ``replica`` asks, one step at a time."""

    def __init__(
        self,
        batches: list[WriteBatch] | None = None,
        steady_ms: int = 0,
        name: str = "n1",
        voters: tuple[str, ...] = ("n1",),
        directory: int = 0,
    ) -> None:
        self.batches: list[WriteBatch] = []
        self.kv = MemoryKv()
        for batch in batches or ():
            self._write(batch)
        self.steady_ms, self.wall_ms = steady_ms, 1_000_000
        self.synced = len(self.batches)
        self.answers: dict[object, Outcome] = {}
        self.changes: dict[object, Result] = {}
        self.unsynced: list[tuple[int, int]] = []
        """Tickets whose sync has not ended, with how many writes it covers."""
        self.replica = of_group(self.kv, self.now, name, voters, directory)

    @property
    def now(self) -> Now:
        return Now(self.steady_ms, self.wall_ms)

    def _write(self, batch: WriteBatch) -> None:
        self.kv.write(batch)
        self.batches.append(batch)

    def propose(self, command: Command, token: object = None) -> None:
        self.replica.propose(command, token, self.steady_ms)

    def turn(self) -> Effects:
        """Decide, and carry out everything but the sync."""
        effects = self.replica.turn(self.now)
        self.carry_out(effects)
        return effects

    def carry_out(self, effects: Effects) -> None:
        if effects.batch:
            self._write(effects.batch)
        self.replica.written()
        for token, outcome in effects.completions:
            assert token not in self.answers, "answered twice"
            self.answers[token] = outcome
        for each in effects.changes:
            assert each.token not in self.changes, "answered twice"
            self.changes[each.token] = each.result
        if effects.must_sync:
            self.unsynced.append((effects.ticket, len(self.batches)))

    def sync(self) -> None:
        """The oldest sync under way ends."""
        ticket, self.synced = self.unsynced.pop(0)
        self.replica.durable(ticket)

    def settle(self) -> None:
        """Turns and syncs until nothing is left to do."""
        more = self.turn().more
        while self.unsynced or more:
            if self.unsynced:
                self.sync()
            more = self.turn().more

    def boot(self) -> "Node":
        self.replica.tick()
        self.settle()
        assert self.replica.group.can_read
        return self

    def done(self, command: Command) -> Outcome:
        token = object()
        self.propose(command, token)
        self.settle()
        return self.answers[token]

    def content(self, path: str) -> bytes | None:
        """What a reader finds at a path."""
        view = self.replica.group.store.committed
        ref = view.find(path)
        meta = view.meta(ref) if ref is not None else None
        if ref is None or meta is None:
            return None
        return b"".join(record.body for record in reading.records(view, ref, meta, 0))

    def entries(self) -> list[tuple[int, list[Command], int]]:
        """The stored log: index, commands, bytes of data."""
        found = []
        for key, value in self.kv.scan(Family.LOG, keys.entry(GROUP, 0), keys.entry(GROUP, keys.MAX_U64)):
            index = keys.entry_index(key)
            entry = decode_entry(GROUP, index, value)
            commands = [proposal.command for proposal in decode_proposals(entry.data)] if entry.data else []
            found.append((index, commands, len(entry.data)))
        return found


def create(path: str, ttl_s: int | None = None) -> Create:
    return Create(path, "text/plain", ttl_s, None, False, b"", None)


def append(path: str, body: bytes) -> Append:
    return Append(path, "text/plain", body, False, None, None)
