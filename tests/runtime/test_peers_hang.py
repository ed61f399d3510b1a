"""A peer whose process is stopped: noticed, and found again when it goes on."""

import signal

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import PeerLimits
from durable_streams_cluster.runtime.peers import Kind, Lane
from tests.runtime.peering import Node, process, run, started

# Soon, so that the test does not take long; nothing in it depends on how soon.
SOON = {"keepalive_s": 0.2, "keepalive_timeout_s": 0.3, "greeting_timeout_s": 0.5}


def test_a_stopped_process_is_noticed_and_found_again() -> None:
    peer = NodeId("n2")

    async def play() -> None:
        one = Node("n1", "n2", limits=PeerLimits(**SOON))
        async with started(one):
            with process(one.address, SOON) as (child, address):
                one.peers.readdress(peer, address)
                await one.until(lambda: len(one.connected) == 2)
                child.send_signal(signal.SIGSTOP)
                await one.until(lambda: not any(lane.connected for lane in one.peers.status()[peer].values()))
                assert "n2" in one.lost
                assert not one.peers.send(peer, b"x", Kind.RAFT)
                await one.until(lambda: one.error("n2") == one.error("n2", Lane.BULK) == "no answer within 0.5 s")
                one.connected.clear()
                child.send_signal(signal.SIGCONT)
                await one.until(lambda: len(one.connected) == 2)
                assert one.peers.send(peer, b"x", Kind.RAFT)

    run(play())
