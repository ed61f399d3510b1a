"""A follower that lacks what the log has no more gets the state; whatever happens, it shows all or what it did."""

import pytest

from durable_streams_cluster.raft import Room
from durable_streams_cluster.replica import compaction, snapshots
from durable_streams_cluster.replica.exchange import ChunkTaken, PeerMessage, SnapshotChunk
from durable_streams_cluster.replica.following import GIVE_AGAIN_TICKS
from durable_streams_cluster.replica.snapshots import GIVE_UP_TICKS, SnapshotInstalled, SnapshotSent
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.kv import Family
from durable_streams_cluster.streams.commands import Create, Delete
from durable_streams_cluster.streams.outcomes import Appended, Created
from tests.replica.node import GROUP, Node, append, create
from tests.replica.trio import Trio

BODY = bytes(1_000)
NOT_HEARD_TICKS = 60
"""Then nothing is held any more for who is cut off."""


@pytest.fixture(autouse=True)
def _short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 20_000)


def lagging(appends: int = 100) -> Trio:
    """``n3`` has a stream ``old`` that is gone elsewhere, and lacks what the others' logs have no more."""
    trio = Trio().boot()
    for path in ("old", "kept"):
        assert isinstance(trio.done(create(path, ttl_s=3600)), Created)
        trio.done(append(path, b"first"))
    trio.tick(10)
    trio.cut.add("n3")
    trio.tick(NOT_HEARD_TICKS)
    trio.done(Delete("old"))
    for number in range(appends):
        trio.done(append("kept", b"%d" % (number % 10) + BODY))
    trio.done(create("new"))
    trio.tick(2)
    assert trio.leader.replica.group.core.log.first > 10
    return trio


def everything(node: Node) -> dict[bytes, bytes]:
    """What the node shows, by key, as if it had never installed anything; and nothing else is stored."""
    installs = node.kv.get(Family.DATA, keys.installs(GROUP))
    epoch = codecs.decode_installs(installs).current if installs is not None else 0
    found = {}
    for key, value in node.kv.scan(Family.DATA, b"", b"\xff"):
        assert keys.epoch_of(key) in (None, epoch), f"left of another epoch: {key!r}"
        if key[:1] != b"I":
            found[keys.with_epoch(key, 0)] = value
    return found


def agree(trio: Trio) -> None:
    trio.tick(20)
    first, second, third = (everything(node) for node in trio.nodes.values())
    assert first == second == third


def test_who_lacks_what_is_compacted_gets_the_state() -> None:
    trio = lagging()
    follower = trio.nodes["n3"]
    assert follower.content("old") == b"first"
    trio.cut.clear()
    trio.tick(20)
    assert trio.saw(SnapshotInstalled) == ["n3"]
    assert len(trio.saw(SnapshotSent)) == 1
    assert follower.content("old") is None
    assert follower.content("kept") == trio.leader.content("kept")
    assert follower.content("new") == b""
    agree(trio)
    assert isinstance(trio.done(append("kept", b"after"), at="n3"), Appended)
    assert (follower.content("kept") or b"").endswith(b"after")
    agree(trio)


def without_its_end(trio: Trio) -> list[PeerMessage]:
    """``n3`` gets a snapshot but for its last piece, which is under way: what is returned."""
    stuck: list[PeerMessage] = []

    def holds_the_last(sender: str, to: str, message: PeerMessage) -> bool:
        if isinstance(message, SnapshotChunk) and message.final and not stuck:
            stuck.append(message)
            return False
        return True

    trio.passes = holds_the_last
    trio.cut.clear()
    trio.tick(3)
    return stuck


def test_a_sender_holds_the_log_that_the_follower_will_want() -> None:
    trio = lagging()
    stuck = without_its_end(trio)
    assert stuck
    for _ in range(100):
        trio.done(append("kept", BODY))
    trio.passes = lambda sender, to, message: True
    trio.nodes["n3"].replica.deliver(trio.leader.replica.group.place.node, stuck)
    trio.tick(20)
    assert trio.saw(SnapshotInstalled) == ["n3"], "one was enough"
    agree(trio)


