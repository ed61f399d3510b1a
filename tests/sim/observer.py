"""What must hold between nodes whatever happens, watched write by write; and the marks of what was seen happen."""

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING
from zlib import crc32

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.raft import (
    BecameLeader,
    EntryKind,
    Event,
    Member,
    Membership,
    Role,
    SnapshotNeeded,
    SteppedDown,
    Truncated,
    VoteReply,
)
from durable_streams_cluster.raft.membership import decode
from durable_streams_cluster.raft.quorum import is_majority
from durable_streams_cluster.replica.exchange import Addressed, SnapshotChunk
from durable_streams_cluster.replica.snapshots import SnapshotInstalled, SnapshotSent
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.codecs import (
    decode_applied,
    decode_entry,
    decode_hard_state,
    decode_installs,
    decode_membership,
)
from durable_streams_cluster.storage.kv import Delete, DeleteRange, Family, Put, WriteBatch

if TYPE_CHECKING:
    from tests.sim.node import Life, Node

GROUP = 1
STATE = keys.group_state(GROUP)
HARD = keys.hard_state(GROUP)
VOTE, TOLD = NodeId("a vote"), NodeId("a vote that is told")
INSTALLS, MEMBERS = keys.installs(GROUP), keys.membership(GROUP)
CHUNK = NodeId("a part of a snapshot")


class _Seen:
    """What one node's disk shows."""

    def __init__(self, incarnation: int, base: Membership) -> None:
        self.incarnation = incarnation
        """Whose store it is."""
        self.base = base
        """As of the last entry that is applied."""
        self.changes: dict[int, Membership] = {}
        """By the entry of the log that has it."""
        self.log: dict[int, bytes] = {}
        self.batch_of: dict[int, int] = {}
        """By which write of the node's each entry came; it stays when the entry is dropped."""
        self.dropped: dict[int, bytes] = {}
        """Of the log, by the newest write: what is applied may go at once."""
        self.applied = 0
        self.data: dict[bytes, int] = {}
        self.sums: dict[int | None, int] = {}
        """Of all that is in ``data``, by install epoch; None: what has none."""
        self.epoch = 0

    @property
    def newest(self) -> Membership:
        """In force."""
        return self.changes[max(self.changes)] if self.changes else self.base

    @property
    def sum(self) -> int:
        """Of what is shown: two replicas that applied as much have the same."""
        return self.sums.get(self.epoch, 0) + self.sums.get(None, 0)

    def put(self, key: bytes, piece: int) -> None:
        """``piece`` stands for key and value; 0 for none."""
        change = piece - self.data.get(key, 0)
        epoch = keys.epoch_of(key)
        self.sums[epoch] = self.sums.get(epoch, 0) + change
        if piece:
            self.data[key] = piece
        else:
            self.data.pop(key, None)


