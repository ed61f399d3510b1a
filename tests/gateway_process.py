"""Start and stop stand-alone gateways as separate processes, in front of nodes that are elsewhere."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.server import LOOPBACK, Server


class GatewayServer(Server):
    """``durable-streams gateway`` on free ports; ``start`` runs one, as often as wanted."""

    def __init__(self, folder: Path, targets: Sequence[str], arguments: Sequence[str] = ()) -> None:
        """``targets``: ``HOST:PORT`` of nodes' listeners for clients."""
        super().__init__(folder, arguments)
        self.targets = ",".join(targets)

    def command(self) -> list[str]:
        addresses = [word for name in ("http", "ops") for word in (f"--{name}", f"{LOOPBACK}:{self.ports[name]}")]
        program = [sys.executable, "-m", "durable_streams_client.cli", "gateway", "--target", self.targets]
        return [*program, *addresses, *self.arguments]
