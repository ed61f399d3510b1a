"""What the connections of one listener share: limits, clock, who is there, and what they hold."""

import asyncio
from collections import Counter

from uvicorn.server import ServerState

from durable_streams_cluster.clock import Clock
from durable_streams_cluster.gateway.exchange import Outlet
from durable_streams_cluster.limits import Limits, max_lingering


class SharedState(ServerState, Outlet):
    """What the connections of one listener share."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        ServerState.__init__(self)
        Outlet.__init__(self)
        self.limits = limits
        self.clock = clock
        self.now_ms = clock.steady_ms()
        """Of the last sweep: reading a clock per request would cost more than the second it is late is worth."""
        self.draining = False
        self.lingering: set[asyncio.Protocol] = set()
        """Refused connections; they are no longer in ``connections``."""
        self.max_lingering = max_lingering(limits.max_connections)
        self.refused: Counter[str] = Counter()
        self.stalled: dict[asyncio.Protocol, int] = {}
        """Connections whose client has not taken all that was sent, and how many bytes they hold."""
        self.unsent_bytes = 0
        self.last_gone = asyncio.Event()

    @property
    def pressed(self) -> bool:
        """Whether so much is unsent that who takes nothing must go."""
        return self.unsent_bytes >= self.limits.max_unsent_bytes // 2

    def hold(self, connection: asyncio.Protocol, unsent: int) -> None:
        """Note what a connection holds unsent."""
        self.unsent_bytes += unsent - self.stalled.pop(connection, 0)
        if unsent:
            self.stalled[connection] = unsent
