"""Majorities, as pure functions (thesis 3.6.2)."""

from collections.abc import Collection, Mapping
from enum import Enum

from durable_streams_cluster.ids import Index, NodeId


class VoteResult(Enum):
    """How an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(voters: Collection[NodeId]) -> int:
    """How many of ``voters`` make a majority; of four it is three."""
    return len(voters) // 2 + 1


def committed_index(match: Mapping[NodeId, Index], voters: Collection[NodeId]) -> Index:
    """The largest index that a majority of ``voters`` holds durably; who is not in ``match`` holds nothing."""
    held = sorted((match.get(voter, Index(0)) for voter in voters), reverse=True)
    return held[majority(voters) - 1]


def is_majority(nodes: Collection[NodeId], voters: Collection[NodeId]) -> bool:
    """Whether the distinct voters among ``nodes`` are a majority of ``voters``."""
    return len(set(nodes) & set(voters)) >= majority(voters)


def tally(votes: Mapping[NodeId, bool], voters: Collection[NodeId]) -> VoteResult:
    """How an election stands with these answers; who is not in ``votes`` has not answered."""
    if is_majority([node for node, granted in votes.items() if granted], voters):
        return VoteResult.WON
    refused = sum(node in voters for node, granted in votes.items() if not granted)
    return VoteResult.LOST if len(voters) - refused < majority(voters) else VoteResult.PENDING
