"""A replica whose disk is full: it takes nothing, shows what it has, and goes on when there is room."""

import pytest

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import NOTHING, SCANT_BYTES, AppendEntries, Entry, EntryId, EntryKind, Room
from durable_streams_cluster.replica import compaction
from durable_streams_cluster.replica.barriers import Barrier
from durable_streams_cluster.replica.exchange import PeerMessage, SnapshotChunk
from durable_streams_cluster.replica.intake import Intake
from durable_streams_cluster.replica.snapshots import GIVE_UP_TICKS, SnapshotInstalled, SnapshotSent
from durable_streams_cluster.streams.commands import Delete
from durable_streams_cluster.streams.outcomes import Deleted
from tests.replica.node import append, create
from tests.replica.trio import NAMES, Trio

T1, T2 = Term(1), Term(2)


def message(size: int, term: Term = T1) -> AppendEntries:
    return AppendEntries(term, NOTHING, (Entry(term, Index(1), EntryKind.COMMANDS, 1, 0, 0, bytes(size)),), Index(0))


def chunk(size: int) -> SnapshotChunk:
    return SnapshotChunk(T1, 1, 0, EntryId(T1, Index(9)), ((b"k", bytes(size - 1)),), 0)


def intake(free: int) -> Intake:
    made = Intake()
    made.room = lambda coming: Room.NONE if coming > free else Room.LOW
    made.spares = lambda _: False
    return made


class Core:
    """Notes with what room it was given each message."""

    def __init__(self) -> None:
        self.term = T1
        self.room = Room.PLENTY
        self.given: list[Room] = []

    def know_room(self, room: Room) -> None:
        self.room = room

    def step(self, sender: NodeId, message: AppendEntries) -> None:
        self.given.append(self.room)


def give(made: Intake, size: int, term: Term = T1, core: Core | None = None) -> Room:
    core = core or Core()
    made.entries(core, NodeId("n2"), message(size, term))  # type: ignore[arg-type]
    (room,) = core.given
    return room


def test_all_that_comes_in_one_turn_counts() -> None:
    made = intake(100)
    assert made.begin(T1) is Room.LOW
    assert give(made, 60) is Room.LOW
    assert give(made, 60) is Room.NONE
    assert made.begin(T1) is Room.LOW, "what came is written, and in what is free now"
    assert made.takes(chunk(60))
    assert not made.takes(chunk(60))
    assert made.takes(chunk(40)), "what was not taken takes no room"


def test_what_was_refused_is_not_asked_for_before_it_finds_room() -> None:
    made = intake(100)
    assert give(made, 200) is Room.NONE
    assert made.begin(T1) is Room.NONE, "or it would come again at once, and in vain"
    assert made.begin(T2) is Room.LOW, "another leader may not have it"
    made.room = lambda coming: Room.NONE if coming > 300 else Room.LOW
    assert made.begin(T1) is Room.LOW
    assert give(made, 200) is Room.LOW
    made.room = lambda coming: Room.NONE if coming > 100 else Room.LOW
    assert made.begin(T1) is Room.LOW, "it was taken"


def test_the_largest_that_was_refused_is_remembered() -> None:
    made = intake(100)
    assert give(made, 200) is Room.NONE
    assert give(made, 10) is Room.NONE, "it lacks the one before"
    made.room = lambda coming: Room.NONE if coming > 150 else Room.LOW
    assert made.begin(T1) is Room.NONE


def test_a_former_leader_says_nothing_of_what_comes() -> None:
    made, core = intake(100), Core()
    core.term = T2
    assert give(made, 200, T2) is Room.NONE
    assert give(made, 10, T1, core) is Room.PLENTY, "as before"
    assert made.begin(T2) is Room.NONE


def test_a_full_disk_takes_a_little_that_is_sent_nevertheless_and_says_that_it_is_full() -> None:
    made, core = intake(-1), Core()
    made.spares = lambda coming: coming <= SCANT_BYTES + 100
    assert give(made, SCANT_BYTES, core=core) is Room.LOW
    assert core.room is Room.NONE
    assert give(made, 101) is Room.NONE, "with what came before"
    made.begin(T1)
    assert give(made, SCANT_BYTES + 1) is Room.NONE


def full(trio: Trio, name: str, room: Room = Room.NONE) -> None:
    trio.nodes[name].replica.group.intake.room = lambda _: room


def follower_of(trio: Trio) -> str:
    return next(name for name in NAMES if trio.nodes[name] is not trio.leader)


