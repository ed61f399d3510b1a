"""Every bound of the system, in one place, with the relations between them asserted where they are defined."""

from bisect import bisect_right
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer JavaScript holds exactly: the bound of producer epochs and sequences (PROTOCOL 5.2.1)."""

MAX_TTL_S = 10 * 365 * 24 * 3600
"""Ten years, in seconds: the largest Stream-TTL."""

MAX_FORK_DEPTH = 64
"""Forks of forks; bounds the cascade of one deletion."""

MAX_FORKS_PER_STREAM = 10_000
"""Forks made directly of one stream, and still there."""

MAX_PRODUCERS_PER_STREAM = 10_000
"""Producers that one stream remembers; each costs up to a few hundred bytes on disk, for the life of the stream."""

PRODUCER_WINDOW = 64
"""Batches of a producer whose end offsets are kept, so that a duplicate answers the original offset."""

MAX_ENTRY_BYTES = MIB
"""One Raft entry gathers the commands of a turn up to this size; a larger append travels alone."""

MAX_BATCH_BYTES = 256 * MIB
"""One write to the store; ``storage.rocks`` refuses more, and the node ends."""

BATCH_SLACK_BYTES = 64 * MIB
"""The part of a write that is no body: keys, stream and producer states, what the store adds to each."""

MAX_INFLIGHT_BYTES = (MAX_BATCH_BYTES - BATCH_SLACK_BYTES) // 2
"""A turn may write the entries of everything in flight, and apply as much that was in flight before."""

DEFAULT_MEMORY_BUDGET = 512 * MIB
MIN_MEMORY_BUDGET = 64 * MIB
"""What is fixed beside the shares needs about as much."""
MIN_FLUSH_BYTES = 4 * MIB
MAX_FLUSH_BYTES = 128 * MIB
"""Bytes in memtables at which the store writes them out, at least and at most."""


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """How a memory budget is divided, in bytes.

    A quarter is RocksDB's block cache. Memtables take up to four times ``flush_bytes``: two that are written out, and
    one that may grow to twice its size while they are (``storage.rocks`` refuses writes then). A byte in flight is held
    up to three times: as the request's body, in the log entry, and as the record. The rest is for what is decoded or
    encoded and kept for the next reader, and for responses that were not taken yet.
    """

    cache_bytes: int
    flush_bytes: int
    inflight_bytes: int

    @classmethod
    def of(cls, budget: int) -> "MemoryShares":
        """Divide ``budget`` (bytes)."""
        return cls(
            cache_bytes=budget // 4,
            flush_bytes=min(max(budget // 12, MIN_FLUSH_BYTES), MAX_FLUSH_BYTES),
            inflight_bytes=min(budget // 12, MAX_INFLIGHT_BYTES),
        )


MAX_APPEND_BYTES = 64 * MIB
"""The most that ``Limits.max_append_bytes`` may be set to."""

DISK_RESERVE_BYTES = 512 * MIB
"""With so much room left on the disk, appends are refused; an eighth of a smaller disk. See ``DiskPlan``."""


STORE_OPEN_FILES = 512
"""Table files that the store keeps open."""

OTHER_OPEN_FILES = 256
"""What else a node has open: write-ahead logs, tables being written, tables beyond those while somebody reads them,
locks, logs, listeners, and connections between two steps (``ACCEPT_BATCH``)."""

ACCEPT_BATCH = 16
"""Connections that a listener takes before the loop gets its turn."""

OPS_CONNECTIONS = 64
"""Connections to the listener of probes and metrics."""

MIN_CONNECTIONS = 64
"""A node that may not accept so many is not worth starting."""

MAX_MEMBERS = 15
"""Of a cluster, learners counted."""
MAX_PEERS = 16
"""Other nodes of a cluster."""

PEER_STREAMS = 2
"""That each node opens to each peer (Raft, bulk), each on a connection of its own."""

PEER_CONNECTIONS = 2 * PEER_STREAMS * MAX_PEERS
"""To the peer listener. Twice what the peers need: one that comes back may do so before its last one is known dead."""


def max_lingering(connections: int) -> int:
    """How many connections that were refused may stay until they have read it, of a listener with so many others."""
    return min(max(connections // 8, 16), 256)


def grpc_connections(connections: int) -> int:
    """How many connections the gRPC listener for clients takes, of a node that takes so many over HTTP.

    A program needs one, whatever it does at a time, and an operator another one.
    """
    return min(max(connections // 8, 16), 1000)


GRPC_CALLS = 10_000
"""Calls to the listener for clients that are under way, all those that follow a stream among them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds a node enforces. Sizes in bytes, times in seconds."""

    # One request.
    max_append_bytes: int = 16 * MIB
    max_header_bytes: int = 32 * KIB
    max_target_bytes: int = 8 * KIB
    max_path_bytes: int = 1024
    max_content_type_bytes: int = 256
    max_producer_id_bytes: int = 256
    max_stream_seq_bytes: int = 256
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 75.0
    # All requests.
    max_connections: int = 10_000
    """Of the protocol's listener; fewer where the process may not open so many files: see ``FilePlan``."""
    max_inflight_bytes: int = MemoryShares.of(DEFAULT_MEMORY_BUDGET).inflight_bytes
    max_pending_proposals: int = 20_000
    # Reads.
    max_read_bytes: int = MIB
    """A response is cut at the append boundary after this many bytes; one larger append still comes whole."""
    long_poll_timeout_s: float = 30.0
    sse_lifetime_s: float = 60.0
    sse_keepalive_s: float = 15.0
    write_timeout_s: float = 30.0
    """A reader that takes nothing for this long is disconnected."""
    min_reader_bytes_s: int = 1024
    """A reader that has something to take, and takes less than this a second over ``write_timeout_s``, is too."""
    max_unsent_bytes: int = DEFAULT_MEMORY_BUDGET // 16
    """What connections hold of responses that their clients have not taken. From half of it on, pages are small, and
    readers that take nothing for a second are disconnected."""
    pressed_read_bytes: int = 64 * KIB
    """The size of a small page."""
    kernel_unsent_bytes: int = 16 * KIB
    """What the kernel takes of one connection beyond what is on its way: left alone it takes four megabytes, which
    nobody counts, and a reader that reads nothing is fed until they are full."""
    # The store.
    memory_budget: int = DEFAULT_MEMORY_BUDGET
    """Covers the block cache, the memtables and bytes in flight: see ``MemoryShares``."""
    proposal_timeout_s: float = 15.0
    """An operation whose outcome is not known after this long is answered so; the disk hangs, or no leader is found."""
    drain_timeout_s: float = 10.0
    disk_reserve: int = 0
    """Free bytes on disk below which appends are refused; 0: what ``DiskPlan`` thinks fit for the disk."""

    def __post_init__(self) -> None:
        assert 0 < self.max_append_bytes <= self.max_inflight_bytes, "one append must fit in what may be in flight"
        assert self.max_append_bytes <= MAX_APPEND_BYTES, "one append must leave room for others in a write"
        assert 2 * self.max_inflight_bytes + BATCH_SLACK_BYTES <= MAX_BATCH_BYTES, "a turn must fit in one write"
        assert self.max_inflight_bytes * 4 <= self.memory_budget, "bytes in flight must fit the memory budget"
        assert self.max_target_bytes <= self.max_header_bytes
        assert self.sse_keepalive_s <= 15.0, "issue contract: keep-alives of at most 15 s"
        assert self.long_poll_timeout_s > 0
        assert self.sse_lifetime_s > 0


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """How a node shares its disk, so that it can always open again, and always delete. Sizes in bytes.

    What RocksDB needs beside the data itself, and from where it gets that:

    * Writing memtables out takes as much as they hold, while the write-ahead log that has the same is still there: four
      times ``flush_bytes`` at most, and the batch of a turn, which may be the last. While the node runs that comes from
      the reserve; when it opens, from the ballast.
    * Rewriting table files takes as much as the largest rewrite does, until the old ones are removed. Sizes of tables
      and levels follow from ``flush_bytes`` (``storage.rocks_open``) so that half of the reserve is enough for one.
      Where it is not, because much waits to be rewritten, more is kept free (``storage.rocks_room``).
    * What was let in before is still to be written: twice, as entry and as data. Admission counts it
      (``runtime.space``).
    """

    reserve: int
    """Below so much room, appends are refused."""
    flush_bytes: int
    """Memtables are written out when they hold so much."""
    inflight_bytes: int
    """Bodies in memory at most: a turn may write all of them, and apply as many of the turn before."""
    ballast: int
    """The size of a file that is only there to be cut when a full disk would not let the node open.

    A quarter of the disk at most: on one of less than some 200 MiB, that it opens is likely and not certain.
    """

    @classmethod
    def of(cls, limits: Limits, disk_size: int) -> "DiskPlan":
        """The plan for a file system of ``disk_size`` bytes."""
        reserve = limits.disk_reserve or min(DISK_RESERVE_BYTES, disk_size // 8)
        flush_bytes = max(MIB, min(MemoryShares.of(limits.memory_budget).flush_bytes, reserve // 8))
        inflight = min(limits.max_inflight_bytes, max(limits.max_append_bytes, reserve // 8))
        unflushed = 4 * flush_bytes + 2 * inflight
        return cls(reserve, flush_bytes, inflight, min(unflushed + 16 * MIB, disk_size // 4))

    def __post_init__(self) -> None:
        assert self.reserve >= 8 * self.flush_bytes or self.flush_bytes == MIB, "memtables must fit into the reserve"


@dataclass(frozen=True, slots=True)
class FilePlan:
    """How a node shares the files that its process may open: to a store, one that cannot be opened is the end."""

    reserved: int
    """For everything but connections of clients."""
    connections: int
    """To that one; there are some of others for each."""

    @classmethod
    def wanted(cls, connections: int, *, in_memory: bool, peers: int = 0) -> "FilePlan":
        """The plan in which ``connections`` fit, of a node with so many ``peers``."""
        store = 0 if in_memory else STORE_OPEN_FILES
        between = PEER_CONNECTIONS + PEER_STREAMS * peers if peers else 0
        ours = OPS_CONNECTIONS + max_lingering(OPS_CONNECTIONS)
        return cls(store + between + OTHER_OPEN_FILES + ours, connections)

    def within(self, files: int) -> "FilePlan":
        """The same with so many connections, none perhaps, as fit into ``files``."""
        fits = bisect_right(range(self.connections + 1), files - self.reserved, key=_files_for)
        return FilePlan(self.reserved, max(fits - 1, 0))

    @property
    def files(self) -> int:
        """What the process has to be allowed."""
        return self.reserved + _files_for(self.connections)

    def __post_init__(self) -> None:
        # Two listeners with two addresses each (localhost). What is accepted becomes a connection, or is closed, in
        # the turn after the next.
        assert 2 * 2 * 2 * ACCEPT_BATCH <= OTHER_OPEN_FILES // 2, "connections must not take what the store is left"
        assert self.connections >= 0


def _files_for(connections: int) -> int:
    """Of clients: so many connections over HTTP, those that are refused, and those over gRPC that go with them."""
    return connections + max_lingering(connections) + grpc_connections(connections)


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What the listener for clients takes. Sizes in bytes, times in seconds."""

    message_bytes: int = Limits().max_append_bytes + 64 * KIB
    """One request, or one reply: the largest append and what is around it, some 256 KiB of small ones, or a row of less
    than 1 KiB for each of ``MAX_MEMBERS``."""
    connections: int = grpc_connections(Limits().max_connections)
    streams: int = 2 * GRPC_CALLS
    """Calls under way on one connection. More than there may be: a gateway follows all its streams on one, and what is
    too much is refused, where it would wait in silence for its turn on the connection."""
    keepalive_s: float = 10.0
    keepalive_timeout_s: float = 10.0
    """As of ``PeerLimits``. Clients may be far away, and nothing waits for them."""

    def __post_init__(self) -> None:
        assert self.message_bytes >= 4 * KIB * MAX_MEMBERS, "all members must fit"

    @classmethod
    def of(cls, limits: Limits) -> "GrpcLimits":
        """Those of a node with such limits."""
        return cls(max(limits.max_append_bytes, MIB) + 64 * KIB, grpc_connections(limits.max_connections))


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """What the transport between nodes holds and carries. Sizes in bytes, times in seconds.

    Sizes of messages are constants of the version, not settings: a node must be able to take what any other may send.
    """

    envelope_bytes: int = MIB
    """Payloads travel together up to this size; a larger one alone."""
    urgent_bytes: int = 64 * KIB
    """The same for an envelope that has heartbeats: they must not wait until a long one arrived."""
    envelope_payloads: int = 512
    """Payloads in one envelope: the receiver handles them without a break, some microseconds each."""
    heartbeats: int = 8
    """Heartbeats that wait; an older one says nothing that a newer one does not."""
    heartbeat_bytes: int = 8 * KIB
    """One heartbeat."""
    raft_payload_bytes: int = 2 * MIB
    """One payload of the Raft stream: an entry of ``MAX_ENTRY_BYTES`` and what is around it."""
    bulk_payload_bytes: int = MAX_APPEND_BYTES + MIB
    """One payload of the bulk stream: the largest append, which is an entry alone, and what is around it."""
    raft_queue_bytes: int = 8 * MIB
    bulk_queue_bytes: int = 8 * MIB
    """What waits for one peer; a larger payload is taken when nothing else waits."""
    queue_payloads: int = 8192
    """Payloads that wait, of either stream."""
    greeting_timeout_s: float = 2.0
    """From dialing until the peer accepted the stream."""
    keepalive_s: float = 1.0
    keepalive_timeout_s: float = 1.5
    """A connection is asked for a sign of life after so long without one, and ends when none comes within the other."""
    first_backoff_s: float = 0.05
    last_backoff_s: float = 1.0
    refused_backoff_s: float = 5.0
    """Where somebody else answers, or one who does not want us: that takes people, or the DNS, to change."""

    def __post_init__(self) -> None:
        assert self.heartbeats * self.heartbeat_bytes <= self.urgent_bytes <= self.envelope_bytes
        assert self.heartbeats <= self.envelope_payloads <= self.queue_payloads
        assert self.raft_payload_bytes >= MAX_ENTRY_BYTES + 64 * KIB, "an entry must fit, with what is around it"
        assert self.bulk_payload_bytes >= MAX_APPEND_BYTES + 64 * KIB, "a large append must fit"
        assert self.envelope_bytes <= self.raft_payload_bytes <= self.bulk_payload_bytes
        assert min(self.raft_queue_bytes, self.bulk_queue_bytes) >= 2 * self.envelope_bytes, "one goes, one gathers"
        assert self.keepalive_s + self.keepalive_timeout_s <= 3.0, "noticed before live reads are cut off"
        assert 0 < self.first_backoff_s <= self.last_backoff_s <= min(1.0, self.refused_backoff_s), (
            "a peer that is back is dialed within a second"
        )

    @property
    def message_bytes(self) -> int:
        """The largest gRPC message: an envelope, with the tag and length of each payload."""
        return max(self.bulk_payload_bytes, self.envelope_bytes) + 16 * self.envelope_payloads
