"""The Raft core: consensus as a machine that is told what happened and says what to do.

The loop of its caller is in ``ready.Ready``; the machine is ``core.RaftCore``. ``log`` holds the newest entries over a
``LogReader``, ``quorum`` counts, ``messages`` are the values. Nothing here reads a clock, draws a random number or
touches a disk.
"""

from durable_streams_cluster.raft.core import FEATURE_LEVEL, RaftCore, Role
from durable_streams_cluster.raft.log import LogReader
from durable_streams_cluster.raft.messages import Entry, EntryId, EntryKind, HardState, Membership, entry_crc
from durable_streams_cluster.raft.ready import BecameLeader, Ready

__all__ = [
    "FEATURE_LEVEL",
    "BecameLeader",
    "Entry",
    "EntryId",
    "EntryKind",
    "HardState",
    "LogReader",
    "Membership",
    "RaftCore",
    "Ready",
    "Role",
    "entry_crc",
]
