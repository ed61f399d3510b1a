"""A follower whose disk is full takes nothing and is only behind; a leader sends it nothing, and knows who has room."""

from random import Random

import pytest

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import (
    SCANT_BYTES,
    AppendEntries,
    EntryId,
    EntryKind,
    Message,
    Remove,
    Room,
    Settings,
)
from tests.raft.cluster import Cluster

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))
SETTINGS = Settings(heartbeat_ticks=2, election_ticks=8, stall_ticks=14, cache_bytes=1)


def led(size: int = 3) -> Cluster:
    """n1 leads."""
    random = Random(1)
    world = Cluster(size, SETTINGS, lambda _, below: random.randrange(below))
    for _ in range(30):
        world.tick(N1)
        world.settle()
    assert world.leaders == [N1]
    return world


def time(world: Cluster, ticks: int) -> None:
    for _ in range(ticks):
        for name in world.up:
            world.tick(name)
        world.settle()


def sent_entries(world: Cluster, to: NodeId) -> list[str]:
    return [line for line in world.trace if line.startswith(f"{N1}>{to} append") and "/" in line.split(":", 1)[1]]


def test_it_takes_no_entries_and_the_others_commit() -> None:
    world = led()
    held = world.nodes[N3].core.log.last
    world.nodes[N3].core.know_room(Room.NONE)
    made = [world.propose(N1, b"%d" % number) for number in range(20)][-1]
    world.settle()
    assert world.checker.top == made.index
    assert world.nodes[N3].core.log.last == held
    assert world.nodes[N2].core.log.last == made.index


def test_a_leader_that_knows_sends_it_nothing() -> None:
    world = led()
    world.nodes[N3].core.know_room(Room.NONE)
    world.propose(N1, b"refused")
    world.settle()
    sent = len(sent_entries(world, N3))
    for _ in range(10):
        world.propose(N1, b"x")
        time(world, 2 * SETTINGS.heartbeat_ticks)
    assert len(sent_entries(world, N3)) == sent
    assert world.nodes[N1].core.status().followers[N3].room is Room.NONE


def test_a_leader_is_elected_and_serves_where_no_disk_has_room() -> None:
    """Its first entry, and who belongs, are no more than the votes that are written anyway."""
    world = led()
    for name in (N1, N2, N3):
        world.nodes[name].core.know_room(Room.NONE)
    time(world, 2 * SETTINGS.heartbeat_ticks)
    world.transfer(N1, N2)
    time(world, 2 * SETTINGS.heartbeat_ticks)
    assert world.leaders == [N2]
    world.read(N2, "read")
    time(world, 2 * SETTINGS.heartbeat_ticks)
    assert world.checker.answered == 1
    made = world.change(N2, Remove(N3))
    assert isinstance(made, EntryId)
    time(world, 2 * SETTINGS.heartbeat_ticks)
    assert world.checker.top == made.index
    assert world.nodes[N1].core.log.committed == made.index


def test_what_was_refused_with_it_does_not_keep_an_entry_that_does_not_grow() -> None:
    """They came in one message, or one behind the other: what went into the window is missed at once."""
    world = led()
    for name in (N2, N3):
        world.nodes[name].core.know_room(Room.NONE)
    for kind in (EntryKind.NOOP, EntryKind.COMMANDS, EntryKind.NOOP):
        world.propose(N1, b"", kind)
    noop = world.nodes[N1].core.log.last - 2
    time(world, 3 * SETTINGS.heartbeat_ticks)
    assert world.checker.top == noop
    world.nodes[N2].core.know_room(Room.LOW)
    time(world, 3 * SETTINGS.heartbeat_ticks)
    assert world.checker.top == noop + 2


