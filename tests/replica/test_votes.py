"""A vote is given once in a term, whatever a power cut leaves of its giver: it is on disk before it is told."""

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.raft import NOTHING, RequestVote, VoteReply
from tests.replica.node import Node
from tests.replica.trio import NAMES

TERM = Term(4)


def voter(node: Node | None = None) -> Node:
    """``n2``; again, from what its disk kept."""
    return Node(node.batches[: node.synced] if node is not None else None, name="n2", voters=NAMES)


def asked(node: Node, candidate: str) -> list[tuple[str, bool]]:
    """It is asked for its vote, and takes a turn: to whom it tells what."""
    node.replica.deliver(NodeId(candidate), [RequestVote(TERM, NOTHING)])
    return told(node)


def told(node: Node) -> list[tuple[str, bool]]:
    votes = [(each.to, each.message) for each in node.turn().outbox]
    return [(to, message.granted) for to, message in votes if isinstance(message, VoteReply) and not message.pre]


def test_a_vote_that_was_told_is_not_given_to_another_one_after_a_power_cut() -> None:
    node = voter()
    votes = asked(node, "n1")
    while node.unsynced and not votes:
        node.sync()
        votes = told(node)
    assert votes == [("n1", True)]
    assert asked(voter(node), "n3") == [("n3", False)]


def test_a_vote_that_was_not_synced_was_told_to_nobody() -> None:
    node = voter()
    assert asked(node, "n1") == []
    again = voter(node)
    assert asked(again, "n3") == []
    again.sync()
    assert told(again) == [("n3", True)]