class Observer:
    """Raises AssertionError at the first thing that must not be."""

    def __init__(self) -> None:
        self.marks: Counter[str] = Counter()
        self._seen: dict[NodeId, _Seen] = {}
        self._nodes: dict[NodeId, Node] = {}
        self._lost: dict[int, tuple[_Seen, int]] = {}
        """By the incarnation; with how much of it was durable."""
        self._chunk: tuple[NodeId, NodeId] | None = None
        self._committed: dict[int, tuple[bytes, int]] = {}
        """Entries that are applied, and the newest term of a leader when the first node did: theirs or a later one."""
        self._stamp = 0
        self._sums: dict[int, int] = {0: 0}
        self._leaders: dict[Term, NodeId] = {}
        self._voter: Node | None = None
        self._waits: dict[NodeId | None, asyncio.Future[None]] = {}
        """For a node to apply something; None: for one to be elected."""
        self.top = 0
        """The newest index that any node applied."""

    # ---------------------------------------------------------------------------------------------------------- writes

    def starts(self, node: "Node") -> None:
        """A node's disk is looked at anew: it may have lost some."""
        assert node.identity is not None
        seen = self._seen[node.name] = _Seen(node.identity.incarnation, node.identity.first_membership)
        self._nodes[node.name] = node
        for number, batch in enumerate(node.disk.batches):
            self._take(seen, batch, number)
        expected = self._sums.get(seen.applied)
        assert expected is None or expected == seen.sum, f"{node.name} starts with other data than it had"

    def lost(self, node: "Node") -> None:
        """A node's disk goes, with what it acknowledged."""
        seen = self._seen.pop(node.name, None)
        if seen is not None:
            self._lost[seen.incarnation] = seen, node.disk.durable

    def written(self, node: "Node", batch: WriteBatch) -> None:
        """A node writes: the same entries are committed everywhere, and do the same everywhere."""
        seen = self._seen[node.name]
        before, epoch, forces = seen.applied, seen.epoch, [seen.newest]
        self._take(seen, batch, len(node.disk.batches))
        if VOTE in self._waits:
            self._votes(node, batch)
        if seen.epoch != epoch:
            self.marks["snapshot installed"] += 1
            before = seen.applied
        if node.core is None or node.core.role is not Role.LEADER:
            # A leader knows that something is committed first, but where its store was slow to take that.
            forces = [each.newest for each in self._seen.values()]
        forces.append(seen.newest)
        for index in range(before + 1, seen.applied + 1):
            self._applies(node.name, index, seen.log.get(index) or seen.dropped.get(index), forces)
        if seen.applied != before or seen.epoch != epoch:
            self._happened(node.name)
            known_sum = self._sums.setdefault(seen.applied, seen.sum)
            assert known_sum == seen.sum, f"{node.name} did something else than others up to entry {seen.applied}"

    def _votes(self, node: "Node", batch: WriteBatch) -> None:
        for op in batch.ops:
            if (
                isinstance(op, Put)
                and op.key == HARD
                and decode_hard_state(GROUP, op.value).vote not in (None, node.name)
            ):
                self._voter = node
                self._happened(VOTE)

    def _applies(self, node: NodeId, index: int, entry: bytes | None, forces: list[Membership]) -> None:
        assert entry is not None, f"{node} applied entry {index}, which it does not have"
        known, _ = self._committed.setdefault(index, (entry, max(self._leaders)))
        assert known == entry, f"{node} applied another entry {index} than others"
        if index > self.top:
            self.top = index
            keepers = [[each.node for each in force.members if self._keeps(each, index, entry)] for force in forces]
            assert any(is_majority(keep, force.voters) for keep, force in zip(keepers, forces, strict=True)), (
                f"{node} applied entry {index}, which not more than {max(keepers, key=len)} keep for sure"
            )
            stamp = decode_entry(GROUP, index, entry).cluster_ms
            assert stamp >= self._stamp, f"cluster time goes back from {self._stamp} to {stamp} in entry {index}"
            self._stamp = stamp

    def _keeps(self, member: Member, index: int, entry: bytes) -> bool:
        """Whether this member has an entry, and no power cut takes that back; or had it, until its disk was lost."""
        if self.is_member(member):
            seen, durable = self._seen[member.node], self._nodes[member.node].disk.durable
        elif member.incarnation in self._lost:
            seen, durable = self._lost[member.incarnation]
        else:
            return False
        found = seen.log.get(index) or seen.dropped.get(index)
        return found == entry and seen.batch_of[index] < durable

    def is_member(self, member: Member) -> bool:
        """Whether this is who has its name now."""
        seen = self._seen.get(member.node)
        return seen is not None and seen.incarnation == member.incarnation

    def is_whole(self, member: Member) -> bool:
        """Whether this member has what it had."""
        node = self._nodes.get(member.node)
        return self.is_member(member) and node is not None and not (node.disk.bad or node.marked)

    def memberships(self) -> list[Membership]:
        """All that any node may take for the one in force, now or when it starts."""
        return [each for seen in self._seen.values() for each in (seen.base, *seen.changes.values())]

    def _take(self, seen: _Seen, batch: WriteBatch, number: int) -> None:
        seen.dropped.clear()
        for op in batch.ops:
            if op.family is Family.LOG:
                self._take_log(seen, op, number)
            elif isinstance(op, Put):
                if op.key == STATE:
                    seen.applied = decode_applied(op.value).index
                elif op.key == INSTALLS:
                    seen.epoch = decode_installs(op.value).current
                else:
                    if op.key == MEMBERS:
                        seen.base = decode_membership(op.value)
                    seen.put(op.key, crc32(op.value, crc32(keys.with_epoch(op.key, 0))) or 1)
            elif isinstance(op, Delete):
                seen.put(op.key, 0)
            elif isinstance(op, DeleteRange):
                for key in [key for key in seen.data if op.start <= key < op.end]:
                    seen.put(key, 0)

    def _take_log(self, seen: _Seen, op: object, number: int) -> None:
        if isinstance(op, Put) and op.key != HARD:
            index = keys.entry_index(op.key)
            seen.log[index], seen.batch_of[index] = op.value, number
            entry = decode_entry(GROUP, index, op.value)
            seen.changes.pop(index, None)
            if entry.kind is EntryKind.MEMBERSHIP:
                seen.changes[index] = decode(entry.data)
        elif isinstance(op, DeleteRange):
            start, end = keys.entry_index(op.start), keys.entry_index(op.end)
            if start <= seen.applied:
                self.marks["compaction"] += 1
            for index in [index for index in seen.log if start <= index < end]:
                seen.dropped[index] = seen.log.pop(index)
                seen.changes.pop(index, None)

    # ---------------------------------------------------------------------------------------------------------- events

    async def next_leader(self) -> None:
        """Return when a node is elected."""
        await self._wait(None)

    async def next_apply(self, node: NodeId) -> None:
        """Return when ``node`` has applied something more; or after a while."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wait(node), 1.0)

    async def next_vote(self) -> "Node":
        """Return a node that writes its vote for another one."""
        await self._wait(VOTE)
        assert self._voter is not None
        return self._voter

    async def next_told(self) -> "Node":
        """Return a node that tells another one that it has its vote."""
        await self._wait(TOLD)
        assert self._voter is not None
        return self._voter

    async def next_chunk(self) -> tuple[NodeId, NodeId]:
        """Return who sends a part of a snapshot, and to whom."""
        await self._wait(CHUNK)
        assert self._chunk is not None
        return self._chunk

    def sent(self, node: "Node", outbox: list[Addressed]) -> None:
        """What a node sends."""
        if CHUNK in self._waits:
            for each in outbox:
                if isinstance(each.message, SnapshotChunk):
                    self._chunk = node.name, each.to
                    self._happened(CHUNK)
        if TOLD in self._waits and any(
            isinstance(each.message, VoteReply) and each.message.granted and not each.message.pre for each in outbox
        ):
            self._voter = node
            self._happened(TOLD)

    async def _wait(self, key: NodeId | None) -> None:
        waits = self._waits.get(key)
        if waits is None or waits.done():
            waits = self._waits[key] = asyncio.get_running_loop().create_future()
        await asyncio.shield(waits)

    def _happened(self, key: NodeId | None) -> None:
        waits = self._waits.pop(key, None)
        if waits is not None and not waits.done():
            waits.set_result(None)

    def events(self, life: "Life", events: list[Event | SnapshotSent | SnapshotInstalled]) -> None:
        """What the Raft core tells."""
        name = life.node.name
        for event in events:
            life.node.world.note(name, event)
            match event:
                case BecameLeader():
                    other = self._leaders.setdefault(event.term, name)
                    assert other == name, f"{name} and {other} both lead in term {event.term}"
                    self._happened(None)
                    if len(self._leaders) > 1:
                        self.marks["leader change"] += 1
                    self._is_complete(life, event.term)
                case SteppedDown():
                    self.marks[f"stepped down: {_short(event.reason)}"] += 1
                case Truncated():
                    self.marks["truncation"] += 1
                case SnapshotSent():
                    self.marks["snapshot sent"] += 1
                case SnapshotNeeded():
                    self.marks["snapshot needed"] += 1
                case _:
                    pass

    def _is_complete(self, life: "Life", term: int) -> None:
        """A new leader has every entry that was committed in an earlier term (Raft: leader completeness).

        One that was paused may learn of its votes when a later term has a leader: of that one's entries it lacks some.
        """
        seen, name = self._seen[life.node.name], life.node.name
        log, first = seen.log, min(seen.log, default=seen.applied + 1)
        for index in range(max(first, self.top - 200), self.top + 1):
            committed, newest = self._committed.get(index, (None, 0))
            assert newest >= term or log.get(index) == committed, f"{name} leads without the committed entry {index}"


def _short(reason: str) -> str:
    for words in ("disk", "majority"):
        if words in reason:
            return words
    return "a later term"
