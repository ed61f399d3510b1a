"""Single turns: what is written before what is answered, and what is left after a crash at any point."""

import copy
from random import Random

import pytest

from durable_streams_cluster.errors import FromNewerBuild
from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.limits import MAX_ENTRY_BYTES, MIB
from durable_streams_cluster.raft import BecameLeader, messages
from durable_streams_cluster.replica import compaction
from durable_streams_cluster.replica.lead import HOLD_MS
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.kv import Family, Put
from durable_streams_cluster.streams.commands import Delete
from durable_streams_cluster.streams.outcomes import Appended, Created, Deleted
from tests.replica.node import GROUP, Node, append, create


def kinds(node: Node, since: int = 0) -> list[str]:
    """The first letters of the keys each write put, write by write."""
    return [
        "".join(sorted({op.key[:1].decode() for op in batch.ops if isinstance(op, Put)}))
        for batch in node.batches[since:]
    ]


def test_a_node_leads_only_once_its_vote_is_durable() -> None:
    node = Node()
    node.replica.tick()
    first = node.turn()
    assert first.must_sync
    assert kinds(node) == ["H"]
    assert node.turn().ticket == 0, "nothing happens until the vote is durable"
    node.sync()
    second = node.turn()
    assert BecameLeader(NodeId("n1"), Term(1)) in second.events
    assert kinds(node) == ["H", "E"]
    assert not node.replica.group.can_read, "what was committed before is not known yet"
    node.sync()
    node.turn()
    assert node.replica.group.can_read


def test_nothing_is_applied_visible_or_answered_before_it_is_durable() -> None:
    node = Node().boot()
    before = len(node.batches)
    node.propose(create("s"), "create")
    node.propose(append("s", b"x"), "append")
    effects = node.turn()
    assert kinds(node, before) == ["E"], "only the entry is written"
    assert effects.must_sync
    for _ in range(3):
        assert not node.turn().completions
    assert node.content("s") is None
    assert not node.answers
    node.sync()
    applied = node.replica.turn(node.now)
    assert [token for token, _ in applied.completions] == ["create", "append"]
    assert not applied.must_sync, "the entry is durable already: no second sync"
    assert node.content("s") is None, "readers see a turn only when it is written"
    node.carry_out(applied)
    assert kinds(node, before) == ["E", "GLOS"]
    assert node.content("s") == b"x"


def test_the_applied_index_is_in_the_batch_that_it_describes() -> None:
    node = Node().boot()
    node.done(create("s"))
    batch = node.batches[-1]
    assert Put(Family.DATA, keys.group_state(GROUP), batch.ops[-1].value) == batch.ops[-1]
    assert any(op.key.startswith(b"S") for op in batch.ops if isinstance(op, Put))


def test_what_arrives_between_turns_shares_an_entry_and_a_sync() -> None:
    node = Node().boot()
    before = len(node.entries())
    for number in range(100):
        node.propose(create(f"s{number}"), number)
    effects = node.turn()
    assert len(node.entries()) == before + 1
    assert effects.must_sync
    assert len(node.unsynced) == 1
    node.settle()
    assert list(node.answers) == list(range(100)), "answers come in the order of the proposals"


def test_turns_are_pipelined_and_a_later_sync_covers_the_earlier() -> None:
    node = Node().boot()
    node.done(create("s"))
    tickets = []
    for number in range(3):
        node.propose(append("s", b"%d" % number), number)
        node.steady_ms += HOLD_MS
        tickets.append(node.turn().ticket)
    assert tickets == sorted(set(tickets))
    assert not [token for token in node.answers if isinstance(token, int)]
    node.unsynced.clear()
    node.replica.durable(tickets[1])
    node.turn()
    assert [token for token in node.answers if isinstance(token, int)] == [0, 1]
    assert node.content("s") == b"01"
    node.replica.durable(tickets[2])
    node.turn()
    assert node.content("s") == b"012"


def test_what_comes_in_while_an_entry_is_under_way_shares_the_next() -> None:
    node = Node().boot()
    node.done(create("s"))
    before = len(node.entries())
    node.propose(append("s", b"1"), 1)
    assert not node.turn().held_ms
    for number in (2, 3):
        node.propose(append("s", b"%d" % number), number)
        node.steady_ms += 1
        assert node.turn().held_ms == HOLD_MS - node.steady_ms
    assert len(node.entries()) == before + 1
    node.sync()
    assert not node.turn().held_ms
    node.settle()
    assert [commands for _, commands, _ in node.entries()[before:]] == [
        [append("s", b"1")],
        [append("s", b"2"), append("s", b"3")],
    ]
    assert list(node.answers)[-3:] == [1, 2, 3]


