"""The transport between nodes, over real gRPC on loopback."""

import asyncio
import gc
import logging
import os
import random
import socket
import threading
from itertools import chain
from pathlib import Path

import pytest

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import KIB, MIB, PeerLimits
from durable_streams_cluster.runtime.greeting import Reason, Refused
from durable_streams_cluster.runtime.peers import Identity, Kind, Lane
from durable_streams_cluster.settings import Address
from tests.runtime.peering import Loop, Node, connected, run, started
from tests.runtime.strangers import Deaf, deaf_peer

SMALL = PeerLimits(raft_queue_bytes=4 * MIB, bulk_queue_bytes=4 * MIB)
IMPATIENT = PeerLimits(greeting_timeout_s=0.2)


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, pytest.param(None, id="uvloop")])
def test_payloads_arrive_in_order_on_both_streams_in_both_directions_at_once(loop: Loop | None) -> None:
    async def play() -> None:
        one, two = Node("n1", "n2", incarnation=11), Node("n2", "n1", incarnation=22)
        async with connected(one, two):
            for small, large in zip(numbered(2000), numbered(2000, 5000), strict=True):
                for node, other in ((one, two), (two, one)):
                    assert node.send(other, small)
                    assert node.send(other, large, Kind.BULK)
                if small.endswith(b"00"):
                    await asyncio.sleep(0)
            for node, other in ((one, two), (two, one)):
                received = node.received[other.id]
                await node.until(lambda received=received: len(received) == 4000)  # type: ignore[misc]
                assert [payload for payload in received if int(payload) < 5000] == numbered(2000)
                assert [payload for payload in received if int(payload) >= 5000] == numbered(2000, 5000)
                assert node.incarnations == {(other.id, other.identity.incarnation)}
                assert node.lost == []

    if loop is None:
        run(play())
    else:
        run(play(), loop)


def test_what_waits_travels_together_and_heartbeats_first() -> None:
    async def play() -> None:
        one = Node("n1", "n2")
        async with deaf_peer() as peer, started(one):
            one.peers.readdress(NodeId("n2"), peer.address)
            await one.until(lambda: len(one.connected) == 2)
            for payload in numbered(1000):
                assert one.peers.send(peer.id, payload, Kind.RAFT)
            assert one.peers.send(peer.id, b"beat", Kind.HEARTBEAT)
            envelopes = [await peer.take(Lane.RAFT) for _ in range(2)]
            assert [len(envelope) for envelope in envelopes] == [512, 489]
            assert list(chain(*envelopes)) == [b"beat", *numbered(1000)]

    run(play())


def test_large_payloads_arrive_whole_and_larger_ones_are_refused() -> None:
    limits = PeerLimits()

    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two):
            large = random.Random(1).randbytes(limits.bulk_payload_bytes)
            assert one.send(two, large, Kind.BULK)
            assert one.send(two, large[: limits.raft_payload_bytes], Kind.RAFT)
            await two.until(lambda: len(two.received[one.id]) == 2)
            assert sorted(two.received[one.id], key=len) == [large[: limits.raft_payload_bytes], large]
            for kind, size in ((Kind.BULK, len(large)), (Kind.RAFT, limits.raft_payload_bytes)):
                with pytest.raises(ValueError, match="at most"):
                    one.send(two, bytes(size + 1), kind)
            assert one.send(two, b"after")
            await two.until(lambda: b"after" in two.received[one.id])
            assert (one.lost, two.lost) == ([], [])

    run(play())


def test_a_full_queue_drops_says_so_once_and_stays_bounded() -> None:
    async def play() -> None:
        one = Node("n1", "n2", limits=SMALL)
        async with deaf_peer() as peer, started(one):
            one.peers.readdress(NodeId("n2"), peer.address)
            await one.until(lambda: len(one.connected) == 2)
            payload = bytes(100 * KIB)
            # What gRPC and the kernel take on their own is bounded as well.
            given = 0
            while one.peers.send(peer.id, payload, Kind.BULK):
                given += 1
                assert given < 1000
                await asyncio.sleep(0)
            assert not any(one.peers.send(peer.id, b"x", Kind.BULK) for _ in range(50))
            assert one.lost == [], "never from within send"
            await one.until(lambda: one.lost == ["n2"])
            status = one.peers.status()[peer.id]
            assert (status[Lane.BULK].dropped, status[Lane.RAFT].dropped) == (51, 0)
            assert status[Lane.BULK].queued_bytes <= SMALL.bulk_queue_bytes
            assert one.peers.send(peer.id, b"beat", Kind.HEARTBEAT), "the other stream knows nothing of it"
            assert await peer.take(Lane.RAFT) == [b"beat"]
            arrived = 0
            while arrived < given:
                arrived += len(await peer.take(Lane.BULK))
            assert arrived == given
            assert one.lost == ["n2"]
            assert one.peers.send(peer.id, b"again", Kind.BULK)
            assert await peer.take(Lane.BULK) == [b"again"]

    run(play())


