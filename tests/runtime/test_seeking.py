"""A cluster whose nodes have all moved finds itself where it was told that somebody listens."""

import asyncio
from collections.abc import Mapping

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.greeting import Identity
from durable_streams_cluster.runtime.introductions import Asked
from durable_streams_cluster.runtime.seeking import seek
from durable_streams_cluster.settings import Address, parse_address
from durable_streams_proto.v1.peer_pb2 import ChangeReply
from tests.runtime.world import simulate

N1, N2, N3 = (NodeId(f"n{number}") for number in range(1, 4))
OWN = Said(N1, 1, "c-1", begun=True)
OLD = {N2: parse_address("old:2"), N3: parse_address("old:3")}


class Peers:
    """As much of ``Peers`` as is looked at."""

    def __init__(self, addresses: Mapping[NodeId, Address] = OLD) -> None:
        self.addresses = dict(addresses)
        self.connected: set[NodeId] = set()
        self.founds: list[Identity] = []

    def is_connected(self, node: NodeId) -> bool:
        return node in self.connected

    def found(self, peer: Identity) -> None:
        self.founds.append(peer)
        self.addresses[peer.node] = parse_address(peer.address)


class Contacts:
    def __init__(self, listening: dict[str, Said]) -> None:
        self.listening = listening
        self.asked: list[str] = []

    async def introduce(self, address: str, said: Said) -> Said:
        assert said == OWN
        self.asked.append(address)
        if address not in self.listening:
            raise ConnectionError(f"{address}: nobody listens")
        return self.listening[address]

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        raise AssertionError(f"{address} is only to say who it is")


def look(told: list[str], contacts: Contacts, peers: Peers) -> asyncio.Task[None]:
    objection = {22: "n2 was wiped"}
    return asyncio.create_task(
        seek(told, OWN, contacts, peers, lambda who: objection.get(who.incarnation))  # type: ignore[arg-type]
    )


def test_members_are_found_where_they_are_now() -> None:
    async def play() -> None:
        contacts = Contacts({"new:2": Said(N2, 2, "c-1", begun=True)})
        peers = Peers()
        seeking = look(["new:2", "new:3"], contacts, peers)
        await asyncio.sleep(10)
        assert peers.founds == [Identity("c-1", N2, 2, "new:2")]
        assert contacts.asked.count("new:2") == 1
        assert 8 <= contacts.asked.count("new:3") <= 12, "it may come yet"
        contacts.listening["new:3"] = Said(N3, 3, "c-1", begun=True)
        await seeking
        assert peers.founds[1:] == [Identity("c-1", N3, 3, "new:3")]

    simulate(play)


def test_nobody_is_asked_who_is_where_it_was() -> None:
    async def play() -> None:
        contacts, peers = Contacts({}), Peers()
        await look(["old:3", "old:2"], contacts, peers)
        await look([], contacts, peers)
        peers.connected = {N2, N3}
        await look(["new:2"], contacts, peers)
        assert not contacts.asked

    simulate(play)


def test_it_ends_when_all_are_reached() -> None:
    async def play() -> None:
        contacts, peers = Contacts({}), Peers()
        seeking = look(["new:2"], contacts, peers)
        await asyncio.sleep(5)
        assert not seeking.done()
        peers.connected = {N2, N3}
        await seeking
        assert not peers.founds

    simulate(play)


def test_who_knows_nobody_is_told_of_a_member() -> None:
    """It joined, and ended before it had learnt anything; and it moved, so that nobody finds it."""

    async def play() -> None:
        peers = Peers({})
        await look(["any:1"], Contacts({"any:1": Said(N3, 3, "c-1", begun=True)}), peers)
        assert peers.founds == [Identity("c-1", N3, 3, "any:1")]

    simulate(play)


def test_nobody_is_believed_for_being_there() -> None:
    async def play() -> None:
        contacts = Contacts(
            {
                "itself:1": Said(N1, 1, "c-1", begun=True),
                "wiped:2": Said(N2, 22, "c-1", begun=True),
                "other:3": Said(N3, 3, "c-2", begun=True),
            }
        )
        peers = Peers()
        await look([*contacts.listening], contacts, peers)
        assert not peers.founds
        contacts.listening["empty:3"] = Said(N3, 3)
        seeking = look(["empty:3"], contacts, peers)
        await asyncio.sleep(5)
        assert not peers.founds
        contacts.listening["empty:3"] = Said(N3, 3, "c-1", begun=True)
        await seeking
        assert peers.founds == [Identity("c-1", N3, 3, "empty:3")]

    simulate(play)


def test_a_member_that_is_reached_elsewhere_stays_there() -> None:
    async def play() -> None:
        peers = Peers()
        peers.connected = {N2}
        await look(["new:2"], Contacts({"new:2": Said(N2, 2, "c-1", begun=True)}), peers)
        assert not peers.founds

    simulate(play)