def test_nothing_is_held_longer_than_its_time_but_for_the_disk() -> None:
    node = Node().boot()
    node.done(create("s"))
    before = len(node.entries())
    for number in range(2):
        node.propose(append("s", b"%d" % number), number)
        node.turn()
    node.steady_ms += HOLD_MS
    busy = node.replica.turn(node.now, syncing=True)
    assert not busy.batch
    assert not busy.held_ms, "the end of the sync brings the turn"
    node.carry_out(busy)
    node.turn()
    assert len(node.entries()) == before + 2
    node.settle()
    assert list(node.answers)[-2:] == [0, 1]


def test_a_refused_batch_changes_nothing_for_readers_and_is_tried_again() -> None:
    node = Node().boot()
    node.done(create("s"))
    node.done(append("s", b"1"))
    node.propose(append("s", b"2"), "two")
    entries = node.replica.turn(node.now)  # the store refuses this one: nothing is carried out
    stored = list(node.kv.scan(Family.LOG, b"", b"\xff"))
    assert node.content("s") == b"1"
    node.propose(append("s", b"3"), "three")
    node.carry_out(entries)
    assert list(node.kv.scan(Family.LOG, b"", b"\xff")) != stored
    node.sync()
    applied = node.replica.turn(node.now)
    assert [token for token, _ in applied.completions] == ["two"]
    assert node.content("s") == b"1", "applied, refused by the store, and so not visible"
    assert Node(copy.copy(node.batches)).boot().content("s") == b"12", "a crash now: the entry is there"
    node.carry_out(applied)
    assert node.content("s") == b"12"
    node.settle()
    assert node.content("s") == b"123"
    assert list(node.answers)[-2:] == ["two", "three"]


def test_entries_hold_at_most_a_mebibyte_and_a_larger_append_travels_alone() -> None:
    node = Node().boot()
    node.done(create("s"))
    before = len(node.entries())
    sizes = [300_000] * 5 + [3 * MIB] + [10] * 3 + [MAX_ENTRY_BYTES] + [10]
    for number, size in enumerate(sizes):
        node.propose(append("s", b"x" * size), number)
    node.settle()
    made = [[len(command.body) for command in commands] for _, commands, _ in node.entries()[before:]]
    assert made == [[300_000] * 3, [300_000] * 2, [3 * MIB], [10] * 3, [MAX_ENTRY_BYTES], [10]]
    assert all(size <= MAX_ENTRY_BYTES or len(commands) == 1 for _, commands, size in node.entries())
    assert all(isinstance(node.answers[number], Appended) for number in range(len(sizes)))


def test_entries_of_small_commands_with_long_names_hold_at_most_a_mebibyte() -> None:
    node = Node().boot()
    for number in range(2_000):
        node.propose(create(f"{number:01024d}"), number)
    node.settle()
    assert all(size <= MAX_ENTRY_BYTES or len(commands) == 1 for _, commands, size in node.entries())


def test_a_restart_answers_nobody_twice_and_applies_nothing_twice() -> None:
    node = Node().boot()
    node.done(create("s"))
    for number in range(20):
        node.done(append("s", b"%d," % number))
    again = Node(node.batches).boot()
    assert again.content("s") == node.content("s")
    assert not again.answers
    assert again.replica.group.store.applied.index == again.replica.group.log.last


def test_cluster_time_never_goes_back_over_a_restart() -> None:
    node = Node(steady_ms=1_000_000).boot()
    node.steady_ms += 60_000
    node.done(create("s"))
    stamped = node.replica.group.time.at(node.now)
    node.steady_ms += 5_000
    node.propose(append("s", b"in the log only"))
    node.turn()
    unapplied = node.replica.group.time.at(node.now)
    again = Node(node.batches, steady_ms=3).boot()
    assert again.replica.group.time.at(again.now) >= unapplied > stamped
    assert again.replica.group.lead.since_ms >= unapplied
    again.wall_ms -= 900_000
    again.done(create("t"))
    assert again.replica.group.time.at(again.now) >= unapplied, "a wall clock that jumps moves nothing"


def test_giving_up_tells_what_never_reached_the_log_from_what_did() -> None:
    node = Node().boot()
    node.done(create("s"))
    node.propose(append("s", b"in the log,"), "logged")
    node.turn()
    node.propose(append("s", b"queued,"), "queued")
    node.steady_ms += 10
    node.propose(append("s", b"younger,"), "younger")
    assert node.replica.give_up(node.steady_ms) == (["queued"], ["logged"])
    assert node.replica.give_up(node.steady_ms) == ([], [])
    node.sync()
    node.settle()
    assert node.content("s") == b"in the log,younger,", "unknown means that it may happen, withdrawn that it does not"
    assert [token for token in node.answers if isinstance(token, str)] == ["younger"]


