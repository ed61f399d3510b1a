"""Writes on one call after the other: what goes out again when one breaks, and in which order."""

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from durable_streams_client import errors as e
from durable_streams_client.grpc_writer import BATCH_BYTES, CONNECT_S
from durable_streams_client.types import AppendRequest, AppendResult, CreateRequest, DeleteRequest
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.client.fake import settle
from tests.client.writing import Nodes, play


def test_what_is_written_at_once_leaves_together_and_replies_come_in_any_order() -> None:
    async def script(nodes: Nodes) -> None:
        waits = [nodes.send(body) for body in (b"1", b"2", b"3")]
        await settle()
        (call,) = nodes.calls
        assert (call.bodies, call.messages) == ([b"1", b"2", b"3"], 1)
        for body in (b"3", b"1"):
            call.store(body)
        call.refuse(b"2", pb.Error.STREAM_CLOSED, offset="7")
        assert [(await wait).next_offset for wait in (waits[0], waits[2])] == ["1", "3"]
        with pytest.raises(e.StreamClosedError) as closed:
            await waits[1]
        assert closed.value.offset == "7"
        made = nodes.writer.send(CreateRequest("t"), 30)
        gone = nodes.writer.send(DeleteRequest("t"), 30)
        await settle()
        create, delete = call.got[-2:]
        replies = [
            pb.WriteReply(number=create.number, create=pb.CreateReply(content_type="x/y", ttl_s=7)),
            pb.WriteReply(number=delete.number, delete=pb.DeleteReply(soft=True)),
        ]
        call._replies.put_nowait(pb.WriteReplies(replies=replies))
        assert ((await made).content_type, made.result().ttl_s, await gone) == ("x/y", 7, True)

    play(script)


def test_a_large_append_leaves_alone() -> None:
    async def script(nodes: Nodes) -> None:
        waits = [nodes.send(body) for body in (b"1", b"x" * BATCH_BYTES, b"2", b"3")]
        await settle()
        assert nodes.calls[0].messages == 3
        assert len(nodes.calls[0].got) == len(waits)

    play(script)


def test_one_that_is_too_large_is_not_sent_and_harms_no_other() -> None:
    async def script(nodes: Nodes) -> None:
        waits = [nodes.send(body) for body in (b"1", b"x" * (BATCH_BYTES + 2), b"2")]
        await settle()
        assert nodes.calls[0].bodies == [b"1", b"2"]
        with pytest.raises(e.TooLargeError, match=f"body is larger than {BATCH_BYTES + 1} bytes"):
            await waits[1]

    play(script)


def test_when_a_call_breaks_producers_batches_go_out_again_in_order_and_plain_appends_fail() -> None:
    async def script(nodes: Nodes) -> None:
        first, plain, second = nodes.send(b"1", 0), nodes.send(b"p"), nodes.send(b"2", 1)
        close = nodes.writer.send(AppendRequest("s", close=True), 30)
        await settle()
        nodes.calls[0].break_off()
        await settle()
        third, late = nodes.send(b"3", 2), nodes.send(b"q")
        with pytest.raises(e.OutcomeUnknownError, match="the connection broke: a: reset; it may or may not"):
            await plain
        call = await nodes.next_call()
        assert (call.node, call.bodies) == ("b", [b"1", b"2", b"", b"3", b"q"])
        assert nodes.calls[0].cancelled
        for body in (b"1", b"2", b"", b"3", b"q"):
            call.store(body)
        for each in (first, second, close, third, late):
            await each

    play(script)


def test_it_is_told_that_a_batch_was_sent_before() -> None:
    async def script(nodes: Nodes) -> None:
        again, other = nodes.send(b"1", 0), nodes.send(b"2", 1)
        await settle()
        nodes.calls[0].store(b"2", duplicate=True)
        assert await other == AppendResult("2", duplicate=True)
        nodes.calls[0].break_off()
        call = await nodes.next_call()
        call.store(b"1", duplicate=True)
        assert await again == AppendResult("1", duplicate=True, resent=True)
        fenced = nodes.send(b"3", 0)
        await settle()
        call.break_off()
        (await nodes.next_call()).refuse(b"3", pb.Error.PRODUCER_FENCED, epoch=7)
        with pytest.raises(e.ProducerFencedError) as told:
            await fenced
        assert (told.value.resent, told.value.maybe_applied) == (True, True), "stored by the first sending, perhaps"

    play(script)


