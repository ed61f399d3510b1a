"""How a node comes to be of a cluster: it begins one with others, or asks one that there is to take it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica.bootstrap import (
    Begin,
    Bootstrap,
    Disagree,
    JoinInstead,
    Record,
    Said,
    cluster_of,
)
from durable_streams_cluster.replica.members import Join
from durable_streams_cluster.runtime.introductions import Asked, members_from_wire
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply

log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""Between two rounds of questions."""
MAX_SAID = 64
"""Different troubles that are logged before any is logged again."""


class Contacts(Protocol):
    """How others are asked (``grpc_asking`` is the real one); raises ConnectionError."""

    async def introduce(self, address: str, said: Said) -> Said:
        """Say who this is, and learn who listens there."""
        ...

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        """Ask for another membership."""
        ...


def said_of(stored: StoredIdentity) -> Said:
    """What a node says of itself that is in no cluster's beginning."""
    return Said(stored.node, stored.incarnation, stored.cluster, stored.record, stored.begun)


class Birth:
    """Of one node. Afterwards it only says who the node is."""

    def __init__(
        self,
        stored: StoredIdentity,
        address: str,
        keep: Callable[[StoredIdentity], Awaitable[None]],
        contacts: Contacts,
    ) -> None:
        """``address``: of this node's peer listener; ``keep`` makes what the directory says of itself durable."""
        self.stored = stored
        self.members: Mapping[NodeId, str] = {each.node: each.address for each in stored.record}
        """Addresses of other members, and of this one, as far as they are known."""
        self.waits_for = ""
        """Why it is not over, for people."""
        self._own = Member(stored.node, stored.incarnation, address, rises=True)
        self._keep = keep
        self._contacts = contacts
        self._bootstrap: Bootstrap | None = None
        self._taken_by: Said | None = None
        """Who says that this node is a member of its cluster."""
        self._heard = asyncio.Event()
        self._said: set[str] = set()

    def introduced(self, said: Said) -> Said:
        """Another node says who it is; answer who this one is."""
        # Only news: two that wait for a third would answer each question with one of their own, without end.
        if self._bootstrap is not None and self._bootstrap.hear(said):
            self._heard.set()
        elif said.cluster and any(self._is_this(each) for each in said.members):
            self._taken_by = said
            self._heard.set()
        return said_of(self.stored) if self.stored.begun or self._bootstrap is None else self._bootstrap.said

    async def run(self, initial: Mapping[NodeId, str], join: Sequence[str], cluster: str = "") -> None:
        """Return when this node is of a cluster; neither ``initial`` nor ``join``: of its own.

        ``cluster``: the only one that it may join; empty: whichever answers.
        """
        if self.stored.begun:
            return
        if join:
            await self._join(join, cluster)
        elif len(initial) > 1:
            await self._begin_with(initial)
        else:
            await self._set(record=(replace(self._own, rises=False),), begun=True)

    async def _set(
        self, *, record: tuple[Member, ...], begun: bool, cluster: str = "", members: tuple[Member, ...] = ()
    ) -> None:
        """The disk first: what is not there was never said."""
        own = self._own.node
        others = tuple((each.node, each.address) for each in members or record if each.node != own)
        cluster = cluster or cluster_of(record)
        stored = replace(self.stored, cluster=cluster, record=record, begun=begun, others=others)
        await self._keep(stored)
        self.stored = stored
        self.waits_for = ""

    # ------------------------------------------------------------------------------------------------ beginning one

    async def _begin_with(self, initial: Mapping[NodeId, str]) -> None:
        bootstrap = self._bootstrap = Bootstrap(replace(self._own, rises=False), initial, self.stored.record)
        while True:
            self._heard.clear()
            match bootstrap.step():
                case Record(members):
                    await self._set(record=members, begun=False)
                    bootstrap.recorded(members)
                    continue
                case Begin():
                    await self._set(record=self.stored.record, begun=True)
                    self.members = dict(initial)
                    self._bootstrap = None
                    return
                case JoinInstead(cluster, by):
                    self._say(f"{by} is of cluster {cluster}, which has begun without this directory: asks to join")
                    if await self._ask_to_join(list(bootstrap.others.values()), cluster):
                        self._bootstrap = None
                        return
                case Disagree(text):
                    self._say(text)
                case waits:
                    self._say(f"waits for {', '.join(waits.whom)} to begin the cluster")
            await asyncio.gather(*(self._ask(node, address) for node, address in bootstrap.others.items()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), AGAIN_S)

    async def _ask(self, node: NodeId, address: str) -> None:
        assert self._bootstrap is not None
        with contextlib.suppress(ConnectionError):
            said = await self._contacts.introduce(address, self._bootstrap.said)
            if said.node == node:
                self._bootstrap.hear(said)

    # ------------------------------------------------------------------------------------------------ joining one

    async def _join(self, addresses: Sequence[str], cluster: str) -> None:
        """Ask until one of ``addresses`` sees to it; or an operator did, and a member says so."""
        while not await self._ask_to_join(addresses, cluster):
            self._heard.clear()
            if self._taken_by is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._heard.wait(), AGAIN_S)
            if (by := self._taken_by) is not None:
                await self._joined(by.cluster, by.members)
                return

    async def _ask_to_join(self, addresses: Sequence[str], cluster: str = "") -> bool:
        """Ask one after the other until one sees to it, of ``cluster`` if it is known; whether this is a member now."""
        for address in addresses:
            try:
                reply = await self._contacts.change(address, Join(replace(self._own, voter=False)), cluster)
                members = members_from_wire(reply.members)
            except (ConnectionError, ValueError) as error:
                self._say(f"cannot join by {error}")
                continue
            if reply.result != ChangeReply.DONE:
                self._say(f"cannot join by {address}: {reply.text}")
                continue
            await self._joined(reply.cluster, members)
            return True
        return False

    async def _joined(self, cluster: str, members: tuple[Member, ...]) -> None:
        # One of the first members is told nothing by the log of what this directory has on record.
        first = self.stored.record if cluster == cluster_of(self.stored.record) else ()
        await self._set(record=first, begun=True, cluster=cluster, members=members)
        self.members = {each.node: each.address for each in members}
        log.info("a member of cluster %s now: learns what it holds", cluster)

    def _is_this(self, member: Member) -> bool:
        return (member.node, member.incarnation) == (self.stored.node, self.stored.incarnation)

    def _say(self, text: str) -> None:
        """Log it once, not in every round: what is in the way may be several things in turn."""
        if text not in self._said:
            if len(self._said) >= MAX_SAID:
                self._said.clear()
            self._said.add(text)
            log.info("%s", text)
        self.waits_for = text