def test_a_peer_that_is_started_again_is_found_again() -> None:
    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two):
            port = two.peers.port
            await two.peers.stop()
            await one.until(lambda: "n2" in one.lost and not any_connected(one, two))
            assert not one.send(two, b"to nobody")
            tries = len(one.pauses) + 10
            await one.until(lambda: len(one.pauses) >= tries)
            one.connected.clear()
            two = Node("n2", "n1", port=port)
            async with started(two):
                two.dials(one)
                await one.until(lambda: len(one.connected) == 2)
                assert one.error("n2") == ""
                assert one.send(two, b"back")
                await two.until(lambda: two.received[one.id] == [b"back"])

    run(play())


def any_connected(node: Node, other: Node) -> bool:
    return any(lane.connected for lane in node.peers.status()[other.id].values())


def test_attempts_are_spread_and_never_more_than_a_second_apart() -> None:
    async def play() -> None:
        one = Node("n1", "n2")
        async with started(one):
            await one.until(lambda: len(one.pauses) >= 24)
            assert one.error("n2").startswith("UNAVAILABLE: ")
        assert max(one.pauses) <= 1.0
        first, later = one.pauses[:2], one.pauses[-8:]
        assert all(0.025 <= pause <= 0.05 for pause in first)
        assert all(0.5 <= pause <= 1.0 for pause in later)
        assert len(set(later)) == len(later)

    run(play())


def test_a_peer_that_moved_is_dialed_where_it_is_now() -> None:
    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two):
            moved = Node("n2", "n1")
            async with started(moved):
                one.connected.clear()
                one.dials(moved)
                one.peers.readdress(moved.id, moved.address)
                await one.until(lambda: len(one.connected) == 2)
                assert one.send(moved, b"here")
                await moved.until(lambda: moved.received[one.id] == [b"here"])
                assert two.received[one.id] == []
        with pytest.raises(KeyError):
            one.peers.readdress(NodeId("n9"), moved.address)

    run(play())


def test_a_peer_that_never_answers_costs_nothing_but_attempts() -> None:
    async def play() -> None:
        one = Node("n1", "n2", limits=IMPATIENT)
        with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts; nobody else does
            async with started(one):
                one.peers.readdress(NodeId("n2"), Address("127.0.0.1", silent.getsockname()[1]))
                await one.until(lambda: one.error("n2") == one.error("n2", Lane.BULK) == "no answer within 0.2 s")
                assert not one.peers.send(NodeId("n2"), b"x", Kind.RAFT)
                tries = len(one.pauses) + 4
                await one.until(lambda: len(one.pauses) >= tries)

    run(play())


def test_a_peer_that_is_no_grpc_server_is_an_error_like_others() -> None:
    async def play() -> None:
        def mumble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        one = Node("n1", "n2", limits=IMPATIENT)
        async with await asyncio.start_server(mumble, "127.0.0.1", 0) as server, started(one):
            one.peers.readdress(NodeId("n2"), Address("127.0.0.1", server.sockets[0].getsockname()[1]))
            await one.until(lambda: len(one.pauses) >= 10)
            assert one.error("n2")
            assert one.connected == []

    run(play())


def test_an_answer_without_a_name_is_no_peer() -> None:
    async def play() -> None:
        one = Node("n1", "n2", limits=IMPATIENT)
        async with deaf_peer(Deaf(says=())) as peer, started(one):
            one.peers.readdress(NodeId("n2"), peer.address)
            await one.until(lambda: one.error("n2") == one.error("n2", Lane.BULK) == "no answer within 0.2 s")
            assert one.connected == []

    run(play())


