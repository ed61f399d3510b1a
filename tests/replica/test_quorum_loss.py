"""Which directory a cluster goes on from when its quorum is lost, when that is refused, and what becomes of its log."""

import pytest
from msgspec.structs import replace

from durable_streams_cluster.errors import FromNewerBuild
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import FEATURE_LEVEL, AddLearner, EntryId, Member, Membership, Remove, core
from durable_streams_cluster.replica import applying
from durable_streams_cluster.replica.quorum_loss import Choice, Found, Held, choose, go_on, read_data, read_log
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.streams import reading
from durable_streams_cluster.streams.commands import Create
from durable_streams_cluster.streams.eras import LOST_GENERATIONS
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import Appended, Created
from tests.replica.node import Node, append, create
from tests.replica.trio import Trio

N1, N4 = NodeId("n1"), NodeId("n4")
CLUSTER = "c-1"
FIVE = Membership(tuple(Member(NodeId(f"n{number}"), number, f"host:{number}") for number in range(1, 6)))
DAMAGE = "000012.log is damaged"


def sound(number: int, term: int = 1, last: int = 9, applied: int | None = None, members: Membership = FIVE) -> Found:
    newest = EntryId(Term(term), Index(last))
    known = newest if applied is None else EntryId(Term(term), Index(applied))
    return Found(f"/n{number}", NodeId(f"n{number}"), number, CLUSTER, Held(Term(term), newest, known, members))


def damaged(number: int) -> Found:
    return Found(f"/n{number}", NodeId(f"n{number}"), number, CLUSTER, None, DAMAGE)


def chosen(*found: Found, wanted: str | None = None) -> str:
    choice = choose(found, wanted)
    assert choice.refusal == ""
    assert choice.source is not None
    return choice.source.directory


def refusal(*found: Found, wanted: str | None = None) -> str:
    choice = choose(found, wanted)
    assert choice == Choice(None, choice.refusal), "nothing is said to be lost by what is not done"
    return choice.refusal


# ------------------------------------------------------------------------------------------------ which one


def test_the_later_term_has_more_and_then_the_longer_log() -> None:
    assert chosen(sound(1, term=2, last=9), sound(2, term=3, last=5)) == "/n2"
    assert chosen(sound(1, term=3, last=6), sound(2, term=3, last=5)) == "/n1"
    assert chosen(sound(2, term=3, last=5), sound(1, term=3, last=5)) == "/n2"


def test_a_damaged_one_is_never_chosen() -> None:
    assert chosen(damaged(1), sound(2), damaged(3), damaged(4)) == "/n2"
    assert refusal(sound(1), damaged(2), wanted="/n2") == f"/n2 is damaged, and nothing goes on from it: {DAMAGE}"
    assert refusal(damaged(1), damaged(2), damaged(3)).startswith("no directory is sound: nothing can be recovered")


def test_another_than_the_best_is_chosen_only_if_named_and_then_what_is_lost_is_said() -> None:
    found = sound(1, last=5), sound(2, last=6)
    assert chosen(*found, wanted="/n1") == "/n1"
    assert "/n2 holds more (entry 6 of term 1), and is not chosen" in " ".join(choose(found, "/n1").lost)
    assert refusal(*found, wanted="/n3") == "--from /n3 is none of the directories given"


def test_a_majority_that_is_sound_needs_no_recovery() -> None:
    said = refusal(sound(1), sound(2), sound(3), damaged(4))
    assert said.startswith("n1, n2 and n3 are sound, and a majority of the voters (n1, n2, n3, n4 and n5)")
    assert "Next step: start these nodes" in said
    assert refusal(sound(1, members=Membership(FIVE.members[:1]))).startswith("n1 is sound, and a majority")


def test_who_does_not_count_makes_no_majority() -> None:
    three = Membership((*FIVE.members[:3], replace(FIVE.members[3], voter=False)))
    assert chosen(sound(1, members=three), sound(4, members=three)) == "/n1"
    wiped = replace(sound(2, members=three), incarnation=77)
    assert chosen(sound(1, members=three), wiped) == "/n1"


