"""Which nodes a local cluster has: names, ports, directories, and the command line of each (DESIGN: Command line)."""

from collections.abc import Mapping
from dataclasses import dataclass

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.ids import NodeId

LOOPBACK = "127.0.0.1"
LISTENERS = ("http", "grpc", "peer", "ops")
"""In the order of their ports."""
PORTS_APART = 10
"""From one node's first port to the next one's."""
COUNTS: Mapping[int, str] = {1: "one node", 3: "three nodes", 5: "five nodes"}


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One of them."""

    name: NodeId
    first_port: int
    data_dir: str

    def address(self, listener: str) -> str:
        """Return ``HOST:PORT`` of one of the ``LISTENERS``."""
        return f"{LOOPBACK}:{self.port(listener)}"

    def port(self, listener: str) -> int:
        """Return the port of one of the ``LISTENERS``."""
        return self.first_port + LISTENERS.index(listener)

    @property
    def url(self) -> str:
        """Where its streams are."""
        return f"http://{self.address('http')}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All of them."""

    data_dir: str
    nodes: tuple[LocalNode, ...]

    @property
    def majority(self) -> int:
        """How many must run for anything to be stored."""
        return len(self.nodes) // 2 + 1

    def arguments(self, node: LocalNode) -> tuple[str, ...]:
        """Return what ``durable-streams`` is given to run ``node``."""
        members = ",".join(f"{each.name}={each.address('peer')}" for each in self.nodes)
        addresses = [word for each in LISTENERS for word in (f"--{each}", node.address(each))]
        return (
            *("serve", "--node", node.name, "--data-dir", node.data_dir),
            *addresses,
            *("--initial-cluster", members),
        )


def plan(count: int, data_dir: str, base_port: int) -> Plan:
    """Lay a cluster out: node i (from 0) has the ports base+10i, +1, +2, +3 and its data in ``data_dir``/n(i+1).

    Raises:
        ConfigError: no such number of nodes, or no such ports.

    """
    if count not in COUNTS:
        raise ConfigError(f"--nodes {count}: {_why_not(count)}; it can be 1, 3 or 5")
    last = base_port + PORTS_APART * (count - 1) + len(LISTENERS) - 1
    if base_port < 1 or last > 65535:
        raise ConfigError(
            f"--base-port {base_port}: {COUNTS[count]} would take ports {base_port} to {last}, and ports are 1 to 65535"
        )
    if not data_dir:
        raise ConfigError("--data-dir: must name a directory")
    names = [NodeId(f"n{number}") for number in range(1, count + 1)]
    return Plan(
        data_dir,
        tuple(
            LocalNode(name, base_port + PORTS_APART * number, f"{data_dir.rstrip('/')}/{name}")
            for number, name in enumerate(names)
        ),
    )


def _why_not(count: int) -> str:
    if count < 1:
        return "there must be a node"
    if count % 2 == 0:
        fewer = count - 1
        lost = (count - 1) // 2
        survives = f"the loss of {lost}" if lost else "no loss"
        return (
            f"an even number costs a node and gains nothing: a majority of {count} is {count // 2 + 1}, so it survives "
            f"{survives}, and so does a cluster of {fewer}"
        )
    return "each node has a copy of everything, and more than five only make it slower"
