"""This node among others: who it is, who they are, and how that changes while it runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace

from durable_streams_cluster.errors import CorruptData, StorageError, Unavailable
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import BecameLeader, Membership, MembershipChanged, Objection, Readdress, Remove
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.replica.members import MembershipApplied, Result, Wish
from durable_streams_cluster.runtime.birth import Birth, Contacts, said_of
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.runtime.greeting import Identity, Reason, Refused
from durable_streams_cluster.runtime.introductions import Asked, Transfer, members_to_wire
from durable_streams_cluster.runtime.peers import Handlers
from durable_streams_cluster.runtime.seeking import seek
from durable_streams_cluster.runtime.transport import Links
from durable_streams_cluster.settings import Address, parse_address
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ReportReply

log = logging.getLogger(__name__)

CHANGE_S = 15.0
"""Whoever asks for a change is answered by then."""
NEXT_STEPS: Mapping[Objection, str] = {
    Objection.IN_FLIGHT: "ask again when that is done",
    Objection.NAME: "end that one first, or choose another name",
    Objection.FULL: "remove one first",
    Objection.UNKNOWN: "see who belongs to the cluster",
    Objection.LAST: "add a voter first; to give the cluster up, end its node",
    Objection.BEHIND: "see how far it is behind, and ask again when that is little",
    Objection.QUORUM: "start those first that are down, and remove what is lost for good",
}
"""What whoever was refused can do, where that is not said by the reason itself."""


class Belonging:
    """The peer listener and what is asked there, from before this node is of a cluster until it ends."""

    def __init__(
        self,
        stored: StoredIdentity,
        advertise: str,
        keep: Callable[[StoredIdentity], Awaitable[None]],
        contacts: Contacts,
        links: Callable[[Identity, Handlers], Links],
    ) -> None:
        """A node's part.

        Args:
            stored: Who it is.
            advertise: The host at which others reach it.
            keep: Makes what the directory says of itself durable.
            contacts: How others are asked.
            links: Makes its end of the streams between nodes, of no cluster yet.

        """
        self._advertise = advertise
        self._stored = stored
        self._keep = keep
        self.contacts = contacts
        """How others are asked."""
        self._birth: Birth | None = None
        self._driver: Driver | None = None
        self._stopped = False
        self._noting: asyncio.Task[None] | None = None
        self.clients = ""
        """Where others are told that clients reach this node: ``HOST:PORT``."""
        self._told: Sequence[str] = ()
        """Peer listeners that this node was told of when it was started."""
        self._named: Mapping[NodeId, str] = {}
        """Where the membership says that each member listens."""
        self._heard: Mapping[NodeId, str] = {}
        """Where members say that they do themselves: they moved, and the membership does not say so yet."""
        self._seeking: asyncio.Task[None] | None = None
        self._report: Callable[[], ReportReply] | None = None
        handlers = Handlers(
            self._deliver,
            self._lost,
            self._lost,
            self._objection,
            self._moved,
            self,
            self._told_old,
            self._told_removed,
        )
        nobody = Identity("", stored.node, stored.incarnation)
        self.peers = links(nobody, handlers)

    async def start(self) -> None:
        """Listen; raises ConfigError when the address cannot be had."""
        await self.peers.start()
        self._birth = Birth(self._stored, self._address, self._keep, self.contacts)

    @property
    def _address(self) -> str:
        """Where others reach this node's peer listener."""
        return str(Address(self._advertise, self.peers.port))

    async def be_born(self, initial: Mapping[NodeId, str], join: Sequence[str], cluster: str = "") -> StoredIdentity:
        """Return when this node is of a cluster. ``initial`` and ``join`` are what it was told; see ``Birth.run``."""
        assert self._birth is not None
        await self._birth.run(initial, join, cluster)
        self._stored = self._birth.stored
        self._told = [*(address for node, address in initial.items() if node != self._stored.node), *join]
        return self._stored

    @property
    def waits_for(self) -> str:
        """Why this node is of no cluster yet; empty once it is."""
        if self._birth is None:
            return "it starts"
        return "" if self._birth.stored.begun else self._birth.waits_for or "it starts"

    @property
    def said(self) -> Said:
        """Who this node is."""
        return said_of(self._stored)

    def attach(self, driver: Driver, report: Callable[[], ReportReply]) -> None:
        """Let the driver reach the others; before it starts. ``report``: how this node is."""
        assert self._birth is not None
        stored = self._stored
        self._driver, self._report = driver, report
        driver.transport = self.peers
        driver.watchers.append(self._watch)
        self._named = _addresses(self._membership)
        begun = driver.replica.group.begun
        identity = Identity(stored.cluster, stored.node, stored.incarnation, self._address, begun, self.clients)
        # Where they were last heard of: a membership may not say so, if there was no leader when they moved. And one
        # that joined knows of nobody else, until the log tells it: who leads may look for it where it was before.
        heard = {node: address for node, address in stored.others if node in self._named or not self._named}
        self.peers.belong(identity, self._others({**self._named, **heard} or self._birth.members))
        self._seeking = asyncio.get_running_loop().create_task(
            seek(self._told, said_of(stored), self.contacts, self.peers, self._objection), name="seek"
        )
        self._note()

    async def stop(self) -> None:
        """Nobody is reached or heard any more."""
        self._stopped = True
        if self._seeking is not None:
            self._seeking.cancel()
        await self.peers.stop()
        if self._noting is not None:
            await asyncio.wait({self._noting})

    # ---------------------------------------------------------------------------------------------- what peers do

    def _deliver(self, sender: NodeId, incarnation: int, payload: bytes) -> None:
        if self._driver is not None:
            self._driver.deliver(sender, incarnation, payload)

    def _lost(self, peer: NodeId) -> None:
        if self._driver is not None:
            self._driver.lost(peer)

    @property
    def _membership(self) -> Membership:
        if self._driver is None:
            return self._stored.first_membership
        return self._driver.replica.group.core.membership

    @property
    def _removed(self) -> tuple[int, ...]:
        return self._driver.replica.group.core.applied_membership.removed if self._driver is not None else ()

    def _objection(self, peer: Identity) -> Refused | None:
        """Why a peer is not to be spoken with (``greeting.Accept``).

        One that is not known may be a member: who was added last is perhaps known to others only. So may another data
        directory of a member: it took the place of the one that is known, and leads, and this node learns that from it.
        And one whose removal is not committed may lead, for those who do not have it: it is this node that has to take
        that back.
        """
        if peer.incarnation in self._removed:
            return Refused(Reason.REMOVED, f"{peer.node} was removed from the cluster, with its data directory")
        if self._driver is None or peer.begun is None:
            return None
        forgotten = self._driver.replica.group.core.lives.objection(peer.node, peer.incarnation, peer.begun)
        return Refused(Reason.IMAGE, forgotten) if forgotten is not None else None

    def _told_old(self, peer: NodeId, why: str) -> None:
        """A member has seen more of this directory than it holds: it is used no more from this moment on.

        The process ends, and marks it as it does a damaged one; the next one asks to be taken in anew.
        """
        if self._driver is not None:
            self._driver.fail(
                CorruptData(
                    f"{peer} says: {why}. It has forgotten what it promised, and is used no more. Next step: start "
                    "this node again, and the others give it everything; put no copy of a data directory back while "
                    "others of its cluster have gone on"
                )
            )

    def _told_removed(self, peer: NodeId) -> None:
        """A member has applied the removal of this directory; this node's own log need not have come so far."""
        if self._driver is not None:
            self._driver.removal.told(peer)

    def _moved(self, node: NodeId, address: str) -> None:
        """A peer listens elsewhere than is known: the leader tells the others."""
        self._heard = {**self._heard, node: address}
        self._note()
        self._tell_moved()

    def _watch(self, event: object) -> None:
        if isinstance(event, BecameLeader):
            self._tell_moved()
        elif isinstance(event, MembershipChanged) and event.membership.members:
            # (Of one that joined, and whose log was cut to before it told anything, what is known is still true.)
            before, self._named = self._named, _addresses(event.membership)
            # Only what is news: a change of something else repeats what a member that moved has told otherwise since.
            self._heard = {
                node: address
                for node, address in self._heard.items()
                if node in event.membership.nodes and self._named.get(node) == before.get(node)
            }
            self._know_members()
            self._note()
        elif isinstance(event, MembershipApplied):
            self._know_members()  # Now, and not before, who was removed is not heard any more.

    def _know_members(self) -> None:
        self.peers.set_members(self._others({**self._named, **self._heard}))

    def _tell_moved(self) -> None:
        """Let the membership say where members are, this one among them, if it leads."""
        driver = self._driver
        if driver is None or not driver.replica.group.leads:
            return
        places = {node: str(place) for node, place in self.peers.places.items()}
        for node, address in {**self._heard, **places, self._stored.node: self._address}.items():
            known = self._membership.member(node)
            if known is not None and known.address != address:
                log.info("%s listens at %s now", node, address)
                driver.change(Readdress(node, address), lambda _: None)

    def _note(self) -> None:
        """Keep on disk whom to ask if the store is damaged; a moment later, and one after the other."""
        # One that joined knows of nobody until the log tells it: whom it was told of when it was taken in is on disk.
        named = self._named or dict(self._stored.others)
        known = {**named, **self._heard}
        others = tuple((node, address) for node, address in known.items() if node != self._stored.node)
        if self._stopped or not known or others == self._stored.others:
            return
        self._stored = replace(self._stored, others=others)
        if self._noting is None or self._noting.done():
            self._noting = asyncio.get_running_loop().create_task(self._keep_newest(), name="identity")

    async def _keep_newest(self) -> None:
        kept = None
        while kept is not self._stored:
            kept = self._stored
            try:
                await self._keep(kept)
            except StorageError as error:  # It is known from elsewhere, too: no reason to end.
                log.warning("%s", error)

    def _others(self, addresses: Mapping[NodeId, str]) -> dict[NodeId, Address]:
        own = self._stored.node
        return {node: parse_address(text) for node, text in addresses.items() if node != own}

    # ------------------------------------------------------------------------------------------ what peers ask

    def introduced(self, said: Said) -> Said:
        """See ``grpc_listener.Questions``."""
        return self._birth.introduced(said) if self._birth is not None else said_of(self._stored)

    def report(self, cluster: str) -> ReportReply:
        """See ``grpc_listener.Questions``."""
        if self._report is None:
            raise Unavailable(f"this node is of no cluster yet: {self.waits_for or 'it starts'}")
        if cluster != self._stored.cluster:
            raise Unavailable(f"this is a node of cluster {self._stored.cluster}")
        return self._report()

    async def change(self, wish: Asked, cluster: str, *, handed_on: bool) -> ChangeReply:
        """See ``grpc_listener.Questions``; any node answers, and the leader sees to it."""
        own = self._stored.cluster
        if self._driver is None:
            return ChangeReply(result=ChangeReply.NO_LEADER, text=f"this node is of no cluster yet: {self.waits_for}")
        if cluster not in ("", own):
            other = f"this is cluster {own}, and not {cluster}. A node of that one joins on an empty --data-dir"
            return ChangeReply(result=ChangeReply.REFUSED, text=other)
        group = self._driver.replica.group
        if group.leads and wish == Remove(self._stored.node):
            # Who has heard that this node was removed hears no more of it: it would not learn that that is committed.
            await self._driver.hand_over.run()
        if group.leads:
            return await self._change_here(self._driver, wish)
        leader = group.core.membership.member(group.core.leader) if group.core.leader is not None else None
        if leader is None or handed_on:
            nobody = self._driver.removal.text or "no leader is known here: ask again in a moment"
            return self._reply(ChangeReply.NO_LEADER, nobody)
        try:
            return await self.contacts.change(leader.address, wish, own, handed_on=True)
        except ConnectionError as error:
            return self._reply(ChangeReply.UNKNOWN, f"{leader.node} leads, and does not answer: {error}")

    async def _change_here(self, driver: Driver, wish: Asked) -> ChangeReply:
        if isinstance(wish, Transfer):
            return await self._transfer_here(driver, wish)
        told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        try:
            driver.change(wish, told.set_result)
            async with asyncio.timeout(CHANGE_S):
                result = await asyncio.shield(told)
        except TimeoutError:
            return self._reply(ChangeReply.UNKNOWN, "it takes long, and may yet happen")
        return self._answer(wish, result)

    async def _transfer_here(self, driver: Driver, to: Transfer) -> ChangeReply:
        if to == str(self._stored.node):
            return self._reply(ChangeReply.DONE, f"{to} leads already")
        if await driver.hand_over.run(NodeId(to) if to else None):
            return self._reply(ChangeReply.DONE, "")
        nobody = f"{to} does not take over" if to else "nobody takes over"
        why = "it has to be a voter that answers and has caught up. Next step: see how far each is behind"
        return self._reply(ChangeReply.REFUSED, f"{nobody}: {why}")

    def _answer(self, wish: Wish, result: Result) -> ChangeReply:
        if isinstance(result, Membership):
            log.info("membership changed: %s", wish)
            return self._reply(ChangeReply.DONE, "", result)
        if result is None:
            return self._reply(ChangeReply.UNKNOWN, "the leader lost its lead: it may yet happen")
        if result is Objection.NOT_LEADER:
            return self._reply(ChangeReply.NO_LEADER, result.value)
        step = NEXT_STEPS.get(result)
        return self._reply(ChangeReply.REFUSED, f"{result.value}. Next step: {step}" if step else result.value)

    def _reply(
        self, result: "ChangeReply.Result.ValueType", text: str, membership: Membership | None = None
    ) -> ChangeReply:
        members = members_to_wire((membership or self._membership).members)
        return ChangeReply(result=result, text=text, cluster=self._stored.cluster, members=members)


def _addresses(membership: Membership) -> dict[NodeId, str]:
    return {each.node: each.address for each in membership.members if each.address}