def test_stopping_amid_sends_leaves_nothing_behind() -> None:
    def sockets() -> int:
        found = 0
        for link in Path("/proc/self/fd").iterdir():
            try:
                found += os.readlink(link).startswith("socket:")
            except FileNotFoundError:
                continue
        return found

    async def play() -> None:
        before, loops = 0, 6
        for _ in range(loops):
            one, two = Node("n1", "n2"), Node("n2", "n1")
            async with connected(one, two):
                for _ in range(100):
                    one.send(two, bytes(50 * KIB), Kind.BULK)
                    two.send(one, bytes(5 * KIB))
                await two.until(lambda two=two, one=one: len(two.received[one.id]) > 0)  # type: ignore[misc]
                # The streams are in the midst of writing now.
                port = one.peers.port
                one.dials(Node("n2"))
                await one.peers.stop()
                heard = len(one.received[two.id]), len(one.lost), len(one.connected)
                assert not one.send(two, b"too late")
                for _ in range(20):
                    await asyncio.sleep(0)
                assert heard == (len(one.received[two.id]), len(one.lost), len(one.connected))
                with socket.create_server(("127.0.0.1", port)):
                    pass
            del one, two
            gc.collect()
            before = before or sockets()
        # Connections are closed by threads of gRPC, soon.
        async with asyncio.timeout(60):
            while sockets() > before:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.01)

    run(play())
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if "poll" in thread.name] == []


def test_a_handler_that_fails_does_not_end_the_dialing(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        asked: list[Identity] = []

        def accept(who: Identity) -> Refused | None:
            asked.append(who)
            if len(asked) <= 2:
                raise RuntimeError("not yet")
            return None

        one, two = Node("n1", "n2", accept=accept), Node("n2", accept=lambda _: Refused(Reason.INCARNATION, "not you"))
        async with started(two), started(one):
            one.peers.readdress(two.id, Address("localhost", two.peers.port))
            await one.until(lambda: one.error("n2").startswith("FAILED_PRECONDITION: incarnation: not you"))
        one, two = Node("n1", "n2", accept=accept), Node("n2", "n1")
        async with started(two), started(one):
            one.dials(two)
            await one.until(lambda: one.is_connected(two))

    with caplog.at_level(logging.ERROR):
        run(play())
    assert sum("not yet" in (record.exc_text or "") for record in caplog.records) == 2


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".invalid"])
def test_a_peer_whose_name_stands_for_nothing_is_looked_for_again_and_again(host: str) -> None:
    async def play() -> None:
        one = Node("n1", "n2")
        async with started(one):
            one.peers.readdress(NodeId("n2"), Address(host, 4439))
            tries = len(one.pauses) + 6
            await one.until(lambda: len(one.pauses) >= tries)
            assert one.error("n2").startswith("UNAVAILABLE: ")

    run(play())


def test_an_address_in_use_is_a_configuration_error(capfd: pytest.CaptureFixture[str]) -> None:
    async def play() -> None:
        one = Node("n1", "n2")
        async with started(one):
            again = Node("n1", "n2", port=one.peers.port)
            with pytest.raises(
                ConfigError, match=rf"peer: cannot listen on 127.0.0.1:{one.peers.port}: the address is"
            ):
                await again.peers.start()
            await again.peers.stop()

    run(play())
    assert capfd.readouterr().err == ""


def test_a_name_that_stands_for_nothing_is_a_configuration_error() -> None:
    async def play() -> None:
        one = Node("n1", "n2", host="no-such-host.invalid")
        with pytest.raises(ConfigError, match=r"peer: cannot listen on no-such-host\.invalid:0: "):
            await one.peers.start()
        await one.peers.stop()

    run(play())


def test_a_proxy_in_the_environment_is_not_for_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two):
            assert one.send(two, b"direct")
            await two.until(lambda: two.received[one.id] == [b"direct"])

    run(play())


def test_series_of_peers() -> None:
    async def play() -> None:
        one, two = Node("n1", "n2"), Node("n2", "n1")
        async with connected(one, two):
            one.send(two, b"12345", Kind.BULK)
            await two.until(lambda: len(two.received[one.id]) == 1)
            await one.until(
                lambda: 'peer_sent_bytes_total{peer="n2",stream="bulk"} 5.0' in one.metrics.render().decode()
            )
            text = one.metrics.render().decode()
            assert 'peer_connected{peer="n2",stream="raft"} 1.0' in text
            assert 'peer_sent_payloads_total{peer="n2",stream="bulk"} 1.0' in text
            assert 'peer_received_bytes_total{peer="n1"} 5.0' in two.metrics.render().decode()

    run(play())
