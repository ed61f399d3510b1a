"""``durable-streams admin`` against real nodes: members are seen, go, come and lead."""

import contextlib
import io
import json
from pathlib import Path

import grpc
import pytest

from durable_streams_client import cli as command
from durable_streams_proto.v1.peer_pb2 import ReportRequest
from durable_streams_proto.v1.peer_pb2_grpc import PeersStub
from tests.cluster import running_cluster
from tests.server import LOOPBACK, Server, running_server


def admin(targets: list[str], *argv: str, code: int = 0) -> str:
    """What it prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        ended = command.main(["admin", *argv, "--target", ",".join(targets)])
    assert ended == code, out.getvalue() + err.getvalue()
    return out.getvalue() if code == 0 else err.getvalue()


def test_members_are_seen_go_come_and_lead(tmp_path: Path) -> None:
    with running_cluster(folder=tmp_path) as cluster:
        targets, leader = cluster.targets, cluster.leader()
        status = json.loads(admin(targets, "status", "-o", "json"))
        assert (status["leader"], status["current"]) == (leader, True)
        assert [row["node"] for row in status["members"]] == cluster.names
        assert all(row["reachable"] and row["ready"] and row["voter"] for row in status["members"])
        assert [row["role"] for row in status["members"]].count("leader") == 1
        assert all(0 < row["disk_free_bytes"] <= row["disk_size_bytes"] for row in status["members"])
        assert f"led by {leader} in term " in admin(targets, "status")
        report_is_for_the_same_cluster_only(f"{LOOPBACK}:{cluster.base_port + 2}", status["cluster"])

        # Who leads hands that over before it goes.
        assert admin(targets, "remove", leader).startswith(f"{leader} belongs to the cluster no more")
        left = [name for name in cluster.names if name != leader]
        rest = [target for name, target in zip(cluster.names, targets, strict=True) if name != leader]
        assert "no member has this name. Next step: see who" in admin(rest, "remove", leader, code=1)
        members = json.loads(admin(targets, "members", "-o", "json"))
        assert [row["node"] for row in members["members"]] == left
        assert members["cluster"] == status["cluster"]

        leads = json.loads(admin(rest, "status", "-o", "json"))["leader"]
        (other,) = set(left) - {leads}
        assert admin(rest, "transfer", other).startswith(f"{other} leads in term ")
        assert admin(rest, "transfer").startswith(f"{leads} leads in term ")
        said = admin(rest, "transfer", leader, code=1)
        assert f"{leader} does not take over: it has to be a voter" in said

        a_node_that_cannot_ask_is_taken_in(rest, tmp_path / "n4")


def report_is_for_the_same_cluster_only(peer: str, cluster: str) -> None:
    with grpc.insecure_channel(peer) as channel:
        assert PeersStub(channel).Report(ReportRequest(cluster=cluster), timeout=20).node == "n1"
        with pytest.raises(grpc.RpcError, match=f"this is a node of cluster {cluster}"):
            PeersStub(channel).Report(ReportRequest(cluster="c-2"), timeout=20)


def a_node_that_cannot_ask_is_taken_in(targets: list[str], folder: Path) -> None:
    waiting = Server(folder, ["--node", "n4", "--join", f"{LOOPBACK}:1"])
    address = f"{LOOPBACK}:{waiting.ports['peer']}"
    assert f"n4 cannot be reached: {address}: " in admin(targets, "add", f"n4={address}", code=1)
    process = waiting.launch()
    try:
        until_it_waits(waiting)
        assert f"at {address} is n4, and not n5" in admin(targets, "add", f"n5={address}", code=1)
        assert admin(targets, "add", "--learner", f"n4={address}").startswith("n4 is a learner until it is promoted")
        process.wait_ready()
        rows = {row["node"]: row for row in json.loads(admin(targets, "status", "-o", "json"))["members"]}
        assert (rows["n4"]["reachable"], rows["n4"]["voter"], rows["n4"]["rises"]) == (True, False, False)
        assert admin(targets, "remove", "n4").startswith("n4 belongs to the cluster no more")
        assert "was removed: an empty one may join" in admin(targets, "add", f"n4={address}", code=1)
        assert process.terminate() == 0
    finally:
        if process.running:
            process.kill()


def until_it_waits(server: Server) -> None:
    """Its listener for clients is open, and says that it is of no cluster."""
    target = f"{LOOPBACK}:{server.ports['grpc']}"
    while "this node is of no cluster yet: cannot join by" not in admin([target], "status", code=1):
        assert server.process is not None
        assert server.process.running


def test_a_node_in_memory_says_how_it_is_and_stays_alone() -> None:
    with running_server("--in-memory") as server:
        target = f"{LOOPBACK}:{server.ports['grpc']}"
        (row,) = json.loads(admin([target], "status", "-o", "json"))["members"]
        assert (row["node"], row["role"], row["ready"], row["disk_size_bytes"]) == ("n1", "leader", True, 0)
        assert "stays alone" in admin([target], "remove", "n1", code=1)
        assert server.process is not None
        assert f" grpc={target} " in server.process.ready_line