def test_a_delete_that_was_done_by_a_sending_before_is_done() -> None:
    async def script(nodes: Nodes) -> None:
        first = nodes.writer.send(DeleteRequest("t"), 30)
        await settle()
        nodes.calls[0].refuse(b"", pb.Error.NOT_FOUND)
        with pytest.raises(e.StreamNotFoundError):
            await first
        again = nodes.writer.send(DeleteRequest("t"), 30)
        await settle()
        nodes.calls[0].break_off()
        (await nodes.next_call()).refuse(b"", pb.Error.NOT_FOUND)
        assert await again is False

    play(script)


def test_what_was_refused_for_a_moment_is_sent_again_after_that() -> None:
    async def script(nodes: Nodes) -> None:
        wait = nodes.send(b"1")
        await settle()
        (call,) = nodes.calls
        call.refuse(b"1", pb.Error.OVERLOADED, retryable=True, retry_after_ms=4000)
        await asyncio.sleep(3.9)
        assert call.bodies == [b"1"]
        await asyncio.sleep(0.2)
        assert call.bodies == [b"1", b"1"]
        call.store(b"1")
        await wait
        full = nodes.send(b"2")
        await settle()
        call.refuse(b"2", pb.Error.STORAGE_FULL, retryable=True)
        with pytest.raises(e.StorageFullError):
            await full

    play(script)


def test_a_node_that_does_not_serve_is_left_once_it_has_answered_what_it_was_given() -> None:
    async def script(nodes: Nodes) -> None:
        first, second = nodes.send(b"1"), nodes.send(b"2")
        await settle()
        (call,) = nodes.calls
        call.refuse(b"1", pb.Error.UNAVAILABLE, retryable=True)
        await settle()
        third = nodes.send(b"3")
        await settle()
        assert (call.bodies, call.cancelled) == ([b"1", b"2"], False)
        call.store(b"2")
        await second
        elsewhere = await nodes.next_call()
        await asyncio.sleep(1)  # The first waits for a moment before it is sent again.
        assert (elsewhere.node, sorted(elsewhere.bodies)) == ("b", [b"1", b"3"])
        for body in (b"1", b"3"):
            elsewhere.store(body)
        await asyncio.gather(first, third)

    play(script)


def test_an_unknown_outcome_is_told_of_a_plain_append_and_tried_again_of_a_batch() -> None:
    async def script(nodes: Nodes) -> None:
        plain, batch = nodes.send(b"p"), nodes.send(b"1", 0)
        await settle()
        (call,) = nodes.calls
        for body in (b"p", b"1"):
            call.refuse(body, pb.Error.OUTCOME_UNKNOWN, maybe_applied=True)
        with pytest.raises(e.OutcomeUnknownError):
            await plain
        await asyncio.sleep(1)
        assert call.bodies == [b"p", b"1", b"1"]
        call.store(b"1", duplicate=True)
        assert (await batch).resent

    play(script)


def test_time_is_up_with_nothing_sent_or_nobody_knows() -> None:
    async def script(nodes: Nodes) -> None:
        sent = nodes.send(b"1", 0, timeout_s=1)
        await settle()
        nodes.connects = False
        nodes.calls[0].break_off()
        await settle()
        never = nodes.send(b"2", timeout_s=9)
        with pytest.raises(e.OutcomeUnknownError, match=r"no answer within 1 s: .*; it may or may not have happened"):
            await sent
        with pytest.raises(e.UnavailableError, match=r"no answer within 9 s: .*no connection within .*; nothing was"):
            await never
        tried = [call.node for call in nodes.calls]
        assert tried[:3] == ["a", "b", "c"]
        assert len(tried) <= 9 / CONNECT_S + 2

    play(script)


def test_a_node_that_ends_calls_at_once_is_not_asked_in_a_loop() -> None:
    async def script(nodes: Nodes) -> None:
        wait = nodes.send(b"1", 0, timeout_s=10)

        async def ending() -> None:
            while True:
                nodes.calls[-1].end()
                await nodes.next_call()

        await settle()
        task = asyncio.ensure_future(ending())
        with pytest.raises(e.OutcomeUnknownError):
            await wait
        task.cancel()
        assert len(nodes.calls) < 15

    play(script)


