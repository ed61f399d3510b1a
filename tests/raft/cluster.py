"""Several Raft cores, one process: disks that forget, links that lose, and every step checked.

Nothing happens by itself: whoever drives says whose clock ticks, which message arrives, which write is durable.
``turn`` and ``settle`` are for when only the outcome matters.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import (
    AppendEntries,
    AppendReply,
    BecameLeader,
    Begun,
    Change,
    Entry,
    EntryId,
    EntryKind,
    Event,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    LeaderChanged,
    Membership,
    MembershipChanged,
    Message,
    Objection,
    Outgoing,
    RaftCore,
    Ready,
    ReplicaId,
    RequestVote,
    Role,
    Settings,
    SnapshotMeta,
    SnapshotNeeded,
    Status,
    SteppedDown,
    TimeoutNow,
    Truncated,
    VoteReply,
    changed,
    invariants,
)
from tests.raft.checker import GROUP, Checker
from tests.raft.disk import Batch, Disk, Image, Machine

Link = tuple[NodeId, NodeId]
Chance = Callable[[NodeId, int], int]
"""The random number of a member, below a bound."""


class Packet(msgspec.Struct, frozen=True):
    """A message under way; a snapshot's state comes with it."""

    message: Message
    state: Machine | None = None


class Node:
    """One member: its disk, its core while it runs, and what its caller owes it."""

    def __init__(self, name: NodeId, membership: Membership | None) -> None:
        self.name = name
        self.disk = Disk(membership)
        self.stalled = False
        """Whether its disk finishes nothing."""
        self.running: RaftCore | None = None
        self.numbers: deque[int] = deque()
        """Hand-overs that were written and not synced."""
        self.parked: deque[tuple[int, Outgoing]] = deque()
        """What is sent once a hand-over is durable."""
        self.to_apply: deque[Entry] = deque()
        self.arrived: dict[EntryId, Machine] = {}
        """The states that snapshots brought."""
        self.leads_in = Term(0)
        self.begun: Begun
        self.status: Status
        """As it was after its last step."""

    @property
    def core(self) -> RaftCore:
        assert self.running is not None, f"{self.name} is down"
        return self.running