def test_those_who_belong_are_those_that_the_best_one_knows() -> None:
    """n1 never heard that all but n2 were removed: it would wait for ever, and n2 alone goes on."""
    two_alone = Membership((FIVE.members[1],))
    assert refusal(sound(1), sound(2, last=20, members=two_alone)).startswith("n2 is sound, and a majority")
    assert chosen(sound(1, last=20), sound(2, members=two_alone)) == "/n1"


def test_what_does_not_belong_together_is_not_compared() -> None:
    other = replace(damaged(2), cluster="c-2")
    assert refusal(sound(1), other).startswith(
        "the directories are of different clusters: /n1 is of c-1, /n2 is of c-2"
    )
    copy = replace(sound(1), directory="/copy")
    assert refusal(sound(1), copy).startswith("/n1 and /copy are copies of one directory")
    assert refusal(sound(1), Found("/new", N4, 4)).startswith("/new is of no cluster")


def test_a_directory_that_cannot_tell_what_it_is_does_not_stand_in_the_way() -> None:
    assert chosen(sound(1), Found("/lost", damage="identity is damaged")) == "/n1"


def test_nothing_goes_on_from_nothing() -> None:
    empty = replace(sound(1), held=Held(Term(0), EntryId(Term(0), Index(0)), EntryId(Term(0), Index(0)), Membership()))
    assert refusal(empty) == "the sound directories hold nothing: there is nothing to go on from"


def test_what_may_be_lost_is_said() -> None:
    lost = choose([sound(1, term=4, last=9, applied=7), damaged(2)]).lost
    assert lost[0].startswith("n2, n3, n4 and n5 may have stored and acknowledged more than entry 9 of term 4")
    assert lost[1].startswith("no directory of n3, n4 and n5 was given")
    assert lost[2].startswith("entries 8 to 9 are not known to have been acknowledged")
    assert "answered 410" in lost[-1]


# ------------------------------------------------------------------------------------------------ going on


def gone_on(node: Node, drawn: int = 0) -> Node:
    """The node of a cluster of one that goes on from what ``node`` has in its store."""
    held = read_log(node.kv, ONLY_GROUP, Membership.of("n1", "n2", "n3"))
    read_data(node.kv)
    batch = go_on(node.kv, ONLY_GROUP, held, Member(N1, 77, "host:1"), drawn)
    return Node([*node.batches, batch], name="n1", voters=(), directory=77)


def place(node: Node, path: str, offset: Offset) -> reading.Place:
    view = node.replica.group.store.committed
    ref = view.find(path)
    assert ref is not None
    meta = view.meta(ref)
    assert meta is not None
    return reading.locate(view, ref, meta, offset)


def split() -> tuple[Trio, Offset]:
    """n1 led, and took an append that nobody else has; n2 and n3 took another one, and answered with this offset."""
    trio = Trio().boot()
    assert trio.leader is trio.nodes["n1"]
    trio.done(create("a"))
    trio.done(append("a", b"both "))
    trio.tick(5)
    trio.cut = {"n1"}
    trio.nodes["n1"].propose(append("a", b"here."))
    trio.settle()
    trio.tick(80)
    answer = trio.done(append("a", b"there"))
    assert isinstance(answer, Appended)
    return trio, answer.next_offset


def test_an_offset_of_what_is_lost_is_gone_and_never_of_other_bytes() -> None:
    trio, lost = split()
    node = gone_on(trio.nodes["n1"]).boot()
    assert node.content("a") == b"both here.", "what is in the log is kept"
    assert place(node, "a", Offset(lost.generation, 5)) is reading.Place.BOUNDARY
    assert place(node, "a", lost) is reading.Place.GONE, "it is where another append ends here"
    answer = node.done(append("a", b" more"))
    assert isinstance(answer, Appended)
    assert answer.next_offset == Offset(LOST_GENERATIONS + 2, 15)
    assert place(node, "a", lost) is reading.Place.GONE
    assert place(node, "a", answer.next_offset) is reading.Place.BOUNDARY


