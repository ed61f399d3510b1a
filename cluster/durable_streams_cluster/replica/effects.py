"""What one turn asks for, as data."""

import msgspec

from durable_streams_cluster.raft import BecameLeader
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.streams.outcomes import Outcome


class Effects(msgspec.Struct):
    """See the package's docstring for the order in which they are carried out."""

    batch: WriteBatch
    ticket: int = 0
    """Names what this batch makes durable: the newest hand-over number of the Raft core."""
    must_sync: bool = False
    completions: list[tuple[object, Outcome]] = []
    """Token of ``propose``, and the replicated answer."""
    wakes: list[str] = []
    """Paths whose watchers look again."""
    events: list[BecameLeader] = []
    more: bool = False
    """There is more to apply: another turn is due, though nothing happened."""
