"""What a leader of several sends for what it proposes."""

from durable_streams_cluster.raft.messages import AppendEntries
from durable_streams_cluster.replica.exchange import PeerMessage
from durable_streams_cluster.streams.commands import Expire
from tests.replica.node import Node, append, create
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


def test_a_stream_that_is_due_ends_once_before_the_appends_of_an_entry() -> None:
    node = Node().boot()
    node.replica.group.lead.prepare = lambda command: (Expire(getattr(command, "path", ""), 1, 0), command)
    for number, path in enumerate("aabab"):
        node.propose(append(path, b"x"), number)
    node.settle()
    _, commands, _ = node.entries()[-1]
    shown = [f"end {each.path}" if isinstance(each, Expire) else getattr(each, "path", "") for each in commands]
    assert shown == ["end a", "a", "a", "end b", "b", "a", "b"]