@pytest.mark.parametrize("behind", [True, False], ids=["entries behind the cut", "none"])
def test_a_build_that_would_forget_the_floor_applies_nothing(monkeypatch: pytest.MonkeyPatch, *, behind: bool) -> None:
    monkeypatch.setattr(core, "FEATURE_LEVEL", FEATURE_LEVEL - 1)
    trio = Trio().boot()
    trio.done(create("a"))
    trio.tick(5)
    if behind:
        trio.cut = {"n1"}
        trio.nodes["n1"].propose(append("a", b"here"))
        trio.settle()
    node = gone_on(trio.nodes["n1"])
    before = node.replica.group.store.applied
    assert before.group.lost_floor > LOST_GENERATIONS
    monkeypatch.setattr(applying, "FEATURE_LEVEL", FEATURE_LEVEL - 1)
    with pytest.raises(FromNewerBuild, match=f"log entry {before.index + 1} needs feature level {FEATURE_LEVEL}"):
        node.boot()
    again = Node(node.batches, name="n1", voters=(), directory=77)
    assert again.replica.group.store.applied == before
    monkeypatch.undo()
    assert again.boot().content("a") == (b"here" if behind else b"")


def test_a_stream_that_is_made_again_has_no_offset_of_the_one_that_is_lost() -> None:
    trio, _ = split()
    lost = trio.done(Create("b", "text/plain", None, None, False, b"there", None))
    node = gone_on(trio.nodes["n1"]).boot()
    assert node.content("b") is None
    made = node.done(Create("b", "text/plain", None, None, False, b"here!", None))
    assert isinstance(lost, Created)
    assert isinstance(made, Created)
    assert place(node, "b", lost.next_offset) is reading.Place.GONE


def test_two_recoveries_of_copies_have_no_offset_in_common() -> None:
    trio, _ = split()
    one, other = (gone_on(trio.nodes["n1"], drawn).boot() for drawn in (5, 1_000_005))
    for node in (one, other):
        node.done(append("a", b"!"))
    told = one.done(append("a", b"!"))
    assert isinstance(told, Appended)
    assert place(one, "a", told.next_offset) is reading.Place.BOUNDARY
    assert place(other, "a", told.next_offset) is reading.Place.GONE


def test_whoever_joins_gets_the_same_state_and_not_the_log_from_before() -> None:
    trio, lost = split()
    trio.nodes = {"n1": gone_on(trio.nodes["n1"])}
    trio.cut = set()
    trio.tick(2)
    trio.done(append("a", b" more"))
    trio.join("n4")
    trio.change(AddLearner(Member(N4, 4)))
    trio.tick(5)
    joined = trio.nodes["n4"]
    assert joined.content("a") == b"both here. more"
    assert place(joined, "a", lost) is reading.Place.GONE
    one, other = (trio.nodes[name].replica.group.store.applied for name in ("n1", "n4"))
    assert one == other
    assert one.group.lost_floor > LOST_GENERATIONS


def test_the_members_are_this_node_alone_and_the_old_directories_are_removed() -> None:
    trio = Trio().boot()
    trio.change(AddLearner(Member(N4, 4)))
    trio.cut = {"n1"}
    # Not committed anywhere: a membership in the log, behind what is applied and what appends.
    trio.nodes["n1"].propose(create("a"))
    trio.settle()
    trio.ask(Remove(N4), at="n1")
    trio.settle()
    assert trio.nodes["n1"].replica.group.core.membership.nodes == ("n1", "n2", "n3")
    node = gone_on(trio.nodes["n1"])
    assert node.replica.group.core.membership == Membership((Member(N1, 77, "host:1"),), (4,))
    node.boot()
    assert node.replica.group.core.membership == Membership((Member(N1, 77, "host:1"),), (4,))
    again = Node(node.batches, name="n1", voters=(), directory=77)
    assert again.replica.group.core.membership.nodes == (N1,)


def test_a_log_of_which_nothing_was_applied_is_gone_on_from_too() -> None:
    """What is sent to whoever joins must not begin with the first entry: the floor is not in the log."""
    trio = Trio()
    trio.passes = lambda sender, to, message: sender != "n1" or to != "n3"
    trio.tick(60)
    trio.done(create("a"))
    source = trio.nodes["n1"]
    unapplied = Node(
        [batch for batch in source.batches if not any(op.family == 1 for op in batch.ops)], name="n1", voters=()
    )
    assert unapplied.replica.group.store.applied.index == 0
    node = gone_on(unapplied)
    assert node.replica.group.store.applied.index == 1
    assert node.replica.group.core.log.first == 2
    assert node.boot().content("a") == b""
