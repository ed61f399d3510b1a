"""How a node is, in its own words, and how the others say they are: what operators look at."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from durable_streams_cluster import __version__
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.raft import Member, Role
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.introductions import members_to_wire
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.admin_pb2 import MemberStatus, StatusReply
from durable_streams_proto.v1.peer_pb2 import Follower, ReportReply

CATCH_UP_S = 1.0
"""How long a leader is waited for, so that the members are those of now; without one, they are those known here."""

_ROLES: Mapping[Role, "ReportReply.Role.ValueType"] = {
    Role.FOLLOWER: ReportReply.FOLLOWER,
    Role.PRE_CANDIDATE: ReportReply.CANDIDATE,
    Role.CANDIDATE: ReportReply.CANDIDATE,
    Role.LEADER: ReportReply.LEADER,
}


class Standing(NamedTuple):
    """What the rest of the node says of itself."""

    not_ready: Sequence[str]
    """The checks of ``/readyz`` that say no, with their words."""
    draining: bool


class Asks(Protocol):
    """How other members are asked (``grpc_asking`` is the real one)."""

    async def report(self, address: str, cluster: str) -> ReportReply:
        """Ask a node of ``cluster`` how it is, in bounded time; raises ConnectionError."""
        ...


class Reports:
    """Of a node that is of a cluster."""

    def __init__(
        self, stored: StoredIdentity, driver: Driver, standing: Callable[[], Standing], asks: Asks | None
    ) -> None:
        """``asks``: None of a node that is always alone."""
        self._stored = stored
        self._driver = driver
        self._standing = standing
        self._asks = asks
        self._gathering = asyncio.Lock()
        """One after the other: each opens a connection to every member."""

    def own(self) -> ReportReply:
        """How this node is; at once."""
        core = self._driver.replica.group.core
        status, standing, disk = core.status(), self._standing(), self._driver.space.metrics()
        return ReportReply(
            node=self._stored.node,
            incarnation=self._stored.incarnation,
            version=__version__,
            role=_ROLES[status.role],
            term=core.term,
            leader=status.leader or "",
            first_index=core.log.first,
            last_index=status.last.index,
            committed_index=status.committed,
            applied_index=status.applied,
            disk_free=disk.get("free_bytes", 0),
            disk_size=disk.get("size_bytes", 0),
            not_ready=standing.not_ready,
            draining=standing.draining,
            followers=[Follower(node=node, match=each.match) for node, each in status.followers.items()]
            if status.role is Role.LEADER
            else [],
        )

    async def gather(self, *, members_only: bool) -> StatusReply:
        """Who belongs to the cluster and, unless ``members_only``, how each of them is; in bounded time."""
        async with self._gathering:
            reply = StatusReply(cluster=self._stored.cluster, current=await self._catch_up())
            members = self._driver.replica.group.core.membership.members
            if members_only:
                reply.members.extend(MemberStatus(member=each) for each in members_to_wire(members))
            else:
                reply.members.extend(await asyncio.gather(*map(self._row, members)))
        reports = [self.own(), *(row.report for row in reply.members if row.reachable)]
        reply.term = max(report.term for report in reports)
        newest = [report for report in reports if report.term == reply.term]
        reply.leader = next((report.leader for report in newest if report.leader), "")
        _compare(reply.members, next((report for report in newest if report.role == ReportReply.LEADER), None))
        return reply

    async def _catch_up(self) -> bool:
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self._driver.barrier()
        except (TimeoutError, ClusterError):
            return False
        return True

    async def _row(self, member: Member) -> MemberStatus:
        row = MemberStatus(member=members_to_wire([member])[0])
        try:
            report = await self._ask(member)
        except ConnectionError as error:
            row.error = str(error)
        else:
            row.reachable = True
            row.report.CopyFrom(report)
        return row

    async def _ask(self, member: Member) -> ReportReply:
        if member.node == self._stored.node or self._asks is None:
            return self.own()
        report = await self._asks.report(member.address, self._stored.cluster)
        if report.node != member.node or member.incarnation not in (0, report.incarnation):
            raise ConnectionError(f"{member.address}: {report.node} answers, with data directory {report.incarnation}")
        return report


def _compare(rows: Iterable[MemberStatus], leading: ReportReply | None) -> None:
    """Say how far each is behind the leader."""
    matches = {each.node: each.match for each in leading.followers} if leading is not None else {}
    for row in rows:
        if leading is not None and row.member.node == leading.node:
            row.lag = 0
        elif leading is not None and (match := matches.get(row.member.node)) is not None:
            row.match_index = match
            row.lag = max(0, leading.committed_index - match)