def test_compaction_keeps_a_tail_and_a_restart_works_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 2_000)
    node = Node().boot()
    node.done(create("s"))
    lengths = []
    for number in range(100):
        node.done(append("s", b"%03d" % number + b"." * 97))
        entries = node.entries()
        lengths.append(sum(size for _, _, size in entries))
        assert entries[-1][0] == node.replica.group.store.applied.index
    assert node.entries()[0][0] > 1
    assert max(lengths) <= 2 * 2_000 + 200
    assert min(lengths[40:]) >= 2_000 - 200
    again = Node(node.batches).boot()
    assert again.content("s") == node.content("s")
    again.done(append("s", b"more"))
    assert again.content("s") == (node.content("s") or b"") + b"more"


def test_compaction_never_drops_what_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 500)
    node = Node().boot()
    node.done(create("s"))
    for number in range(50):
        node.propose(append("s", b"%03d" % number + b"." * 97), number)
        node.steady_ms += HOLD_MS
        node.turn()  # no sync ends: nothing commits
    again = Node(node.batches).boot()
    assert len(again.content("s") or b"") == 5_000


def test_compaction_after_a_restart_keeps_what_the_last_run_left_unapplied(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node().boot()
    node.done(create("s"))
    for number in range(5):
        node.propose(append("s", b"%d" % number), number)
        node.steady_ms += HOLD_MS
        node.turn()
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", 100)
    again = Node(node.batches)
    again.replica.tick()
    again.turn()
    for number in range(5):
        again.propose(append("s", b"x" * 100), number)
    again.sync()
    again.turn()  # leads now, and hands over more than is kept, before the old entries are applied
    third = Node(again.batches).boot()
    assert (third.content("s") or b"")[:5] == b"01234"


def test_an_entry_of_a_newer_build_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node().boot()
    monkeypatch.setattr("durable_streams_cluster.raft.core.FEATURE_LEVEL", messages.EntryKind.COMMANDS + 40)
    node.propose(create("s"))
    node.turn()
    node.sync()
    with pytest.raises(FromNewerBuild, match="feature level"):
        node.turn()
    assert node.content("s") is None


# ------------------------------------------------------------------------------------------------------------ crashes


def numbers(node: Node, paths: list[str]) -> list[int]:
    """Everything that was appended, in order."""
    found: list[int] = []
    for path in paths:
        there = [int(each) for each in (node.content(path) or b"").split(b",") if each]
        assert there == sorted(there), "in order"
        found += there
    return sorted(found)


def recovered(node: Node, survived: int, acknowledged: int, paths: list[str]) -> None:
    """After a crash that left the first ``survived`` writes, exactly a prefix of what was proposed is there."""
    again = Node(node.batches[:survived]).boot()
    found = numbers(again, paths)
    assert found == list(range(len(found))), "a prefix, each once"
    assert len(found) >= acknowledged, "what was acknowledged is there"
    again.done(append(paths[0], b"999999,"))
    assert numbers(again, paths)[-1] == 999999, "the node goes on"


@pytest.mark.parametrize("kept_log_bytes", [compaction.KEPT_LOG_BYTES, 60])
def test_crash_at_every_point(seed: int, kept_log_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals, turns and syncs in random order; after each step a crash that loses any unsynced writes."""
    monkeypatch.setattr(compaction, "KEPT_LOG_BYTES", kept_log_bytes)
    random = Random(seed)
    paths = ["a", "b", "c"]
    node = Node().boot()
    for path in paths:
        node.done(create(path))
    proposed = 0
    for _ in range(60):
        step = random.choice(["propose", "propose", "propose", "turn", "turn", "sync"])
        if step == "propose":
            node.propose(append(random.choice(paths), b"%d," % proposed), proposed)
            proposed += 1
        elif step == "turn":
            node.turn()
        elif node.unsynced:
            node.sync()
        acknowledged = sum(isinstance(token, int) for token in node.answers)
        recovered(node, random.randint(node.synced, len(node.batches)), acknowledged, paths)
    node.settle()
    assert numbers(node, paths) == list(range(proposed))


def test_a_crash_inside_a_delete_and_recreate_leaves_one_stream_or_the_other() -> None:
    node = Node().boot()
    node.done(create("s"))
    node.done(append("s", b"old"))
    begun = len(node.batches)
    assert isinstance(node.done(Delete("s")), Deleted)
    assert isinstance(node.done(create("s")), Created)
    node.done(append("s", b"new"))
    seen = [Node(node.batches[:survived]).boot().content("s") for survived in range(begun, len(node.batches) + 1)]
    assert list(dict.fromkeys(seen)) == [b"old", None, b"", b"new"]
