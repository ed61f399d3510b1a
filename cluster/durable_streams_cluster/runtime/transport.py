"""How a node reaches the others (``peers`` is the real one): what the driver needs of it, and what ``belonging``."""

from collections.abc import Mapping
from typing import Protocol

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.runtime.greeting import Identity
from durable_streams_cluster.runtime.outbox import Kind
from durable_streams_cluster.settings import Address


class Transport(Protocol):
    """Sends to other nodes; what comes from them goes to ``Driver.deliver``, what may be lost to ``Driver.lost``."""

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """Send, if that is possible now; never waits."""
        ...


class Links(Transport, Protocol):
    """Streams to whoever is a member, and from them."""

    @property
    def port(self) -> int:
        """Where peers reach this node, once it listens."""
        ...

    @property
    def addresses(self) -> Mapping[NodeId, Address]:
        """Where each peer is dialed."""
        ...

    @property
    def places(self) -> Mapping[NodeId, Address]:
        """Where those listen who speak to this node, as they say themselves."""
        ...

    @property
    def clients(self) -> Mapping[NodeId, str]:
        """Where clients reach those who speak to this node, as they say themselves."""
        ...

    async def start(self) -> None:
        """Listen; raises ConfigError when the address cannot be had."""
        ...

    async def stop(self) -> None:
        """Nobody is reached or heard any more."""
        ...

    def belong(self, identity: Identity, addresses: Mapping[NodeId, Address]) -> None:
        """This node is of a cluster now, whose other members are at these addresses."""
        ...

    def set_members(self, addresses: Mapping[NodeId, Address]) -> None:
        """Dial these from now on, and those who speak to this node; who is not to be believed any more does not."""
        ...

    def found(self, peer: Identity) -> None:
        """A peer that is believed says where it listens."""
        ...

    def is_connected(self, node: NodeId) -> bool:
        """Whether messages of Raft reach this peer."""
        ...


class Nowhere:
    """For a node that is its own group."""

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """There is nobody."""
        raise AssertionError(f"a message for {to}")
