"""Asks nodes on this machine who leads: their ``/readyz?verbose`` says it in words (``node.Node``)."""

import asyncio
import re
from collections.abc import Iterable

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.local.plan import LOOPBACK, LocalNode

PATIENCE_S = 1.0
_LEADS = re.compile(rb"\bleader in term (\d+), led by (\S+)$", re.MULTILINE)
_REQUEST = b"GET /readyz?verbose HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def leader(nodes: Iterable[LocalNode]) -> NodeId | None:
    """Return which of ``nodes`` leads, or None: nobody does, or it did not answer."""
    answers = await asyncio.gather(*(_ask(node) for node in nodes))
    # Two may think that they lead, for a moment: the one of the newer term does.
    leading = max((answer for answer in answers if answer is not None), default=None)
    return leading[1] if leading is not None else None


async def _ask(node: LocalNode) -> tuple[int, NodeId] | None:
    """The term in which this node leads, and its name; None when it does not say so."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, node.port("ops"))
            try:
                writer.write(_REQUEST)
                said = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    found = _LEADS.search(said.replace(b"\r", b""))
    return (int(found[1]), NodeId(found[2].decode())) if found else None
