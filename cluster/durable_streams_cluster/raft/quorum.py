"""Majorities, as pure functions (thesis 3.6.2)."""

from collections.abc import Collection, Mapping

from durable_streams_cluster.ids import Index, NodeId


def majority(voters: Collection[NodeId]) -> int:
    """How many of ``voters`` make a majority; of four it is three."""
    return len(voters) // 2 + 1


def committed_index(match: Mapping[NodeId, Index], voters: Collection[NodeId]) -> Index:
    """The largest index that a majority of ``voters`` holds durably; who is not in ``match`` holds nothing."""
    held = sorted((match.get(voter, Index(0)) for voter in voters), reverse=True)
    return held[majority(voters) - 1]


def won(votes: Collection[NodeId], voters: Collection[NodeId]) -> bool:
    """Whether the distinct nodes in ``votes`` are a majority of ``voters``."""
    return len(set(votes) & set(voters)) >= majority(voters)
