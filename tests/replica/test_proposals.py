"""Writes that wait for the log: whatever leaders refuse, and in whatever order one hears of it, none is forgotten."""

from durable_streams_cluster.replica.proposals import Proposals
from durable_streams_cluster.streams.commands import Delete

PLENTY = 10_000


def some(count: int) -> Proposals:
    proposals = Proposals(incarnation=7)
    for number in range(1, count + 1):
        proposals.add(Delete(f"path {number}"), number, 100, now_ms=number)
    return proposals


def given(proposals: Proposals) -> list[object]:
    return [own.token for own in proposals.take(PLENTY)]


def test_they_are_given_in_order_and_once() -> None:
    proposals = some(3)
    assert given(proposals) == [1, 2, 3]
    assert given(proposals) == []


def test_what_was_refused_is_given_again_with_all_behind_it() -> None:
    proposals = some(4)
    assert given(proposals) == [1, 2, 3, 4]
    proposals.give_again([3])
    assert given(proposals) == [3, 4]


def test_a_late_refusal_takes_nothing_from_those_that_wait() -> None:
    """A leader that hands over refuses two letters; between the two answers another leader is known. Those of the
    first letter waited for their turn, the second answer threw them out, and nobody gave them to anybody again."""
    proposals = some(4)
    assert given(proposals) == [1, 2, 3, 4]
    proposals.give_all_again()
    proposals.give_again([3, 4])
    assert given(proposals) == [1, 2, 3, 4]


def test_a_late_refusal_counts_only_what_still_waits() -> None:
    proposals = some(4)
    assert given(proposals) == [1, 2, 3, 4]
    proposals.give_all_again()
    assert proposals.applied(1) is not None
    proposals.give_again([4])
    assert given(proposals) == [2, 3, 4]
    assert proposals.applied(4) is not None
    proposals.give_again([4])
    assert given(proposals) == []


def test_what_a_leader_refused_at_once_is_certainly_not_stored() -> None:
    proposals = some(3)
    assert given(proposals) == [1, 2, 3]
    assert [own.token for own in proposals.refused([1, 3])] == [1, 3]
    assert len(proposals) == 1


def test_what_was_given_before_is_not_called_refused() -> None:
    """The last leader put it into its log, and this one has it from there: told "nothing was stored", the client sent
    it once more, and it was stored twice."""
    proposals = some(3)
    assert given(proposals) == [1, 2, 3]
    proposals.give_all_again()
    assert given(proposals) == [1, 2, 3]
    proposals.add(Delete("path 4"), 4, 100, now_ms=4)
    assert given(proposals) == [4]
    assert [own.token for own in proposals.refused([2, 4])] == [4]
    assert given(proposals) == [2, 3], "it waits on"
    assert proposals.give_up(before_ms=9) == ([], [1, 2, 3])
