"""Where a writer goes on, and what it tells at once."""

import asyncio

import pytest

from durable_streams_client import errors as e
from durable_streams_client.grpc_writer import Writer
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.client.fake import settle
from tests.client.writing import Nodes, play


def test_it_goes_on_at_the_leader_once_what_was_sent_is_answered() -> None:
    async def script(nodes: Nodes) -> None:
        first = nodes.send(b"1")
        await settle()
        (old,) = nodes.calls
        nodes.routes.leader = "b"
        nodes.writer.lead("b")
        second = nodes.send(b"2")
        await settle()
        assert (old.bodies, len(nodes.calls)) == ([b"1"], 1), "nothing more goes there, and nothing elsewhere yet"
        old.store(b"1")
        assert not (await first).resent
        await settle()
        assert [call.node for call in nodes.calls] == ["a", "b"], "at once: nothing was wrong"
        nodes.calls[1].store(b"2")
        assert not (await second).resent
        nodes.writer.lead("b")
        third = nodes.send(b"3")
        await settle()
        nodes.calls[1].store(b"3")
        await third
        assert nodes.routes.choose(0) == "a", "it did not fail"

    play(script)


def test_what_is_refused_for_lack_of_room_may_be_told_at_once() -> None:
    async def script(nodes: Nodes) -> None:
        nodes.writer = Writer(nodes.routes, nodes._stub, (), waits_for_room=False)  # type: ignore[arg-type]
        wait = nodes.send(b"1")
        await settle()
        nodes.calls[0].refuse(b"1", pb.Error.OVERLOADED, retry_after_ms=2000)
        with pytest.raises(e.OverloadedError) as refused:
            await wait
        assert refused.value.retry_after_s == 2.0

    play(script)


def test_what_certainly_did_not_happen_is_not_made_unknown_by_an_attempt_that_cannot_end() -> None:
    async def script(nodes: Nodes) -> None:
        waits = [nodes.send(body, timeout_s=30) for body in (b"1", b"2")]
        await settle()
        nodes.calls[0].refuse(b"1", pb.Error.UNAVAILABLE)  # At once: another node may know better.
        await asyncio.sleep(15.1)
        nodes.calls[0].refuse(b"2", pb.Error.UNAVAILABLE)  # There is no leader, and will there be one in time?
        with pytest.raises(e.UnavailableError) as refused:
            await waits[1]
        assert not refused.value.maybe_applied
        call = await nodes.next_call()
        assert (call.node, call.bodies) == ("b", [b"1"])
        call.store(b"1")
        await waits[0]

    play(script)
