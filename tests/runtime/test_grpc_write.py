"""Write: many requests on one call, in their order, answered in batches."""

import asyncio
from typing import Any

import grpc
import pytest

from durable_streams_cluster.limits import KIB
from durable_streams_cluster.runtime.writing import MAX_OPEN, MAX_REPLIES
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.gateway.serving import until
from tests.runtime.peering import run
from tests.runtime.test_grpc_streams import Served, append, replies, served


def test_one_message_of_very_many_requests_waits_for_its_reader() -> None:
    async def play() -> None:
        async with served() as it:
            call = it.stub.Write()
            await call.write(pb.WriteRequests.FromString(b"\x0a\x00" * 200_000))
            (writing,) = await one(it)
            most = 0
            for _ in range(2000):
                most = max(most, len(writing._replies))
                await asyncio.sleep(0)
            assert most <= MAX_OPEN + 1
            found = 0
            while found < 200_000:
                message = await call.read()
                assert len(message.replies) <= MAX_REPLIES
                found += len(message.replies)

    run(play())


async def one(it: Served) -> Any:
    await until(lambda: len(it.calls._writing) == 1)
    return it.calls._writing


def test_writes_of_one_call_happen_in_their_order() -> None:
    async def play() -> None:
        async with served() as it:
            call = it.stub.Write()
            create = pb.WriteRequest(number=1, create=pb.CreateRequest(path="s", content_type="text/plain"))
            await call.write(
                pb.WriteRequests(requests=[create, *(append(2 + each, b"%d;" % each) for each in range(250))])
            )
            await call.write(pb.WriteRequests(requests=[append(300, b"x", "no"), pb.WriteRequest(number=301)]))
            await call.write(
                pb.WriteRequests(
                    requests=[append(302, b"y" * 290 * KIB), append(303, b"z"), append(304, b"", close=True)]
                )
            )
            await call.done_writing()
            got = await replies(call, 256)
            assert await call.read() is grpc.aio.EOF
            assert got[1].create.content_type == "text/plain"
            assert (got[300].error.code, got[301].error.code) == (pb.Error.NOT_FOUND, pb.Error.BAD_REQUEST)
            assert got[304].append.closed
            ends = [got[number].append.next_offset for number in [*range(2, 252), 302, 303]]
            assert ends == sorted(ends)
            page = await it.read()
            assert b"".join(page.bodies) == b"".join(b"%d;" % each for each in range(250)) + b"y" * 290 * KIB + b"z"
            delete = pb.WriteRequest(number=1, delete=pb.DeleteRequest(path="s"))
            again = it.stub.Write(iter([pb.WriteRequests(requests=[delete, append(2, b"x")])]))
            last = await replies(again, 2)
            assert last[1].WhichOneof("result") == "delete"
            assert last[2].error.code == pb.Error.NOT_FOUND

    run(play())


def test_more_than_may_be_under_way_waits_and_what_is_refused_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_streams_cluster.runtime.writing.MAX_OPEN", 4)

    async def play() -> None:
        async with served() as it:
            await it.create()
            it.world.disk.hold = True
            call = it.stub.Write()
            for number in range(1, 4):
                await call.write(pb.WriteRequests(requests=[append(10 * number + each, b".") for each in range(5)]))
            await until(lambda: it.world.driver.admission.waiting == 5)
            it.world.disk.release()
            got = await replies(call, 15)
            assert all(each.WhichOneof("result") == "append" for each in got.values())
            assert it.world.driver.admission.waiting == 0

    run(play())
