"""The Raft core: consensus as a machine that is told what happened and says what to do.

The loop of its caller is in ``ready.Ready``; the machine is ``core.RaftCore``. In which order to read: ``messages`` are
the values, ``log`` holds the newest entries over a ``LogReader``, ``state`` is what a member knows; ``follower``,
``candidate`` and ``leader`` are what each role does with it; ``progress`` is one follower in a leader's eyes, ``reads``
the reads that wait for a round, ``quorum`` counts, ``membership`` says who does, ``lives`` tells who has forgotten what
it promised, ``invariants`` is what must hold after each step.
Nothing here reads a clock, draws a random number or touches a disk.
"""

from durable_streams_cluster.raft.core import FEATURE_LEVEL, RaftCore
from durable_streams_cluster.raft.lives import Begun, Lives
from durable_streams_cluster.raft.log import LogReader
from durable_streams_cluster.raft.membership import (
    AddLearner,
    Change,
    Member,
    Membership,
    Objection,
    Promote,
    Readdress,
    Remove,
    ReplicaId,
    changed,
)
from durable_streams_cluster.raft.messages import (
    NOTHING,
    SCANT_BYTES,
    AppendEntries,
    AppendReply,
    Entry,
    EntryId,
    EntryKind,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    Outgoing,
    RequestVote,
    Room,
    SnapshotMeta,
    TimeoutNow,
    VoteReply,
    entry_crc,
)
from durable_streams_cluster.raft.ready import (
    BecameLeader,
    Event,
    LeaderChanged,
    MembershipChanged,
    Ready,
    SnapshotNeeded,
    SteppedDown,
    Truncated,
)
from durable_streams_cluster.raft.state import Role, Settings
from durable_streams_cluster.raft.status import Follower, Status

__all__ = [
    "FEATURE_LEVEL",
    "NOTHING",
    "SCANT_BYTES",
    "AddLearner",
    "AppendEntries",
    "AppendReply",
    "BecameLeader",
    "Begun",
    "Change",
    "Entry",
    "EntryId",
    "EntryKind",
    "Event",
    "Follower",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "LeaderChanged",
    "Lives",
    "LogReader",
    "Member",
    "Membership",
    "MembershipChanged",
    "Message",
    "Objection",
    "Outgoing",
    "Promote",
    "RaftCore",
    "Readdress",
    "Ready",
    "Remove",
    "ReplicaId",
    "RequestVote",
    "Role",
    "Room",
    "Settings",
    "SnapshotMeta",
    "SnapshotNeeded",
    "Status",
    "SteppedDown",
    "TimeoutNow",
    "Truncated",
    "VoteReply",
    "changed",
    "entry_crc",
]
