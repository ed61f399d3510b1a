"""What replicas tell each other, to bytes and back. Pure.

A payload is a msgpack array: format, group, messages. Fields are only ever added at the end of a message, with a
default, and a message of an unknown kind makes the whole payload unreadable: nothing is sent that others do not know.
"""

from collections.abc import Iterable, Iterator

import msgspec

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import GroupId, NodeId
from durable_streams_cluster.limits import KIB, MIB
from durable_streams_cluster.raft import (
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    TimeoutNow,
    VoteReply,
    entry_crc,
)
from durable_streams_cluster.replica.exchange import Addressed, Forward, PeerMessage, SnapshotChunk
from durable_streams_cluster.runtime.outbox import Kind
from durable_streams_cluster.storage.export import pairs_crc

FORMAT = 1
PAYLOAD_BYTES = MIB
"""Messages to one peer share a payload up to about this size; a larger message travels alone."""
LARGE_BYTES = MIB + 512 * KIB
"""A larger message, which is one large append, does not stand before others."""


class Packet(msgspec.Struct, frozen=True, array_like=True):
    """What a payload holds."""

    format: int
    group: GroupId
    messages: list[PeerMessage]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


def pack(outbox: Iterable[Addressed]) -> Iterator[tuple[NodeId, Kind, bytes]]:
    """Payloads for what is to be sent; to one peer in this order, but what is urgent or very large apart."""
    waiting: dict[tuple[NodeId, Kind, GroupId], tuple[list[PeerMessage], int]] = {}
    for to, group, message in ((each.to, each.group, each.message) for each in outbox):
        size = size_of(message)
        key = (to, kind_of(message, size), group)
        messages, total = waiting.get(key, ([], 0))
        if messages and total + size > PAYLOAD_BYTES:
            yield _payload(key, messages)
            messages, total = [], 0
        messages.append(message)
        waiting[key] = messages, total + size
    for key, (messages, _) in waiting.items():
        yield _payload(key, messages)


def _payload(key: tuple[NodeId, Kind, GroupId], messages: list[PeerMessage]) -> tuple[NodeId, Kind, bytes]:
    to, kind, group = key
    return to, kind, _encoder.encode(Packet(FORMAT, group, messages))


def unpack(payload: bytes) -> Packet:
    """The messages of a payload, every entry of the log checked against its checksum.

    Raises:
        CorruptData: it is none that this build knows, or an entry was changed on its way.

    """
    try:
        packet = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"a message of another node cannot be read: {error}") from error
    if packet.format != FORMAT:
        raise CorruptData(f"a message of another node has format {packet.format}, this build knows {FORMAT}")
    for message in packet.messages:
        if isinstance(message, AppendEntries):
            for entry in message.entries:
                if entry_crc(packet.group, entry) != entry.crc:
                    raise CorruptData(f"log entry {entry.index} of another node does not match its checksum")
        if isinstance(message, SnapshotChunk) and pairs_crc(message.pairs) != message.crc:
            raise CorruptData(f"part {message.number} of a snapshot of another node does not match its checksum")
    return packet


def kind_of(message: PeerMessage, size: int) -> Kind:
    """How a message of about ``size`` bytes travels: late heartbeats and votes cost a leader."""
    match message:
        case Heartbeat() | HeartbeatReply() | RequestVote() | VoteReply() | TimeoutNow():
            return Kind.HEARTBEAT
        case SnapshotChunk():
            return Kind.BULK
        case _:
            return Kind.BULK if size > LARGE_BYTES else Kind.RAFT


def size_of(message: PeerMessage) -> int:
    """Bytes of a message, about."""
    match message:
        case AppendEntries():
            return 100 + sum(len(entry.data) + 100 for entry in message.entries)
        case Forward():
            return 100 + sum(len(getattr(each.command, "body", b"")) + 200 for each in message.proposals)
        case SnapshotChunk():
            return 100 + sum(len(key) + len(value) + 20 for key, value in message.pairs)
        case _:
            return 200
