"""The node: replicated, durable streams behind an HTTP gateway.

Layers, from the pure middle outwards (read them in this order):

1. ``streams``: the rules of the protocol as a state machine; no disk, no clock, no HTTP.
2. ``raft``: the consensus core; ``tick``, ``step``, ``propose``, ``ready`` and nothing else.
3. ``storage``: the key space, and the two stores (RocksDB, memory) behind one small port.
4. ``replica``: joins the three, one synchronous turn at a time: events in, ``Effects`` out.
5. ``runtime``: the shell; the event loop, the disk thread, what can block or fail.
6. ``gateway``: HTTP in and out as values, and the two loops that wait (long-poll, SSE).
7. ``observe``: what the node says of itself.

``api.Streams`` is the one door between 5 and 6, ``asked`` what every request has to keep to, however it came; ``node``
builds every object; ``cli`` reads argv and environment. ``embedded`` is a node inside another program, and
``EmbeddedNode`` the one name that is public here.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_streams_cluster.embedded import EmbeddedNode

__all__ = ["EmbeddedNode", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Find a public name when it is asked for: the command and its help need nothing of what a node needs."""
    if name != "EmbeddedNode":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module("durable_streams_cluster.embedded").EmbeddedNode
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package.startswith("durable_streams"):
            raise
        text = f"{name} needs the package {package!r}; try: pip install 'durable-streams-cluster[cluster]'"
        raise ModuleNotFoundError(text, name=error.name) from error