def test_a_follower_without_room_shows_what_it_has_and_nothing_older_than_was_acknowledged() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    trio.done(append("s", b"had "))
    trio.tick(5)
    name = follower_of(trio)
    node = trio.nodes[name]
    full(trio, name)
    trio.tick(5)
    node.replica.read(Barrier("read", node.steady_ms))
    shown = shows(trio, name)
    assert "read" in shown
    assert node.content("s") == b"had "
    trio.done(append("s", b"new "))
    node.replica.read(Barrier("later", node.steady_ms))
    assert "later" not in shows(trio, name), "what it has is older than what was acknowledged"
    full(trio, name, Room.LOW)
    assert "later" in shows(trio, name)
    assert node.content("s") == b"had new "


def shows(trio: Trio, name: str) -> list[object]:
    """Reads that may look at this node, after a while."""
    node, found = trio.nodes[name], list[object]()
    written = node.replica.written

    def watched() -> list[object]:
        tokens = written()
        found.extend(tokens)
        return tokens

    node.replica.written = watched  # type: ignore[method-assign]
    trio.tick(20)
    node.replica.written = written  # type: ignore[method-assign]
    return found


def test_it_neither_loses_its_leader_nor_stands() -> None:
    trio = Trio().boot()
    full(trio, follower_of(trio))
    leader, term = trio.leader, trio.leader.replica.group.core.term
    for number in range(20):
        trio.done(create(f"s{number}"))
        trio.tick(10)
    assert (trio.leader, trio.leader.replica.group.core.term) == (leader, term)


def test_a_snapshot_that_finds_no_room_is_sent_again_when_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 20_000)
    trio = Trio().boot()
    name = follower_of(trio)
    trio.done(create("s"))
    trio.cut = {name}
    trio.tick(60)  # Nothing is held for it any more.
    for _ in range(100):
        trio.done(append("s", bytes(1000)))
    trio.cut = set()
    chunks: list[SnapshotChunk] = []

    def watch(sender: str, to: str, sent: PeerMessage) -> bool:
        if isinstance(sent, SnapshotChunk):
            chunks.append(sent)
            full(trio, name)
        return True

    trio.passes = watch
    trio.tick(60)
    assert chunks, "it began"
    assert not trio.saw(SnapshotInstalled)
    trio.tick(GIVE_UP_TICKS)
    begun = len(chunks)
    trio.tick(GIVE_UP_TICKS)
    assert len(chunks) == begun, "given up, and not begun again in vain"
    trio.passes = lambda *_: True
    full(trio, name, Room.PLENTY)
    trio.tick(60)
    assert trio.saw(SnapshotInstalled) == [name]
    assert trio.saw(SnapshotSent)
    assert trio.nodes[name].content("s") == trio.leader.content("s")


def test_who_has_room_is_handed_over_to_first() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    group = trio.leader.replica.group
    one, other = (name for name in NAMES if trio.nodes[name] is not trio.leader)
    assert group.successor() in (one, other)
    for name, there in ((one, other), (other, one)):
        full(trio, name, Room.ENOUGH)
        full(trio, there, Room.PLENTY)
        trio.tick(5)
        assert group.successor() == group.successor(Room.PLENTY) == NodeId(there)
    full(trio, one, Room.LOW)
    full(trio, other, Room.LOW)
    trio.tick(5)
    assert group.successor(Room.PLENTY) is None
    assert group.successor() in (one, other), "who ends hands over nevertheless"


def test_who_is_behind_is_not_handed_over_to_before_one_that_has_all_and_enough_room() -> None:
    trio = Trio().boot()
    group = trio.leader.replica.group
    one, other = (name for name in NAMES if trio.nodes[name] is not trio.leader)
    full(trio, one, Room.ENOUGH)
    trio.tick(5)
    trio.passes = lambda _, to, sent: to != other or not isinstance(sent, AppendEntries)
    trio.done(create("s"))
    trio.tick(5)
    assert group.successor() == NodeId(one)
    assert group.successor(Room.PLENTY) == NodeId(other), "it makes way for room"
    full(trio, one, Room.LOW)
    trio.tick(5)
    assert group.successor() == NodeId(other)


def test_where_no_disk_has_room_streams_are_deleted_and_another_leads() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    trio.tick(5)
    for name in NAMES:
        full(trio, name)
    trio.tick(5)
    token = object()
    trio.leader.propose(Delete("s"), token)
    trio.tick(10)
    assert isinstance(trio.leader.answers[token], Deleted)
    former, group = trio.leader, trio.leader.replica.group
    heir = group.successor()
    assert heir is not None
    assert group.transfer_to(heir)
    trio.tick(10)
    assert trio.leader is trio.nodes[heir] is not former
    assert trio.leader.content("s") is None