class Cluster:
    """The members ``n1`` to ``nN``, and the links between them."""

    def __init__(self, size: int, settings: Settings, chance: Chance, *, noop: bool = True) -> None:
        self.names = tuple(NodeId(f"n{number}") for number in range(1, size + 1))
        self.settings = settings
        self._chance = chance
        self._noop = noop
        """Whether a new leader's caller proposes an entry, as it should ..."""
        self.lazy = False
        """... and whether it takes its time."""
        self.nodes = {name: Node(name, Membership.of(*self.names)) for name in self.names}
        self.links: dict[Link, deque[Packet]] = {(a, b): deque() for a in self.names for b in self.names if a != b}
        self.cut: dict[Link, bool] = {}
        self.disks = {name: node.disk for name, node in self.nodes.items()}
        self.checker = Checker(self.disks)
        self.trace: list[str] = []
        self.marks: Counter[str] = Counter()
        self._lives = 0
        for name in self.names:
            self.restart(name)

    # ------------------------------------------------------------------------------------------------------ one member

    @contextmanager
    def _step(self, name: NodeId) -> Iterator[RaftCore]:
        node = self.nodes[name]
        core, before = node.core, node.status
        yield core
        node.status = after = core.status()
        invariants.check(before, after)
        core.log.check()
        for progress in core._state.progress.values():
            progress.check()
        running = [node.running for node in self.nodes.values() if node.running is not None]
        self.checker.stepped(name, core, before, after, running)

    def tick(self, name: NodeId) -> None:
        with self._step(name) as core:
            core.tick()

    def propose(self, name: NodeId, data: bytes, kind: EntryKind = EntryKind.COMMANDS) -> EntryId:
        with self._step(name) as core:
            return core.propose(kind, data, 0, 0)

    def join(self, name: NodeId) -> None:
        """An empty node starts, and knows of no cluster; the others may send to it."""
        self.nodes[name] = Node(name, None)
        self.disks[name] = self.nodes[name].disk
        self.links |= {link: deque() for other in self.names for link in ((name, other), (other, name))}
        self.names = (*self.names, name)
        self.restart(name)

    def change(self, name: NodeId, change: Change) -> EntryId | Objection:
        """A leader changes the membership, if nothing speaks against it."""
        core = self.nodes[name].core
        objection = core.objection()
        made = changed(core.membership, change) if objection is None else objection
        if isinstance(made, Objection):
            return made
        self.marks[type(change).__name__] += 1
        with self._step(name) as core:
            return core.propose_membership(made, 0, 0)

    def read(self, name: NodeId, token: object) -> None:
        self.checker.asked(token)
        with self._step(name) as core:
            core.read_index(token)

    def transfer(self, name: NodeId, target: NodeId) -> None:
        self.marks["transfer"] += 1
        with self._step(name) as core:
            core.transfer_to(target)

    def unreachable(self, name: NodeId, target: NodeId) -> None:
        with self._step(name) as core:
            core.unreachable(target)

    def compact(self, name: NodeId, keep_from: Index) -> None:
        """Drop the entries before ``keep_from`` from the log; they are in the state."""
        node = self.nodes[name]
        assert keep_from <= node.disk.visible.machine.applied.index + 1
        if node.disk.first < keep_from <= node.disk.last + 1:
            node.disk.write(Batch(keep_from=keep_from))

    def crash(self, name: NodeId, keep: int = 0) -> None:
        """End it; of what was written and not synced, ``keep`` batches survive."""
        node = self.nodes[name]
        node.running = None
        node.disk.crash(keep)
        for waiting in (node.numbers, node.parked, node.to_apply, node.arrived):
            waiting.clear()

    def restart(self, name: NodeId) -> None:
        objections = self.start(name)
        assert not objections, f"a lawful life is refused: {objections}"

    def put_back(self, name: NodeId, image: Image) -> dict[NodeId, str]:
        """An older image takes the place of what its disk holds, and it is started: who refuses it, and why."""
        disk = self.nodes[name].disk
        disk.durable, disk.visible = image.copy(), image.copy()
        return self.start(name)

    def start(self, name: NodeId) -> dict[NodeId, str]:
        """Start it, and let all that run greet each other: who refuses it, and why."""
        node = self.nodes[name]
        node.leads_in, node.stalled = Term(0), False
        durable = node.disk.durable
        node.running = RaftCore(
            GROUP,
            ReplicaId(name),
            durable.machine.membership or Membership(),
            durable.hard_state,
            node.disk,
            durable.machine.applied,
            random=lambda below: self._chance(name, below),
            settings=self.settings,
        )
        node.status = node.running.status()
        self._lives += 1
        node.begun = Begun(self._lives, node.core.term, node.core.log.newest)
        objections: dict[NodeId, str] = {}
        for other in self.up:
            if other != name:
                there = self.nodes[other]
                assert node.core.lives.objection(other, 1, there.begun) is None, "it remembers nothing of anybody"
                objection = there.core.lives.objection(name, 1, node.begun)
                if objection is not None:
                    objections[other] = objection
        return objections

    def ready(self, name: NodeId) -> Ready | None:
        """Take one hand-over: write it, send what may be sent, keep the rest for later."""
        node = self.nodes[name]
        owes = self._noop and node.core.may_propose and node.leads_in != node.core.term
        if owes and not (self.lazy and self._chance(name, 8)):
            node.leads_in = node.core.term
            self.propose(name, b"", EntryKind.NOOP)
        with self._step(name) as core:
            ready = core.ready()
        if ready is None:
            return None
        self.checker.handed(core, ready)
        if ready.must_sync:
            meta = ready.snapshot
            node.disk.write(Batch(ready, None if meta is None else node.arrived[meta.last]))
            node.numbers.append(ready.number)
        if ready.snapshot is not None:
            self.marks["snapshot installed"] += 1
            node.to_apply.clear()
        for outgoing in ready.send_now:
            self._send(name, outgoing)
        node.parked.extend((ready.number, outgoing) for outgoing in ready.send_once_durable)
        node.to_apply.extend(ready.committed)
        for token, index in ready.reads:
            self.checker.answer(token, index)
            self.trace.append(f"{name} read {token} at {index}")
        for token in ready.failed_reads:
            self.checker.failed(token)
            self.marks["read failed"] += 1
            self.trace.append(f"{name} read {token} failed")
        for event in ready.events:
            self._note(name, event)
        return ready

    def sync(self, name: NodeId, number: int | None = None) -> None:
        """Hand-overs up to ``number``, or all, are durable."""
        node = self.nodes[name]
        if number is None and not node.numbers:
            return
        number = node.numbers[-1] if number is None else number
        node.disk.sync(number)
        while node.numbers and node.numbers[0] <= number:
            node.numbers.popleft()
        with self._step(name) as core:
            core.persisted(number)
        while node.parked and node.parked[0][0] <= number:
            self._send(name, node.parked.popleft()[1])

    def apply(self, name: NodeId, upto: Index | None = None) -> None:
        """Apply what is committed; the state is written behind it."""
        node = self.nodes[name]
        machine = node.disk.visible.machine
        while node.to_apply and (upto is None or node.to_apply[0].index <= upto):
            machine = self.checker.apply(machine, node.to_apply.popleft())
        if machine.applied != node.disk.visible.machine.applied:
            node.disk.write(Batch(machine=machine))
            with self._step(name) as core:
                core.applied(machine.applied.index)

    def _note(self, name: NodeId, event: Event) -> None:
        match event:
            case BecameLeader():
                self.trace.append(f"{name} leads in {event.term}")
            case LeaderChanged() if event.leader != name:
                self.trace.append(f"{name} follows {event.leader or 'nobody'} in {event.term}")
            case SteppedDown():
                self.marks[event.reason] += 1
                self.trace.append(f"{name} leads no more in {event.term}: {event.reason}")
            case Truncated():
                self.marks["truncation"] += 1
                self.trace.append(f"{name} truncates from {event.index}")
            case MembershipChanged():
                self.trace.append(f"{name} has {describe_members(event.membership)}")
            case SnapshotNeeded():
                self.trace.append(f"{name} needs a snapshot for {event.node}")
                self._send_snapshot(name, event.node)
            case _:
                pass

    # --------------------------------------------------------------------------------------------------------- network

    def _send_snapshot(self, name: NodeId, to: NodeId) -> None:
        node = self.nodes[name]
        machine = node.disk.visible.machine
        self.marks["snapshot sent"] += 1
        message = InstallSnapshot(node.core.term, SnapshotMeta(machine.applied, machine.membership or Membership()))
        self._put((name, to), Packet(message, machine))

    def _send(self, name: NodeId, outgoing: Outgoing) -> None:
        self.checker.sent(name, self.nodes[name].core, outgoing)
        match outgoing.message:
            case AppendReply(rejected=True):
                self.marks["append rejected"] += 1
            case _:
                pass
        self._put((name, outgoing.to), Packet(outgoing.message))

    def _put(self, link: Link, packet: Packet) -> None:
        lost = " (lost)" if link in self.cut else ""
        self.trace.append(f"{link[0]}>{link[1]} {describe(packet.message)}{lost}")
        if lost:
            self._ended(link, packet)
        else:
            self.links[link].append(packet)

    def _ended(self, link: Link, packet: Packet) -> None:
        """Tell the sender of a snapshot that it is over."""
        if packet.state is not None and self.nodes[link[0]].running is not None:
            with self._step(link[0]) as core:
                core.snapshot_sent(link[1])

    def deliver(self, link: Link, place: int = 0) -> None:
        """The message at this place of the link arrives."""
        packet = self.links[link][place]
        del self.links[link][place]
        node = self.nodes[link[1]]
        if node.running is not None and link not in self.cut:
            if packet.state is not None:
                node.arrived[packet.state.applied] = packet.state
            with self._step(link[1]) as core:
                core.step(link[0], packet.message)
        self._ended(link, packet)

    def drop(self, link: Link, place: int = 0) -> None:
        packet = self.links[link][place]
        del self.links[link][place]
        self._ended(link, packet)

    def duplicate(self, link: Link, place: int = 0) -> None:
        self.links[link].append(self.links[link][place])

    # -------------------------------------------------------------------------------------------------------- together

    def turn(self, name: NodeId) -> None:
        """Do all that a member owes, but wait for a stalled disk."""
        for _ in range(1000):
            ready = self.ready(name)
            node = self.nodes[name]
            if node.numbers and not node.stalled:
                self.sync(name)
            elif ready is None and not node.to_apply:
                return
            self.apply(name)
        raise AssertionError(f"{name} is never done")

    @property
    def up(self) -> list[NodeId]:
        return [name for name, node in self.nodes.items() if node.running is not None]

    def settle(self) -> None:
        """Deliver all that can be until nothing moves."""
        for _ in range(500):
            for name in self.up:
                self.turn(name)
            busy = [link for link, packets in self.links.items() if packets]
            if not busy:
                return
            for link in busy:
                for _ in range(len(self.links[link])):
                    self.deliver(link)
        raise AssertionError("messages without end")

    @property
    def leaders(self) -> list[NodeId]:
        """Who leads; the newest term last."""
        found = [node for node in self.nodes.values() if node.running is not None and node.running.role is Role.LEADER]
        return [node.name for node in sorted(found, key=lambda node: node.core.term)]