def test_what_is_appended_while_a_snapshot_travels_is_held_up_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1957 of the simulator: with less held, each snapshot was followed by the next, for ever."""
    trio = lagging(600)
    monkeypatch.setattr(compaction, "HELD_LOG_BYTES", 50_000)
    stuck = without_its_end(trio)
    for _ in range(300):
        trio.done(append("kept", BODY))
    trio.nodes["n3"].replica.deliver(trio.leader.replica.group.place.node, stuck)
    trio.tick(20)
    assert trio.saw(SnapshotInstalled) == ["n3"], "one was enough"
    for _ in range(100):
        trio.done(append("kept", BODY))
    agree(trio)
    assert trio.saw(SnapshotInstalled) == ["n3"]


def test_a_snapshot_takes_its_time_while_somebody_waits_at_who_gets_it() -> None:
    """What waits was given to the leader once more after three seconds, and what had arrived until then was dropped: a
    state that takes longer never came, as long as anybody asked there for anything."""
    trio = lagging(600)
    stuck: list[PeerMessage] = []

    def holds_the_last(sender: str, to: str, message: PeerMessage) -> bool:
        if isinstance(message, SnapshotChunk) and message.final:
            stuck.append(message)
            return False
        return True

    trio.passes = holds_the_last
    trio.cut.clear()
    trio.nodes["n3"].propose(append("kept", b"asked"))
    trio.tick(3)
    assert stuck
    trio.tick(GIVE_AGAIN_TICKS + 10)
    trio.passes = lambda sender, to, message: True
    assert len(stuck) == 1
    trio.nodes["n3"].replica.deliver(trio.leader.replica.group.place.node, stuck)
    trio.settle()
    assert trio.saw(SnapshotInstalled) == ["n3"], "one was enough"
    agree(trio)


def test_an_attempt_that_fails_begins_anew_and_leaves_nothing() -> None:
    trio = lagging(600)
    lost = 0

    def loses_one(sender: str, to: str, message: PeerMessage) -> bool:
        nonlocal lost
        if isinstance(message, SnapshotChunk) and message.number == 1 and lost < 2:
            lost += 1
            return False
        return True

    trio.passes = loses_one
    trio.cut.clear()
    trio.tick(3 * GIVE_UP_TICKS)
    assert lost == 2
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_what_came_of_an_attempt_before_the_disk_was_full_gives_its_room_back() -> None:
    trio = lagging(600)
    intake = trio.nodes["n3"].replica.group.intake
    came = set[int]()

    def fills(_: str, to: str, message: PeerMessage) -> bool:
        if isinstance(message, SnapshotChunk):
            came.add(message.number)
            if message.number > 1:
                intake.room = lambda _: Room.NONE
        return True

    trio.passes = fills
    trio.cut.clear()
    trio.tick(20)
    assert {0, 1, 2} <= came
    with pytest.raises(AssertionError, match="left of another epoch"):
        everything(trio.nodes["n3"])
    trio.tick(GIVE_UP_TICKS + 20)
    everything(trio.nodes["n3"])
    assert not trio.saw(SnapshotInstalled)
    trio.passes, intake.room = lambda *_: True, lambda _: Room.PLENTY
    trio.tick(GIVE_UP_TICKS)
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_one_that_is_whole_waits_for_a_turn_however_long() -> None:
    """While memtables are written out, say."""
    trio = lagging(600)
    node = trio.nodes["n3"]
    trio.cut.clear()
    for _ in range(1000):
        if node.replica.group._arrived is not None:
            break
        for each in trio.nodes.values():
            each.replica.tick()
        trio.round()
    assert node.replica.group._arrived is not None
    for _ in range(GIVE_UP_TICKS):
        node.replica.tick()
    assert not node.replica.group._receiver.has_more, "nothing of it is swept"
    trio.settle()
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_a_node_that_dies_while_a_snapshot_arrives_shows_what_it_did_and_gets_another() -> None:
    trio = lagging(600)
    trio.passes = lambda sender, to, message: not (isinstance(message, SnapshotChunk) and message.number == 2)
    trio.cut.clear()
    trio.tick(5)
    trio.restart("n3")
    trio.tick(5)
    assert trio.nodes["n3"].content("old") == b"first"
    assert trio.nodes["n3"].content("kept") == b"first"
    trio.passes = lambda sender, to, message: True
    for node in trio.nodes.values():
        node.replica.lost(trio.nodes["n3"].replica.group.place.node)
    trio.tick(20)
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_a_node_that_dies_after_an_install_goes_on_from_it() -> None:
    trio = lagging()
    trio.cut.clear()
    while not trio.saw(SnapshotInstalled):
        trio.tick()
    trio.restart("n3")
    trio.tick(30)
    assert trio.saw(SnapshotInstalled) == ["n3"], "not another one"
    agree(trio)


def test_another_leader_in_the_middle_sends_its_own() -> None:
    trio = lagging(600)
    first = trio.leader.replica.group.place.node
    trio.passes = lambda sender, to, message: not (isinstance(message, SnapshotChunk) and message.number > 1)
    trio.cut.clear()
    trio.tick(3)
    trio.passes = lambda sender, to, message: True
    trio.cut.add(first)
    trio.tick(100)
    assert trio.leader.replica.group.place.node != first
    assert trio.saw(SnapshotInstalled) == ["n3"]
    trio.cut.clear()
    trio.tick(50)
    agree(trio)


def test_pieces_that_come_twice_or_late_change_nothing() -> None:
    trio = lagging(600)
    seen: list[tuple[str, PeerMessage]] = []

    def notes(sender: str, to: str, message: PeerMessage) -> bool:
        if isinstance(message, SnapshotChunk):
            seen.append((sender, message))
            for of, old in seen:
                trio.nodes[to].replica.deliver(trio.nodes[of].replica.group.place.node, [old])
        return (
            not isinstance(message, ChunkTaken)
            or trio.nodes[to].replica.deliver(  # type: ignore[func-returns-value]
                trio.nodes[sender].replica.group.place.node, [message, message]
            )
            is None
        )

    trio.passes = notes
    trio.cut.clear()
    trio.tick(20)
    assert len(seen) > 2
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_a_write_whose_outcome_went_into_a_snapshot_is_said_to_be_unknown() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    follower = trio.nodes["n3"]
    leader = trio.leader
    assert follower is not leader
    token = object()
    follower.propose(append("s", b"mine"), token)
    trio._send("n3", follower.turn())
    trio.cut.add("n3")
    trio.tick(NOT_HEARD_TICKS)
    for _ in range(100):
        trio.done(append("s", BODY))
    unknown: list[object] = []
    turn = follower.turn

    def noting() -> object:
        effects = turn()
        unknown.extend(effects.unknown)
        return effects

    follower.turn = noting  # type: ignore[method-assign,assignment]
    trio.cut.clear()
    trio.tick(20)
    assert trio.saw(SnapshotInstalled) == ["n3"]
    assert unknown == [token]
    assert (leader.content("s") or b"").count(b"mine") == 1


def test_forks_and_sessions_come_along() -> None:
    trio = lagging(60)
    from_stream = Create("fork", "text/plain", None, None, False, b"", None)
    assert isinstance(trio.done(from_stream), Created)
    trio.cut.clear()
    agree(trio)


def pieces(trio: Trio) -> list[tuple[int, int]]:
    """Attempt and number of each piece, as they leave from now on."""
    seen: list[tuple[int, int]] = []
    passes = trio.passes

    def notes(sender: str, to: str, message: PeerMessage) -> bool:
        if isinstance(message, SnapshotChunk):
            seen.append((message.attempt, message.number))
        return passes(sender, to, message)

    trio.passes = notes
    return seen


def far_behind(trio: Trio, reached: int) -> None:
    """``n3`` gets the snapshot up to a piece, and then nothing."""
    trio.passes = lambda sender, to, message: not (isinstance(message, SnapshotChunk) and message.number > reached)
    trio.cut.clear()
    trio.tick(5)
    trio.passes = lambda sender, to, message: True


def test_a_broken_connection_costs_what_was_under_way_only() -> None:
    trio = lagging(4000)
    far_behind(trio, 6)
    seen = pieces(trio)
    trio.leader.replica.lost(trio.nodes["n3"].replica.group.place.node)
    trio.tick(20)
    assert seen[0][1] == 7
    assert len({attempt for attempt, _ in seen}) == 1
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


@pytest.mark.parametrize("reached", [0, 6])
def test_who_cannot_be_reached_is_sent_one_piece_a_tick(reached: int) -> None:
    """Each is lost at once, which must not make another turn: the leader would do nothing else."""
    trio = lagging(4000)
    far_behind(trio, reached)
    tried = 0

    def breaks(sender: str, to: str, message: PeerMessage) -> bool:
        nonlocal tried
        if isinstance(message, SnapshotChunk):
            tried += 1
            trio.nodes[sender].replica.lost(trio.nodes[to].replica.group.place.node)
        return not isinstance(message, SnapshotChunk)

    trio.passes = breaks
    trio.leader.replica.lost(trio.nodes["n3"].replica.group.place.node)
    trio.tick(20)
    assert 10 < tried <= 20
    trio.passes = lambda sender, to, message: True
    trio.tick(20)
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_an_answer_that_was_lost_is_given_again() -> None:
    trio = lagging(4000)
    trio.passes = lambda sender, to, message: not (isinstance(message, ChunkTaken) and message.number > 4)
    trio.cut.clear()
    trio.tick(5)
    trio.passes = lambda sender, to, message: True
    seen = pieces(trio)
    trio.leader.replica.lost(trio.nodes["n3"].replica.group.place.node)
    trio.tick(20)
    assert seen[0][1] == 5
    assert len({attempt for attempt, _ in seen}) == 1
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


@pytest.mark.parametrize("reached", [0, 1, 6])
def test_who_was_started_anew_in_the_middle_gets_another_attempt_at_once(reached: int) -> None:
    trio = lagging(4000)
    far_behind(trio, reached)
    trio.restart("n3")
    trio.leader.replica.lost(trio.nodes["n3"].replica.group.place.node)
    seen = pieces(trio)
    trio.tick(40)
    assert len({attempt for attempt, number in seen if number == 0}) == 1
    assert trio.saw(SnapshotInstalled) == ["n3"]
    agree(trio)


def test_a_snapshot_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "BYTES_PER_TICK", 300_000)
    trio = lagging(4000)
    seen = pieces(trio)
    trio.cut.clear()
    by_tick = []
    while not trio.saw(SnapshotInstalled):
        before = len(seen)
        trio.tick()
        by_tick.append(len(seen) - before)
    assert max(by_tick) <= 2, "256 KiB each"
    assert sum(by_tick) > 10
    agree(trio)
