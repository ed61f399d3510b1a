"""What a leader of several sends for what it proposes."""

from durable_streams_cluster.raft.messages import AppendEntries
from durable_streams_cluster.replica.exchange import PeerMessage
from tests.replica.node import append, create
from tests.replica.trio import Trio


def test_under_load_what_is_committed_is_told_with_the_next_entry() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    sent: list[AppendEntries] = []

    def watch(sender: str, to: str, message: PeerMessage) -> bool:
        if isinstance(message, AppendEntries):
            sent.append(message)
        return True

    trio.passes = watch
    leader = trio.leader
    for number in range(30):
        leader.propose(append("s", b"%02d" % number), number)
        trio.round()
    assert len(leader.answers) >= 20
    assert len(sent) >= 20
    assert all(message.entries for message in sent), "none is sent for the commit index alone"
    trio.settle()
    assert {node.content("s") for node in trio.nodes.values()} == {b"".join(b"%02d" % number for number in range(30))}
