"""How a node reaches the others: what the driver needs of it (``peers`` is the real one)."""

from typing import Protocol

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.runtime.outbox import Kind


class Transport(Protocol):
    """Sends to other nodes; what comes from them goes to ``Driver.deliver``, what may be lost to ``Driver.lost``."""

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """Send, if that is possible now; never waits."""
        ...


class Nowhere:
    """For a node that is its own group."""

    def send(self, to: NodeId, payload: bytes, kind: Kind) -> bool:
        """There is nobody."""
        raise AssertionError(f"a message for {to}")
