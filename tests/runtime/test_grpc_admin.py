"""The listener for clients: what becomes of an answer, and of none."""

import asyncio
import socket

import grpc
import pytest

from durable_streams_cluster.errors import ConfigError, Unavailable
from durable_streams_cluster.limits import GrpcLimits, Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.runtime.calls import Calls
from durable_streams_cluster.runtime.grpc_clients import ClientListener
from durable_streams_cluster.runtime.operating import Operating
from durable_streams_cluster.settings import Address
from durable_streams_proto.v1.admin_pb2 import StatusReply, StatusRequest
from durable_streams_proto.v1.admin_pb2_grpc import AdminStub
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest
from tests.runtime.peering import run


class Answers:
    """What a test says, and what it was asked."""

    def __init__(self) -> None:
        self.members_only: list[bool] = []
        self.reply = StatusReply(cluster="c-1")
        self.failure: Exception | None = None

    async def status(self, *, members_only: bool) -> StatusReply:
        self.members_only.append(members_only)
        if self.failure is not None:
            raise self.failure
        return self.reply

    async def change(self, request: ChangeRequest) -> ChangeReply:
        if self.failure is not None:
            raise self.failure
        return ChangeReply(result=ChangeReply.DONE, text=request.remove)


def listening(address: Address, answers: Answers) -> ClientListener:
    return ClientListener(address, answers, Calls(Limits(), Metrics()), GrpcLimits(), lambda: True)


def test_answers_and_refusals() -> None:
    async def play() -> None:
        answers = Answers()
        listener = listening(Address("127.0.0.1", 0), answers)
        await listener.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
                stub = AdminStub(channel)
                assert (await stub.Status(StatusRequest(members_only=True))).cluster == "c-1"
                assert (await stub.Change(ChangeRequest(remove="n2"))).text == "n2"
                answers.failure = Unavailable("this node is of no cluster yet: it starts")
                with pytest.raises(grpc.aio.AioRpcError, match="it starts") as refused:
                    await stub.Status(StatusRequest())
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                answers.failure = ValueError("a node has no name")
                with pytest.raises(grpc.aio.AioRpcError, match="a node has no name") as meant:
                    await stub.Change(ChangeRequest())
                assert meant.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                too_long = ChangeRequest(remove="x" * GrpcLimits().message_bytes)
                with pytest.raises(grpc.aio.AioRpcError) as large:
                    await stub.Change(too_long)
                assert large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        finally:
            await listener.stop()
        assert answers.members_only == [True, False]

    run(play())


def test_an_address_in_use_is_a_matter_of_configuration() -> None:
    async def play() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = Address("127.0.0.1", taken.getsockname()[1])
            with pytest.raises(ConfigError, match=f"grpc: cannot listen on {address}: the address is in use"):
                await listening(address, Answers()).start()

    run(play())


def test_a_node_that_stays_alone_changes_nothing() -> None:
    async def play() -> None:
        operating = Operating(None)
        reply = await operating.change(ChangeRequest(remove="n1"))
        assert (reply.result, "--in-memory" in reply.text) == (ChangeReply.REFUSED, True)
        with pytest.raises(Unavailable, match="this node is of no cluster yet: it starts"):
            await operating.status(members_only=False)

    asyncio.run(play())
