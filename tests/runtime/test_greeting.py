"""Who may speak with whom."""

import pytest

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import Begun, EntryId
from durable_streams_cluster.runtime.greeting import (
    CLIENTS,
    LIFE,
    FirstIncarnation,
    Identity,
    Reason,
    Refused,
    introduce,
    introduces_itself,
    judge_dialer,
    judge_listener,
    reason_in,
)

N1, N2, N3 = map(NodeId, ("n1", "n2", "n3"))
OWN = Identity("c1", N1, 7)
PEER = Identity("c1", N2, 2**64 - 1)


def anyone(_: Identity) -> None:
    return None


def test_a_peer_is_taken_for_who_it_is() -> None:
    assert judge_dialer(OWN, anyone, introduce(PEER, N1)) == PEER
    assert judge_listener(OWN, N2, anyone, introduce(PEER)) == PEER


def test_it_says_where_clients_reach_it() -> None:
    peer = Identity("c1", N2, 5, clients="host:9")
    assert judge_dialer(OWN, anyone, introduce(peer, N1)) == peer
    assert judge_listener(OWN, N2, anyone, introduce(peer)) == peer
    with pytest.raises(Refused, match=r"^malformed: the metadata names no address$"):
        judge_dialer(OWN, anyone, (*introduce(PEER, N1), (CLIENTS, "host")))


def test_it_says_with_what_it_began() -> None:
    peer = Identity("c1", N2, 5, "host:9", Begun(2**63 - 1, Term(7), EntryId(Term(6), Index(2**64 - 1))))
    assert judge_dialer(OWN, anyone, introduce(peer, N1)) == peer
    assert judge_listener(OWN, N2, anyone, introduce(peer)) == peer


@pytest.mark.parametrize("said", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "1 2 3 -4", "1 2  3 4", "1 2 3 4\n"])
def test_who_does_not_say_it_rightly_is_refused(said: str) -> None:
    with pytest.raises(Refused, match=r"^malformed: the metadata does not say with what the node began$"):
        judge_dialer(OWN, anyone, (*introduce(PEER, N1), (LIFE, said)))


@pytest.mark.parametrize("reason", list(Reason))
def test_why_it_was_refused_is_told_by_a_word_and_not_by_what_people_read(reason: Reason) -> None:
    assert reason_in(str(Refused(reason, "it forgot: all"))) == (reason, "it forgot: all")


@pytest.mark.parametrize("details", ["", "removed by whom?", "a newer build's word: x", " removed: x", "REMOVED: x"])
def test_of_other_words_none_is_made(details: str) -> None:
    assert reason_in(details)[0] is None


def test_a_member_that_is_not_known_here_may_be_one_elsewhere() -> None:
    stranger = Identity("c1", NodeId("n9"), 9, "host:9")
    assert judge_dialer(OWN, anyone, introduce(stranger, N1)) == stranger


def test_nobody_is_believed_before_this_node_is_of_a_cluster() -> None:
    with pytest.raises(Refused, match="this is a node of no cluster yet"):
        judge_dialer(Identity("", N1, 7), anyone, introduce(PEER, N1))


def test_what_the_library_adds_does_not_disturb() -> None:
    said = [("user-agent", "grpc-python"), ("x-bin", b"\0"), *introduce(PEER, N1)]
    assert judge_dialer(OWN, anyone, said) == PEER
    assert introduces_itself(said)
    assert not introduces_itself(said[:2])


@pytest.mark.parametrize(
    ("who", "target", "reason"),
    [
        (Identity("c2", N2, 1), N1, Reason.CLUSTER),
        (Identity("c1", N2, 1), N3, Reason.TARGET),
        (Identity("c1", N2, 1), None, Reason.TARGET),
        (Identity("c1", N1, 7), N1, Reason.ITSELF),
        (Identity("c1", N2, 1, "no address"), N1, Reason.MALFORMED),
        (Identity("c1", N2, -1), N1, Reason.MALFORMED),
        (Identity("c1", NodeId("n\n2"), 1), N1, Reason.MALFORMED),
        (Identity("c1" * 33, N2, 1), N1, Reason.MALFORMED),
        (Identity("", N2, 1), N1, Reason.MALFORMED),
    ],
)
def test_who_is_refused(who: Identity, target: NodeId | None, reason: Reason) -> None:
    with pytest.raises(Refused, match=f"^{reason.value}: ") as refusal:
        judge_dialer(OWN, anyone, introduce(who, target))
    assert refusal.value.reason is reason


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (Identity("c2", N2, 1), Reason.CLUSTER),
        (Identity("c1", N3, 1), Reason.TARGET),
        (Identity("c1", N1, 7), Reason.TARGET),
    ],
)
def test_whose_answer_is_refused(who: Identity, reason: Reason) -> None:
    with pytest.raises(Refused) as refusal:
        judge_listener(OWN, N2, anyone, introduce(who))
    assert refusal.value.reason is reason


def test_nobody_is_asked_about_a_stranger() -> None:
    asked: list[Identity] = []
    for who, target in ((Identity("c2", N2, 1), N1), (PEER, N3)):
        with pytest.raises(Refused):
            judge_dialer(OWN, asked.append, introduce(who, target))
    assert asked == []


def test_the_first_incarnation_is_the_one() -> None:
    accept = FirstIncarnation()
    assert accept(Identity("c1", N2, 5)) is None
    assert accept(Identity("c1", N3, 6)) is None
    assert accept(Identity("c1", N2, 5)) is None
    assert str(accept(Identity("c1", N2, 6))) == "incarnation: n2 was incarnation 5, and comes as 6"
    with pytest.raises(Refused, match=r"^incarnation: n2 was incarnation 5, and comes as 6$"):
        judge_listener(OWN, N2, accept, introduce(Identity("c1", N2, 6)))