def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    async def script(nodes: Nodes) -> None:
        nodes.connects = False
        first, second = nodes.send(b"1"), nodes.send(b"2")
        await settle()
        first.cancel()
        nodes.calls[0].connected.set()
        await settle()
        assert nodes.calls[0].bodies == [b"2"]
        second.cancel()
        nodes.calls[0].store(b"2")
        await settle()
        assert nodes.writer._open == {}

    play(script)


def test_the_end_of_a_client_is_told_to_those_who_wait() -> None:
    async def script(nodes: Nodes) -> None:
        sent = nodes.send(b"1")
        await settle()
        nodes.calls[0].connected.clear()
        await nodes.writer.aclose()
        with pytest.raises(e.OutcomeUnknownError, match="the client was closed; it may"):
            await sent
        with pytest.raises(e.ClientClosedError):
            nodes.send(b"2")
        assert nodes.calls[0].cancelled

    play(script)


def test_a_value_that_no_field_takes_is_told_at_once_and_harms_no_other() -> None:
    async def script(nodes: Nodes) -> None:
        for wrong in (CreateRequest("t", expires_at_ms=1.5), CreateRequest("t", ttl_s=-1), CreateRequest("\ud800")):  # type: ignore[arg-type]
            with pytest.raises((TypeError, ValueError)):
                nodes.writer.send(wrong, 5)
        good = nodes.send(b"1")
        await settle()
        nodes.calls[0].store(b"1")
        await good

    play(script)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED])
def test_one_node_that_fails_is_no_answer(code: grpc.StatusCode) -> None:
    async def script(nodes: Nodes) -> None:
        plain, batch = nodes.send(b"p"), nodes.send(b"1", 0)
        await settle()
        nodes.calls[0]._replies.put_nowait(AioRpcError(code, Metadata(), Metadata(), "RST_STREAM"))
        with pytest.raises(e.OutcomeUnknownError):
            await plain
        (await nodes.next_call()).store(b"1")
        await batch

    play(script)


def test_a_token_that_is_not_believed_is_told_at_once() -> None:
    async def script(nodes: Nodes) -> None:
        sent = nodes.send(b"1")
        await settle()
        late = nodes.send(b"2")
        error = AioRpcError(grpc.StatusCode.UNAUTHENTICATED, Metadata(), Metadata(), "the token has expired")
        nodes.calls[0]._replies.put_nowait(error)
        with pytest.raises(e.OutcomeUnknownError, match="expired"):
            await sent
        with pytest.raises((e.AuthenticationError, e.OutcomeUnknownError), match="expired"):
            await late

    play(script)


def test_a_node_that_refuses_at_once_is_not_asked_in_a_loop() -> None:
    async def script(nodes: Nodes) -> None:
        wait = nodes.send(b"1", 0, timeout_s=10)

        async def refusing() -> None:
            await settle()
            while True:
                nodes.calls[-1].refuse(b"1", pb.Error.UNAVAILABLE, retryable=True)
                await nodes.next_call()

        task = asyncio.ensure_future(refusing())
        with pytest.raises(e.UnavailableError):
            await wait
        task.cancel()
        assert len(nodes.calls) < 15

    play(script)


def test_a_node_that_says_nothing_is_left() -> None:
    async def script(nodes: Nodes) -> None:
        for number in range(3):
            with pytest.raises(e.OutcomeUnknownError, match="the node that was asked does not answer"):
                await nodes.send(b"%d" % number, 0, timeout_s=30)
        assert len({call.node for call in nodes.calls}) > 1

    play(script)


def test_a_node_that_does_not_serve_is_left_though_it_answers_no_more() -> None:
    async def script(nodes: Nodes) -> None:
        first, second = nodes.send(b"1", timeout_s=100), nodes.send(b"2", timeout_s=5)
        await settle()
        nodes.calls[0].refuse(b"1", pb.Error.UNAVAILABLE, retryable=True)
        with pytest.raises(e.OutcomeUnknownError):
            await second
        await asyncio.sleep(3)
        nodes.calls[-1].store(b"1")
        await first

    play(script)
