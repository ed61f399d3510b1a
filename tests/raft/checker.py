"""What must hold of all members together, whatever fails (thesis figure 3.2, and 6.4 for reads)."""

from zlib import crc32

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import (
    AppendEntries,
    AppendReply,
    Entry,
    EntryId,
    EntryKind,
    Heartbeat,
    Outgoing,
    RaftCore,
    Ready,
    RequestVote,
    Role,
    Status,
    TimeoutNow,
    VoteReply,
    entry_crc,
)
from durable_streams_cluster.raft.membership import decode
from tests.raft.disk import Disk, Image, Machine

GROUP = GroupId(1)


class Checker:
    """Sees every step of every member, and remembers."""

    def __init__(self, disks: dict[NodeId, Disk]) -> None:
        self._disks = disks
        self._leaders: dict[Term, NodeId] = {}
        self._seen: dict[EntryId, tuple[int, Term | None]] = {}
        """Of each entry anybody ever had: its checksum, and the term of the one before it."""
        self.chosen: dict[Index, Term] = {}
        """What is committed for ever."""
        self.top = Index(0)
        """The last of those."""
        self._applied: dict[Index, Machine] = {Index(0): Machine()}
        self._floors: dict[object, Index] = {}
        """Of each read: what was committed when it was asked."""
        self.answered = 0

    def stepped(self, node: NodeId, core: RaftCore, before: Status, after: Status, cores: list[RaftCore]) -> None:
        """A member took a step."""
        if after.role is Role.LEADER:
            first = self._leaders.setdefault(after.hard_state.term, node)
            assert first == node, f"two leaders in term {after.hard_state.term}: {first} and {node}"
            if before.role is not Role.LEADER or before.hard_state.term != after.hard_state.term:
                self._is_complete(core, Index(1))
        for number in range(before.committed + 1, after.committed + 1):
            index = Index(number)
            term = core.log.term_at(index)
            if term is not None:
                self._committed(EntryId(term, index), core, cores)

    def _committed(self, entry: EntryId, by: RaftCore, cores: list[RaftCore]) -> None:
        known = self.chosen.get(entry.index)
        if known is not None:
            assert known == entry.term, f"{entry} is committed, and so was term {known}"
            return
        assert entry.index == self.top + 1, f"{entry} committed over a hole behind {self.top}"
        voters = by.membership.voters
        holders = [node for node in voters if self._disks[node].durable.holds(entry)]
        assert 2 * len(holders) > len(voters), f"{entry} committed, and durable on {holders} of {voters}"
        self.chosen[entry.index], self.top = entry.term, entry.index
        for core in cores:
            if core.role is Role.LEADER and core.term >= by.term:
                self._is_complete(core, entry.index)

    def _is_complete(self, leader: RaftCore, start: Index) -> None:
        """Leader completeness: what is committed is in the log of each later leader."""
        for number in range(max(start, leader.log.committed + 1), self.top + 1):
            index = Index(number)
            assert leader.log.term_at(index) == self.chosen[index], f"a leader lacks {self.chosen[index]}/{index}"

    def handed(self, core: RaftCore, ready: Ready) -> None:
        """Log matching, by induction: an entry always has the same content, and the same entry before it."""
        if not ready.entries:
            return
        previous = core.log.term_at(Index(ready.entries[0].index - 1))
        for entry in ready.entries:
            crc, before = self._seen.setdefault(EntryId(entry.term, entry.index), (entry.crc, previous))
            assert crc == entry.crc, f"two entries {entry.term}/{entry.index}"
            assert None in (before, previous) or before == previous, f"two pasts of {entry.term}/{entry.index}"
            assert entry_crc(GROUP, entry) == entry.crc
            previous = entry.term

    def apply(self, machine: Machine, entry: Entry) -> Machine:
        """State machine safety: the same entry at each index, in order, once; returns the state after it."""
        assert entry.index == machine.applied.index + 1, f"{entry.index} applied behind {machine.applied.index}"
        assert self.chosen[entry.index] == entry.term
        digest = crc32(b"%d/%d %s" % (entry.term, entry.index, entry.data), machine.digest)
        membership = decode(entry.data) if entry.kind is EntryKind.MEMBERSHIP else machine.membership
        made = Machine(EntryId(entry.term, entry.index), digest, membership)
        self.holds(made)
        return made

    def holds(self, machine: Machine) -> None:
        """A state came from applying or from a snapshot."""
        known = self._applied.setdefault(machine.applied.index, machine)
        assert machine.applied == known.applied, f"two entries applied at {machine.applied.index}"
        assert machine.digest == known.digest, f"two states at {machine.applied.index}"
        if known.membership is None:
            self._applied[machine.applied.index] = machine
        elif machine.membership is not None:
            assert machine.membership == known.membership, f"two memberships at {machine.applied.index}"

    def asked(self, token: object) -> None:
        """A read begins."""
        self._floors[token] = self.top

    def answer(self, token: object, index: Index) -> None:
        """A read may be answered at ``index``."""
        floor = self._floors.pop(token)
        assert index >= floor, f"read {token} answered at {index}, and {floor} was committed before it was asked"
        assert index <= self.top
        self.answered += 1

    def failed(self, token: object) -> None:
        """A read has no answer here."""
        self._floors.pop(token)

    def sent(self, node: NodeId, core: RaftCore, outgoing: Outgoing) -> None:
        """What a member promises or claims is on its disk (thesis 3.3), at the moment that it leaves."""
        disk, message = self._disks[node].durable, outgoing.message
        match message:
            case RequestVote(pre=False):
                _promised(disk, message.term, node)
                # Who has found a leader in the meantime may have lost those entries to it; its call wins nothing now.
                stands = core.role is Role.CANDIDATE and core.term == message.term
                assert not stands or message.last.index == 0 or disk.holds(message.last)
            case VoteReply(granted=True, pre=False):
                _promised(disk, message.term, outgoing.to)
            case AppendEntries() | Heartbeat() | TimeoutNow():
                assert disk.hard_state.term >= message.term
                if isinstance(message, Heartbeat) and message.durable:
                    own = EntryId(message.term, message.durable)
                    assert disk.hard_state.term > message.term or disk.holds(own), f"{node} says that it holds {own}"
            case AppendReply():
                assert disk.hard_state.term >= message.term
                if not message.rejected and disk.hard_state.term == message.term:
                    assert disk.end >= message.match, f"{node} acknowledges {message.match}, durable is {disk.end}"
            case _:
                pass


def _promised(disk: Image, term: Term, vote: NodeId) -> None:
    durable = disk.hard_state
    assert durable.term > term or (durable.term == term and durable.vote == vote), f"{vote} in {term}: {durable}"