def describe(message: Message) -> str:
    """A message as scripts show it."""
    term = f"t{message.term}"
    match message:
        case RequestVote():
            kind = "would-you-vote" if message.pre else "vote"
            return f"{kind} {term} last={show(message.last)}{' transfer' if message.transfer else ''}"
        case VoteReply():
            kind = "would-vote" if message.pre else "voted"
            return f"{kind} {term} {'yes' if message.granted else 'no'} to t{message.asked}"
        case AppendEntries():
            entries = "".join(f" {entry.term}/{entry.index}" for entry in message.entries)
            kind = "append" if message.wants_answer else "news"
            return f"{kind} {term} behind {show(message.previous)}:{entries} commit={message.commit}"
        case AppendReply(rejected=True):
            return f"rejected {term} {message.match} hint={show(message.hint)}"
        case AppendReply():
            return f"appended {term} match={message.match}"
        case Heartbeat():
            return f"heartbeat {term} commit={message.commit} round={message.round}"
        case HeartbeatReply():
            return f"heard {term} round={message.round}"
        case InstallSnapshot():
            return f"snapshot {term} last={show(message.meta.last)}"
        case TimeoutNow():
            return f"stand-now {term}"


def describe_members(membership: Membership) -> str:
    """Who belongs, as scripts show it."""
    learners = f", learning {' '.join(membership.learners)}" if membership.learners else ""
    return " ".join(membership.voters) + learners


def show(entry: EntryId) -> str:
    """An entry as scripts show it: term/index."""
    return f"{entry.term}/{entry.index}"
