"""Members that are nowhere they were known to be: asked for where this node was told that somebody listens.

A cluster whose nodes all moved while they were down would not find itself otherwise: each looks for the others where
they were. Nobody is believed for being there; who answers has to be a member.
"""

import asyncio
from collections.abc import Sequence

from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.birth import Contacts
from durable_streams_cluster.runtime.greeting import Accept, Identity
from durable_streams_cluster.runtime.transport import Links
from durable_streams_cluster.settings import parse_address

AGAIN_S = 1.0
"""Between two rounds of questions."""


async def seek(told: Sequence[str], own: Said, contacts: Contacts, peers: Links, objection: Accept) -> None:
    """Return when somebody of a cluster has answered at each of the addresses ``told``, or all peers are reached.

    Args:
        told: ``HOST:PORT`` of peer listeners.
        own: what this node says of itself.
        contacts: how they are asked.
        peers: where members are dialed; gets those that are found.
        objection: why who answers is not to be spoken with, if so.

    """
    while True:
        dialed = set(peers.addresses.values())
        told = [address for address in told if parse_address(address) not in dialed]
        if not told or (dialed and all(peers.is_connected(node) for node in peers.addresses)):
            return
        answers = await asyncio.gather(*(_ask(address, own, contacts) for address in told))
        for address, said in zip(told, answers, strict=True):
            if said is None or said.cluster != own.cluster or said.node == own.node or peers.is_connected(said.node):
                continue
            peer = Identity(said.cluster, said.node, said.incarnation, address)
            if objection(peer) is None:
                peers.found(peer)
        told = [address for address, said in zip(told, answers, strict=True) if said is None or not said.begun]
        await asyncio.sleep(AGAIN_S)


async def _ask(address: str, own: Said, contacts: Contacts) -> Said | None:
    try:
        return await contacts.introduce(address, own)
    except ConnectionError:
        return None
