"""Who belongs to a cluster: what operators do and look at, by the documented commands."""

import asyncio
import shutil
import sys
from collections.abc import Mapping

from durable_streams_client.admin import Admin, AdminError
from durable_streams_proto.v1.admin_pb2 import StatusReply
from tests.server import LOOPBACK, clean_environment
from tests.system.chaos.cluster import START_LIMIT, Cluster, Node

CHANGE_LIMIT = 60.0
"""Seconds for a change of the membership, or until a learner is a voter."""
AGAIN_S = 0.3
ASK_S = 5.0


def wipe(node: Node) -> None:
    """Its disk is gone; it must not run."""
    assert not node.running
    shutil.rmtree(node.data, ignore_errors=True)


async def join(cluster: Cluster, *nodes: Node) -> None:
    """``serve --join`` on empty directories, at once; returns when all are voters."""
    addresses = ",".join(f"{each.host}:{each.ports['peer']}" for each in cluster.nodes)
    for node in nodes:
        wipe(node)
        node.join = addresses
        node.launch()
        cluster.nodes.append(node)
    await asyncio.gather(*(ready(node) for node in nodes))
    await settled(cluster)


async def remove(cluster: Cluster, node: Node) -> None:
    """``admin remove``, asked again where it was not done or is not known to be, as the command says."""
    async with asyncio.timeout(CHANGE_LIMIT):
        while True:
            code, words = await command(cluster, "remove", node.name)
            if code == 0 or node.name not in {name for name, _ in (await members(cluster)).items()}:
                break
            assert "Next step" in words or "ask again" in words, words
            await asyncio.sleep(AGAIN_S)
    cluster.nodes.remove(node)


async def command(cluster: Cluster, *words: str) -> tuple[int, str]:
    """``durable-streams admin ...``, asking whoever runs: exit code, and what was said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "durable_streams_client.cli", "admin", *words, "--target", ",".join(_targets(cluster))),
        env=clean_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def ready(node: Node, limit: float = START_LIMIT) -> None:
    """Wait for the ready line of a node that was launched."""
    assert node.process is not None
    await asyncio.to_thread(node.process.wait_ready, limit)


async def status(cluster: Cluster, *, members_only: bool = False) -> StatusReply | None:
    """As operators see it; None while nobody leads, or nobody answers."""
    try:
        reply = await Admin(_targets(cluster), ASK_S).status(members_only=members_only)
    except AdminError:
        return None
    return reply if reply.current else None


async def members(cluster: Cluster) -> Mapping[str, bool]:
    """The names of all members, and which of them vote; nobody while that is not known."""
    reply = await status(cluster, members_only=True)
    return {} if reply is None else {each.member.node: each.member.voter for each in reply.members}


async def log_of(cluster: Cluster) -> tuple[int, int] | None:
    """The first and the last index of the leader's log; None while that is not known."""
    reply = await status(cluster)
    found = [each.report for each in reply.members if each.member.node == reply.leader] if reply is not None else []
    return (found[0].first_index, found[0].last_index) if found and found[0].last_index else None


async def settled(cluster: Cluster, limit: float = CHANGE_LIMIT) -> None:
    """Wait until exactly these nodes belong, and all of them vote, answer, and hold all that the leader's log has not.

    Until a node was taken in anew, another data directory answers under its name.
    """
    wanted = {node.name: "" for node in cluster.nodes}
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(limit):
            while True:
                found = _troubles(await status(cluster))
                if found == wanted:
                    return
                await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        raise AssertionError(f"not all of {', '.join(wanted)} are well, or others are there, too: {found}") from None


def _troubles(reply: StatusReply | None) -> dict[str, str]:
    """What each member lacks; nothing of those that lack nothing."""
    if reply is None:
        return {}
    firsts = [each.report.first_index for each in reply.members if each.member.node == reply.leader]
    found = {}
    for each in reply.members:
        behind = not firsts or each.report.applied_index + 1 < firsts[0]
        words = [each.error, "" if each.member.voter else "it learns", "it is behind" if behind else ""]
        found[each.member.node] = ", ".join(filter(None, words))
    return found


def _targets(cluster: Cluster) -> list[str]:
    up = [node for node in cluster.nodes if node.running and not node.paused]
    return [f"{node.host}:{node.ports['grpc']}" for node in up] or [f"{LOOPBACK}:1"]
