"""Majorities, against counting every way there is."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft.quorum import VoteResult, committed_index, is_majority, majority, tally

NAMES = [NodeId(f"n{number}") for number in range(7)]
VOTERS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=7, unique=True)
MATCH = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 12).map(Index))
VOTES = st.dictionaries(st.sampled_from(NAMES), st.booleans())


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority(count: int, needed: int) -> None:
    assert majority(NAMES[:count]) == needed


@given(VOTERS)
def test_any_two_majorities_share_a_voter(voters: list[NodeId]) -> None:
    sets = [set(some) for some in combinations(voters, majority(voters))]
    assert all(one & other for one in sets for other in sets)
    assert any(
        not set(some) & set(other) for some in [voters[: majority(voters) - 1]] for other in [voters[len(some) :]]
    )


@given(MATCH, VOTERS)
def test_the_committed_index_is_the_largest_that_a_majority_holds(
    match: dict[NodeId, Index], voters: list[NodeId]
) -> None:
    holding = [index for index in range(13) if 2 * sum(match.get(voter, 0) >= index for voter in voters) > len(voters)]
    assert committed_index(match, voters) == max(holding)


@given(MATCH, VOTERS, st.sampled_from(NAMES), st.integers(0, 12))
def test_it_never_falls_when_a_voter_learns_more(
    match: dict[NodeId, Index], voters: list[NodeId], node: NodeId, index: int
) -> None:
    grown = match | {node: Index(max(index, match.get(node, 0)))}
    assert committed_index(grown, voters) >= committed_index(match, voters)


@given(MATCH, VOTERS)
def test_who_is_no_voter_counts_for_nothing(match: dict[NodeId, Index], voters: list[NodeId]) -> None:
    only = {node: index for node, index in match.items() if node in voters}
    assert committed_index(only, voters) == committed_index(match, voters)


@given(st.lists(st.sampled_from(NAMES)), VOTERS)
def test_a_majority_counts_each_voter_once_and_nobody_else(nodes: list[NodeId], voters: list[NodeId]) -> None:
    assert is_majority(nodes, voters) == (2 * sum(voter in nodes for voter in voters) > len(voters))


@given(VOTES, VOTERS)
def test_an_election_is_won_or_lost_when_no_further_answer_can_change_it(
    votes: dict[NodeId, bool], voters: list[NodeId]
) -> None:
    silent = [voter for voter in voters if voter not in votes]
    ends = []
    for answers in product((False, True), repeat=len(silent)):
        full = votes | dict(zip(silent, answers, strict=True))
        ends.append(2 * sum(full[voter] for voter in voters) > len(voters))
    expected = VoteResult.WON if all(ends) else VoteResult.PENDING if any(ends) else VoteResult.LOST
    assert tally(votes, voters) == expected
