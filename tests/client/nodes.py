"""Nodes that answer operators as a test says."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from durable_streams_proto.v1.admin_pb2 import MemberStatus, StatusReply, StatusRequest
from durable_streams_proto.v1.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest, Member, ReportReply

N1 = Member(node="n1", incarnation=2**63 - 25, address="10.0.0.1:4439", voter=True)
N2 = Member(node="n2", incarnation=2, address="10.0.0.2:4439", voter=True)
N3 = Member(node="n3", incarnation=3, address="[fd00::3]:4439", rises=True)
GIB = 2**30


def status(*, current: bool = True) -> StatusReply:
    """Of three members: a leader, one that does not answer, and a learner that is on its way."""
    leads = ReportReply(
        node="n1",
        version="0.1.0",
        role=ReportReply.LEADER,
        term=7,
        leader="n1",
        first_index=100,
        last_index=1205,
        committed_index=1204,
        applied_index=1204,
        disk_free=20 * GIB,
        disk_size=100 * GIB,
    )
    learns = ReportReply(
        node="n3",
        version="0.1.0",
        role=ReportReply.FOLLOWER,
        term=7,
        leader="n1",
        first_index=1,
        last_index=900,
        committed_index=900,
        applied_index=880,
        not_ready=["leader: follower in term 7, led by nobody"],
    )
    rows = [
        MemberStatus(member=N1, reachable=True, report=leads, lag=0),
        MemberStatus(member=N2, error="10.0.0.2:4439: no answer within 2 s", match_index=1200, lag=4),
        MemberStatus(member=N3, reachable=True, report=learns, match_index=900, lag=304),
    ]
    return StatusReply(cluster="c-1", leader="n1", term=7, current=current, members=rows)


class Node(AdminServicer):
    """Gives the answers in ``replies``, one after the other and the last for good; an exception is a gRPC status."""

    def __init__(self, *replies: ChangeReply | grpc.StatusCode, said: StatusReply | None = None) -> None:
        self.replies = list(replies)
        self.said = said
        self.asked: list[ChangeRequest] = []
        self.looked: list[StatusRequest] = []
        self.target = ""

    def Status(self, request: StatusRequest, context: Any) -> StatusReply:  # noqa: N802
        self.looked.append(request)
        if self.said is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "this node is of no cluster yet: waits for n2")
        assert self.said is not None
        return self.said

    def Change(self, request: ChangeRequest, context: Any) -> ChangeReply:  # noqa: N802
        self.asked.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, grpc.StatusCode):
            context.abort(reply, "as the test says")
        assert isinstance(reply, ChangeReply)
        return reply


@contextlib.contextmanager
def listening(*nodes: Node) -> Iterator[str]:
    """Serve them, and give the value of ``--target`` that names them in this order."""
    servers = []
    for node in nodes:
        server = grpc.server(ThreadPoolExecutor(2))
        add_AdminServicer_to_server(node, server)
        node.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        servers.append(server)
    try:
        yield ",".join(node.target for node in nodes)
    finally:
        for server in servers:
            server.stop(None).wait()
