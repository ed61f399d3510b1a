"""What one turn asks for, as data."""

import msgspec

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Event
from durable_streams_cluster.replica.exchange import Addressed, Reason
from durable_streams_cluster.replica.members import Answered, MembershipApplied
from durable_streams_cluster.replica.snapshots import SnapshotInstalled, SnapshotSent
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.streams.outcomes import Outcome


class Asked(msgspec.Struct, frozen=True):
    """A question of another node for this leader: see ``exchange.AskRead``."""

    sender: NodeId
    number: int
    renewed: tuple[str, ...]
    seen: tuple[str, ...]


class Effects(msgspec.Struct):
    """See the package's docstring for the order in which they are carried out."""

    batch: WriteBatch
    ticket: int = 0
    """Names what this batch makes durable: the newest hand-over number of the Raft core."""
    must_sync: bool = False
    outbox: list[Addressed] = []
    """To be sent, in this order, at any time: nothing here tells of what is not durable."""
    completions: list[tuple[object, Outcome]] = []
    """Token of ``propose``, and the replicated answer."""
    refusals: list[tuple[object, Reason]] = []
    """Token of ``propose``, and why the leader did not take it: it is certainly not stored."""
    unknown: list[object] = []
    """Token of ``propose``: it was applied, and a snapshot came instead of its outcome."""
    changes: list[Answered] = []
    """What became of changes of the membership that were asked for."""
    asked: list[Asked] = []
    """The caller ends streams whose time is up, notes renewals, and then calls ``Replica.answer_read``."""
    wakes: list[str] = []
    """Paths whose watchers look again."""
    all_moved: bool = False
    """Every stream may have moved: all watchers look again."""
    events: list[Event | MembershipApplied | SnapshotSent | SnapshotInstalled] = []
    held_ms: int = 0
    """If not 0: writes wait for those under way, so long at most; then a turn is due, though nothing happened."""
    more: bool = False
    """There is more to apply: another turn is due, though nothing happened."""
