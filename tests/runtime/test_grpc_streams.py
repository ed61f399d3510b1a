"""The service ``Streams`` over a real channel, on a node whose time is simulated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.limits import KIB, MIB, GrpcLimits, Limits
from durable_streams_cluster.raft import LeaderChanged
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_clients import ClientListener
from durable_streams_cluster.runtime.grpc_streams import ERROR
from durable_streams_cluster.runtime.operating import Operating
from durable_streams_cluster.runtime.whereabouts import Whereabouts
from durable_streams_cluster.settings import Address
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1 import streams_pb2 as pb
from durable_streams_proto.v1.streams_pb2_grpc import StreamsStub
from tests.gateway.serving import until
from tests.runtime.peering import run
from tests.runtime.world import World, started

START = "0000000000000000_0000000000000000"
LIMITS = replace(Limits(), max_append_bytes=300 * KIB, max_inflight_bytes=600 * KIB)


class Served:
    """A node, and a client of it."""

    def __init__(self, world: World, calls: Calls, stub: Any) -> None:
        self.world, self.calls, self.stub = world, calls, stub

    async def create(self, path: str = "s", content_type: str | None = "text/plain", **more: Any) -> pb.CreateReply:
        made: pb.CreateReply = await self.stub.Create(pb.CreateRequest(path=path, content_type=content_type, **more))
        return made

    async def append(self, body: bytes, path: str = "s", content_type: str = "text/plain", **more: Any) -> Any:
        return await self.stub.Append(pb.AppendRequest(path=path, content_type=content_type, body=body, **more))

    async def read(self, path: str = "s", **more: Any) -> pb.Page:
        page: pb.Page = await self.stub.Read(pb.ReadRequest(path=path, **more))
        return page


@asynccontextmanager
async def served(limits: Limits = LIMITS) -> AsyncIterator[Served]:
    world = await started(limits=limits)
    calls = Calls(limits, world.metrics)
    listener = ClientListener(Address("127.0.0.1", 0), Operating(None), calls, GrpcLimits.of(limits), lambda: True)
    await listener.start()
    try:
        calls.attach(world.streams, Crowd(limits))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
            yield Served(world, calls, StreamsStub(channel))
    finally:
        calls.drain()
        await listener.stop(1.0)


def append(number: int, body: bytes, path: str = "s", **more: Any) -> pb.WriteRequest:
    asked = pb.AppendRequest(path=path, content_type="text/plain", body=body, **more)
    return pb.WriteRequest(number=number, append=asked)


async def replies(call: Any, count: int) -> dict[int, pb.WriteReply]:
    found: dict[int, pb.WriteReply] = {}
    while len(found) < count:
        found |= {each.number: each for each in (await call.read()).replies}
    return found


async def error_of(call: Any) -> tuple[grpc.StatusCode, pb.Error]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    trailers = dict(raised.value.trailing_metadata() or ())
    error = pb.Error.FromString(trailers[ERROR])  # type: ignore[arg-type]
    assert raised.value.details() == error.message
    return raised.value.code(), error


def test_the_life_of_a_stream() -> None:
    async def play() -> None:
        async with served() as it:
            made = await it.create(ttl_s=60)
            assert (made.existed, made.content_type, made.next_offset, made.ttl_s) == (False, "text/plain", START, 60)
            assert (await it.create(ttl_s=60)).existed
            first = await it.append(b"one")
            last = await it.append(b"two", close=True)
            assert (first.closed, last.closed, first.HasField("producer_seq")) == (False, True, False)
            page = await it.read()
            assert list(page.bodies) == [b"one", b"two"]
            assert (page.offset, page.next_offset) == (START, last.next_offset)
            assert (page.up_to_date, page.closed, page.behind_bytes) == (True, True, 0)
            small = await it.read(offset="-1", max_bytes=1)
            assert (list(small.bodies), small.next_offset, small.behind_bytes) == ([b"one"], first.next_offset, 3)
            assert (small.up_to_date, small.closed) == (False, False)
            assert list((await it.read(offset=first.next_offset)).bodies) == [b"two"]
            assert list((await it.read(offset="now")).bodies) == []
            head = await it.stub.Head(pb.HeadRequest(path="s"))
            assert (head.next_offset, head.first_offset, head.closed, head.ttl_s) == (last.next_offset, START, True, 60)
            assert not (await it.stub.Delete(pb.DeleteRequest(path="s"))).soft
            code, error = await error_of(it.read())
            assert (code, error.code) == (grpc.StatusCode.NOT_FOUND, pb.Error.NOT_FOUND)
            assert it.world.metrics.appends == 2

    run(play())


def test_json_is_flattened_and_forks_inherit() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create("j", "application/json", body=b"[1, 2]")
            await it.append(b'{"a": 3}', "j", "application/json")
            fork = await it.create("f", None, fork=pb.Fork(source="j", offset=START, sub_offset=1), body=b"[]")
            assert fork.content_type == "application/json"
            await it.append(b"[4,5]", "f", "application/json")
            assert list((await it.read("f")).bodies) == [b"1", b"4,5"]
            whole = await it.create("g", None, fork=pb.Fork(source="j"))
            assert list((await it.read("g")).bodies) == [b"1, 2", b'{"a": 3}']
            assert whole.next_offset == (await it.read("j")).next_offset
            assert (await it.stub.Delete(pb.DeleteRequest(path="j"))).soft
            assert (await error_of(it.read("j")))[1].code == pb.Error.DELETED

    run(play())


def test_streams_are_listed_by_path() -> None:
    async def play() -> None:
        async with served() as it:
            for path in ("b/2", "a/1", "b/1", "b/3"):
                await it.create(path)
            listed = await it.stub.List(pb.ListRequest(prefix="b/", limit=2))
            assert ([each.path for each in listed.streams], listed.next) == (["b/1", "b/2"], "b/2")
            rest = await it.stub.List(pb.ListRequest(prefix="b/", limit=2, after=listed.next))
            assert ([each.path for each in rest.streams], rest.next) == (["b/3"], "")
            assert len((await it.stub.List(pb.ListRequest())).streams) == 4

    run(play())


def test_a_producers_batch_is_stored_once() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            first = await it.append(b"x", producer=pb.Producer(id="me", epoch=1, seq=0))
            again = await it.append(b"x", producer=pb.Producer(id="me", epoch=1, seq=0))
            assert (first.duplicate, again.duplicate) == (False, True)
            assert again.next_offset == first.next_offset
            assert (again.producer_epoch, again.producer_seq) == (1, 0)
            _, gap = await error_of(it.append(b"x", producer=pb.Producer(id="me", epoch=1, seq=5)))
            assert (gap.code, gap.expected_seq, gap.received_seq) == (pb.Error.SEQUENCE_GAP, 1, 5)
            _, fenced = await error_of(it.append(b"x", producer=pb.Producer(id="me", epoch=0, seq=0)))
            assert (fenced.code, fenced.epoch) == (pb.Error.PRODUCER_FENCED, 1)
            _, start = await error_of(it.append(b"x", producer=pb.Producer(id="me", epoch=2, seq=3)))
            assert (start.code, start.expected_seq, start.received_seq) == (pb.Error.SEQUENCE_GAP, 0, 3)

    run(play())


BAD = [
    (pb.AppendRequest(path="s", body=b"x"), pb.Error.BAD_REQUEST, "content_type is missing"),
    (pb.AppendRequest(path="s", body=b"x", content_type="text"), pb.Error.BAD_REQUEST, "content_type must be"),
    (pb.AppendRequest(path="s"), pb.Error.BAD_REQUEST, "body is empty; only a request with close may be"),
    (pb.AppendRequest(path="s//t"), pb.Error.BAD_REQUEST, "path has an empty segment"),
    (pb.AppendRequest(path="x" * 1025), pb.Error.PATH_TOO_LONG, "path is longer than 1024 bytes"),
    (pb.AppendRequest(path="__ds/x"), pb.Error.NOT_FOUND, "path begins with __ds"),
    (
        pb.AppendRequest(path="s", body=b"x" * (300 * KIB + 1), content_type="text/plain"),
        pb.Error.TOO_LARGE,
        "body is larger than 307200 bytes",
    ),
    (pb.AppendRequest(path="j", body=b"{", content_type="application/json"), pb.Error.INVALID_JSON, "body is not JSON"),
    (pb.AppendRequest(path="j", body=b"[]", content_type="application/json"), pb.Error.INVALID_JSON, "empty array"),
    (pb.AppendRequest(path="no", body=b"{", content_type="application/json"), pb.Error.NOT_FOUND, "no stream"),
    (
        pb.AppendRequest(path="s", body=b"{", content_type="application/json"),
        pb.Error.CONTENT_TYPE_MISMATCH,
        "the stream holds text/plain",
    ),
    (pb.AppendRequest(path="c", body=b"{", content_type="application/json"), pb.Error.STREAM_CLOSED, "is closed"),
    (pb.AppendRequest(path="s", close=True, stream_seq=b""), pb.Error.BAD_REQUEST, "stream_seq must have 1 to 256"),
    (
        pb.AppendRequest(path="s", close=True, producer=pb.Producer(id="")),
        pb.Error.BAD_REQUEST,
        "producer.id must have 1 to 256 bytes",
    ),
    (
        pb.AppendRequest(path="s", close=True, producer=pb.Producer(id="\u0100")),
        pb.Error.BAD_REQUEST,
        "producer.id has characters",
    ),
    (
        pb.AppendRequest(path="s", close=True, producer=pb.Producer(id="a", seq=2**53)),
        pb.Error.BAD_REQUEST,
        "producer.seq must be an integer",
    ),
    (
        pb.AppendRequest(path="s", close=True, producer=pb.Producer(id="a"), if_match=START),
        pb.Error.BAD_REQUEST,
        "if_match and producer exclude each other",
    ),
    (pb.AppendRequest(path="s", close=True, if_match="7"), pb.Error.BAD_REQUEST, "if_match must be an offset"),
    (
        pb.AppendRequest(path="s", close=True, if_match=f"{1:016d}_{9:016d}"),
        pb.Error.OFFSET_MISMATCH,
        f"the stream ends at {START}",
    ),
    (pb.CreateRequest(path="t", ttl_s=1, expires_at_ms=1), pb.Error.BAD_REQUEST, "ttl_s and expires_at_ms exclude"),
    (pb.CreateRequest(path="t", ttl_s=2**40), pb.Error.BAD_REQUEST, "ttl_s must be an integer from 0 to 315360000"),
    (pb.CreateRequest(path="t", expires_at_ms=2**60), pb.Error.BAD_REQUEST, "expires_at_ms lies, in UTC"),
    (pb.CreateRequest(path="s", content_type="text/html"), pb.Error.CONFIG_MISMATCH, "with another Content-Type"),
    (pb.CreateRequest(path="t", fork=pb.Fork(source="no")), pb.Error.SOURCE_NOT_FOUND, "no stream at fork.source"),
    (pb.CreateRequest(path="t", fork=pb.Fork(source="s", offset="7")), pb.Error.BAD_REQUEST, "fork.offset must be"),
    (pb.CreateRequest(path="t", fork=pb.Fork(source="")), pb.Error.BAD_REQUEST, "fork.source is empty"),
    (pb.ReadRequest(path="s", offset="7"), pb.Error.BAD_REQUEST, "offset must be -1, now, or an offset"),
    (pb.ReadRequest(path="s", offset=f"{9:016d}_{9:016d}"), pb.Error.OFFSET_GONE, "read from -1"),
    (pb.FollowRequest(path="no"), pb.Error.NOT_FOUND, "create it first"),
    (pb.ListRequest(limit=1001), pb.Error.BAD_REQUEST, "limit must be a number from 1 to 1000"),
    (pb.ListRequest(prefix="\0"), pb.Error.BAD_REQUEST, "prefix has a control character"),
    (pb.HeadRequest(path="no"), pb.Error.NOT_FOUND, "no stream at this path"),
]


@pytest.mark.parametrize(("request_", "code", "says"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_input_gets_a_precise_error(request_: Any, code: int, says: str) -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            await it.create("j", "application/json")
            await it.create("c", "application/json", closed=True)
            method = getattr(it.stub, type(request_).__name__.removesuffix("Request"))
            call = method(request_)
            status, error = await error_of(call.read() if isinstance(request_, pb.FollowRequest) else call)
            assert error.code == code, error
            assert says in error.message
            assert not error.retryable
            assert status not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)
            if isinstance(request_, pb.AppendRequest):
                assert list((await it.read()).bodies) == []
                written = it.stub.Write(iter([pb.WriteRequests(requests=[pb.WriteRequest(number=7, append=request_)])]))
                (reply,) = (await written.read()).replies
                assert (reply.number, reply.error) == (7, error)

    run(play())


def test_a_node_that_is_of_no_cluster_yet_says_so() -> None:
    async def play() -> None:
        async with served() as it:
            it.calls._streams = None
            code, error = await error_of(it.create())
            assert (code, error.code) == (grpc.StatusCode.UNAVAILABLE, pb.Error.UNAVAILABLE)
            assert (error.retryable, error.maybe_applied) == (True, False)
            assert "of no cluster yet" in error.message

    run(play())


# --- Follow.


async def pages(call: Any, count: int) -> list[tuple[list[bytes], bool, bool]]:
    found = []
    for _ in range(count):
        page = await call.read()
        found.append((list(page.bodies), page.up_to_date, page.closed))
    return found


def test_a_follower_gets_what_is_there_and_then_what_comes() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            await it.append(b"1")
            await it.append(b"2")
            call = it.stub.Follow(pb.FollowRequest(path="s", max_bytes=1))
            assert await pages(call, 2) == [([b"1"], False, False), ([b"2"], True, False)]
            await it.append(b"3")
            assert await pages(call, 1) == [([b"3"], True, False)]
            assert it.world.metrics.live_readers["follow"] == 1
            await it.append(b"", close=True)
            assert await pages(call, 1) == [([], True, True)]
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK
            assert it.world.metrics.live_readers["follow"] == 0

    run(play())


def test_a_follower_of_what_is_new_is_told_where_that_begins() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            before = await it.append(b"1")
            call = it.stub.Follow(pb.FollowRequest(path="s", offset="now"))
            page = await call.read()
            assert (list(page.bodies), page.up_to_date, page.next_offset) == ([], True, before.next_offset)
            await it.append(b"2")
            assert await pages(call, 1) == [([b"2"], True, False)]

    run(play())


def test_a_follower_is_told_that_the_stream_is_gone_also_if_another_takes_its_place() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            call = it.stub.Follow(pb.FollowRequest(path="s"))
            await pages(call, 1)
            await asyncio.gather(it.stub.Delete(pb.DeleteRequest(path="s")), it.create())
            assert (await error_of(call.read()))[1].code == pb.Error.NOT_FOUND

    run(play())


def test_a_node_that_drains_sends_followers_and_writers_away_with_all_there_is() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            call = it.stub.Follow(pb.FollowRequest(path="s"))
            await pages(call, 1)
            writes = it.stub.Write()
            await writes.write(pb.WriteRequests(requests=[append(1, b"1")]))
            await writes.read()
            assert await pages(call, 1) == [([b"1"], True, False)]
            it.calls.drain()
            assert (await error_of(call.read()))[1].code == pb.Error.UNAVAILABLE
            assert await writes.read() is grpc.aio.EOF
            late = it.stub.Follow(pb.FollowRequest(path="s"))
            assert await pages(late, 1) == [([b"1"], True, False)]
            assert (await error_of(late.read()))[1].code == pb.Error.UNAVAILABLE
            assert (await error_of(it.stub.Write().read()))[1].code == pb.Error.UNAVAILABLE

    run(play())


def test_a_reader_that_takes_nothing_is_sent_away() -> None:
    limits = replace(LIMITS, max_unsent_bytes=400 * KIB, write_timeout_s=5.0)

    async def play() -> None:
        async with served(limits) as it:
            follows = it.calls.follows
            follows.crowd.unsent_bytes = lambda: follows.unsent_bytes
            await it.create()
            for _ in range(40):
                await it.append(b"x" * 250 * KIB)
            stalled = [it.stub.Follow(pb.FollowRequest(path="s")) for _ in range(3)]
            await until(lambda: follows.unsent_bytes > 0)
            await until(lambda: follows.unsent_bytes == 0)
            assert list((await it.read(max_bytes=1)).bodies) == [b"x" * 250 * KIB]
            for each in stalled:
                while isinstance(got := await taken(each), pb.Page):
                    pass
                assert got.code in (pb.Error.UNAVAILABLE, pb.Error.OVERLOADED)
                assert got.retryable

    run(play())


async def taken(call: Any) -> pb.Page | pb.Error:
    try:
        page: pb.Page = await call.read()
    except grpc.aio.AioRpcError as error:
        return pb.Error.FromString(dict(error.trailing_metadata() or ())[ERROR])  # type: ignore[arg-type]
    return page


def test_many_small_appends_make_a_page_that_is_larger_than_its_data() -> None:
    limits = replace(Limits(), max_append_bytes=MIB)

    async def play() -> None:
        async with served(limits) as it:
            await it.create()
            call = it.stub.Write()
            for batch in range(110):
                await call.write(
                    pb.WriteRequests(requests=[append(500 * batch + each, b"x" * 20) for each in range(500)])
                )
            await replies(call, 55_000)
            assert len((await it.read()).bodies) > 50_000

    run(play())


def test_clients_are_told_which_nodes_there_are_and_who_leads_until_the_node_goes() -> None:
    async def play() -> None:
        async with served() as it:
            with pytest.raises(grpc.aio.AioRpcError, match="of no cluster yet"):
                await it.stub.Nodes(pb.NodesRequest()).read()
            group = it.world.driver.replica.group
            own = group.core.membership.nodes[0]
            others = {own: "stale", NodeId("n9"): "not of this cluster"}
            stored = StoredIdentity(own, 1, "c-1")
            place = it.calls.whereabouts = Whereabouts(stored, "10.0.0.1:1", it.world.driver, lambda: others)
            call = it.stub.Nodes(pb.NodesRequest())
            told = await call.read()
            assert (told.cluster, told.node, told.leader) == ("c-1", own, own)
            assert [(each.name, each.target) for each in told.nodes] == [(own, "10.0.0.1:1")]
            # Of what has not changed nothing is told; of what has, at once.
            for watch in it.world.driver.watchers:
                watch(LeaderChanged(None, Term(9)))
            others[own] = "10.0.0.1:2"
            place._own = "10.0.0.1:2"
            for watch in it.world.driver.watchers:
                watch(LeaderChanged(None, Term(9)))
            assert [each.target for each in (await call.read()).nodes] == ["10.0.0.1:2"]
            it.calls.drain()
            with pytest.raises(grpc.aio.AioRpcError, match="ask another one"):
                await call.read()

    run(play())


def test_a_gateway_may_follow_thousands_of_streams_on_one_connection() -> None:
    async def play() -> None:
        async with served() as it:
            await it.create()
            calls = [it.stub.Follow(pb.FollowRequest(path="s", offset="now")) for _ in range(1_200)]
            for page in await asyncio.gather(*(call.read() for call in calls)):
                assert page.up_to_date
            await it.append(body=b"x", path="s")
            for page in await asyncio.gather(*(call.read() for call in calls)):
                assert list(page.bodies) == [b"x"]

    run(play())