def test_commands_are_sent_to_it_where_a_majority_has_no_room_and_only_little() -> None:
    world = led()
    for name in (N2, N3):
        world.nodes[name].core.know_room(Room.NONE)
    time(world, 2 * SETTINGS.heartbeat_ticks)
    made = [world.propose(N1, body) for body in (b"little", b"little", bytes(SCANT_BYTES + 1), b"behind")]
    asked: list[list[int]] = []
    step = world.nodes[N2].core.step

    def watch(sender: NodeId, message: Message) -> None:
        if isinstance(message, AppendEntries):
            asked.append([each.index for each in message.entries])
            world.nodes[N2].core.know_room(Room.LOW)  # as the caller says, which looks at each
        step(sender, message)
        world.nodes[N2].core.know_room(Room.NONE)

    world.nodes[N2].core.step = watch  # type: ignore[method-assign]
    time(world, 4 * SETTINGS.heartbeat_ticks)
    assert asked == [[made[0].index, made[1].index]]
    assert world.checker.top == made[1].index


def test_it_keeps_its_leader_and_what_it_has_can_be_read() -> None:
    world = led()
    world.propose(N1, b"had")
    time(world, 6)
    world.nodes[N3].core.know_room(Room.NONE)
    term = world.nodes[N1].core.term
    time(world, 10 * SETTINGS.election_ticks)
    assert (world.leaders, world.nodes[N3].core.term) == ([N1], term)
    world.read(N1, "read")
    world.settle()
    assert world.checker.answered == 1
    assert world.nodes[N3].core.log.applied == world.nodes[N1].core.log.committed


def test_it_catches_up_when_there_is_room_again() -> None:
    world = led()
    world.nodes[N3].core.know_room(Room.NONE)
    for number in range(20):
        world.propose(N1, b"%d" % number)
        time(world, 1)
    world.nodes[N3].core.know_room(Room.LOW)
    time(world, 3 * SETTINGS.heartbeat_ticks)
    assert world.nodes[N3].core.log.newest == world.nodes[N1].core.log.newest


def test_one_that_needs_a_snapshot_is_sent_none_before_there_is_room() -> None:
    world = led()
    world.nodes[N3].core.know_room(Room.NONE)
    for number in range(9):
        world.propose(N1, b"%d" % number)
    time(world, 6)
    world.compact(N1, world.nodes[N1].core.log.applied)
    time(world, 20)
    assert not world.marks["snapshot sent"]
    world.nodes[N3].core.know_room(Room.PLENTY)
    time(world, 20)
    assert world.marks["snapshot sent"] == 1
    assert world.nodes[N3].core.log.newest == world.nodes[N1].core.log.newest


def test_what_an_empty_message_asks_is_answered_on_a_full_disk() -> None:
    """So a new leader knows how far it is."""
    world = led()
    world.nodes[N3].core.know_room(Room.NONE)
    core = world.nodes[N3].core
    core.step(N1, AppendEntries(core.term, core.log.newest, (), core.log.committed))
    world.turn(N3)
    assert f"{N3}>{N1} appended t{core.term} match={core.log.last}" == world.trace[-1]


@pytest.mark.parametrize(
    ("size", "rooms", "silent", "lacks"),
    [
        (3, {}, (), False),
        (3, {N2: Room.LOW}, (), False),
        (3, {N2: Room.ENOUGH, N3: Room.ENOUGH}, (), False),
        (3, {N2: Room.LOW, N3: Room.LOW}, (), True),
        (3, {N2: Room.NONE, N3: Room.LOW}, (), True),
        (3, {N2: Room.LOW}, (N3,), True),
        (3, {}, (N3,), False),
        (3, {N2: Room.LOW}, (N2,), False),
        (5, {N2: Room.LOW, N3: Room.NONE}, (), False),
        (5, {N2: Room.LOW, N3: Room.NONE, N4: Room.LOW}, (), True),
        (5, {N2: Room.LOW, N3: Room.NONE}, (N5,), True),
        (1, {}, (), False),
    ],
)
def test_whether_too_few_have_room(
    size: int, rooms: dict[NodeId, Room], silent: tuple[NodeId, ...], *, lacks: bool
) -> None:
    world = led(size)
    for name, room in rooms.items():
        world.nodes[name].core.know_room(room)
    time(world, SETTINGS.heartbeat_ticks)
    for name in silent:
        world.crash(name)
    time(world, 2 * SETTINGS.election_ticks + 2)
    assert world.nodes[N1].core.lacks_room == lacks
    assert not any(world.nodes[name].core.lacks_room for name in world.up if name != N1), "only a leader knows"
