"""Requests of the service ``Streams`` as commands, and what came of them as replies (streams.proto). Pure.

A request that breaks a rule raises ``asked.BadRequest``.
"""

from durable_streams_cluster import asked
from durable_streams_cluster.api import Described, From, Page
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.runtime.grpc_status import rejected
from durable_streams_cluster.streams import offsets
from durable_streams_cluster.streams.commands import Append, Create, Fork, Producer
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import Appended, Created, Deleted, Outcome, Renewed
from durable_streams_proto.v1 import streams_pb2 as pb

LIST_DEFAULT, LIST_MOST = 100, 1000
"""Streams that one answer names."""


def fork_of(request: pb.CreateRequest, limits: Limits) -> Fork | None:
    """Of what the stream is to be a fork (PROTOCOL 4.2)."""
    if not request.HasField("fork"):
        return None
    fork = request.fork
    source = asked.stream_path(fork.source, "fork.source", limits.max_path_bytes)
    at = None
    if fork.HasField("offset") and fork.offset != From.NOW.value:
        at = offsets.START if fork.offset == From.START.value else _offset(fork.offset, "fork.offset")
    return Fork(source, at, asked.integer(fork.sub_offset, "fork.sub_offset"))


def create_of(request: pb.CreateRequest, fork: Fork | None, source_type: str | None, limits: Limits) -> Create:
    """PROTOCOL 5.1. ``source_type``: see ``gateway.codec.decode_create``."""
    asked.fits(len(request.body), limits)
    ttl_s = asked.ttl(request.ttl_s, "ttl_s") if request.HasField("ttl_s") else None
    end_ms = asked.expires_at(request.expires_at_ms, "expires_at_ms") if request.HasField("expires_at_ms") else None
    asked.one_end(ttl_s, end_ms, "ttl_s", "expires_at_ms")
    content_type = _content_type(request, limits)
    if request.body and content_type is None and fork is not None:
        content_type = source_type
    body = asked.record(request.body, content_type) if request.body else b""
    return Create(request.path, content_type, ttl_s, end_ms, request.closed, body, fork)


def append_of(request: pb.AppendRequest, limits: Limits) -> Append:
    """PROTOCOL 5.2, 5.3."""
    body, content_type, producer = request.body, None, None
    if body:
        asked.fits(len(body), limits)
        content_type = _content_type(request, limits)
        if content_type is None:
            raise BadRequest("content_type", "is missing")
        body = asked.appended(body, content_type)
    elif not request.close:
        raise BadRequest("body", "is empty; only a request with close may be")
    if request.HasField("producer"):
        producer = _producer(request.producer, limits)
    stream_seq = asked.stream_seq(request.stream_seq, "stream_seq", limits) if request.HasField("stream_seq") else None
    if_match = _offset(request.if_match, "if_match") if request.HasField("if_match") else None
    append = Append(request.path, content_type, body, request.close, stream_seq, producer, if_match)
    return asked.one_condition(append, "if_match", "producer")


def place_of(text: str) -> Offset | From:
    """Where a read begins (PROTOCOL 8)."""
    if text in ("", From.START.value):
        return From.START
    if text == From.NOW.value:
        return From.NOW
    return asked.offset(text, "offset", f"must be -1, now, or an offset of this stream: {offsets.FORM}")


def limit_of(request: pb.ListRequest) -> int:
    """How many streams to list."""
    for field in ("prefix", "after"):
        if asked.has_control(getattr(request, field)):
            raise BadRequest(field, "has a control character, which no path has")
    if request.limit > LIST_MOST:
        raise BadRequest("limit", f"must be a number from 1 to {LIST_MOST}")
    return request.limit or LIST_DEFAULT


def _content_type(request: pb.CreateRequest | pb.AppendRequest, limits: Limits) -> str | None:
    if not request.HasField("content_type"):
        return None
    return asked.content_type(request.content_type, "content_type", limits)


def _producer(producer: pb.Producer, limits: Limits) -> Producer:
    try:
        identity = producer.id.encode("latin-1")
    except UnicodeEncodeError:
        raise BadRequest("producer.id", "has characters that Latin-1 does not") from None
    return Producer(
        asked.producer_id(identity, "producer.id", limits),
        asked.integer(producer.epoch, "producer.epoch"),
        asked.integer(producer.seq, "producer.seq"),
    )


def _offset(text: str, field: str) -> Offset:
    return asked.offset(text, field, f"must be an offset that the stream gave out: {offsets.FORM}")


# ------------------------------------------------------------------------------------------------------------- replies

Reply = pb.AppendReply | pb.CreateReply | pb.DeleteReply | pb.Error


def reply_of(outcome: Outcome) -> Reply:
    """What came of a write."""
    match outcome:
        case Appended(at, closed, epoch, seq, duplicate):
            return pb.AppendReply(
                next_offset=str(at), closed=closed, duplicate=duplicate, producer_epoch=epoch, producer_seq=seq
            )
        case Created(existed, content_type, at, closed, ttl_s, expires_at_ms):
            return pb.CreateReply(
                existed=existed,
                content_type=content_type,
                next_offset=str(at),
                closed=closed,
                ttl_s=ttl_s,
                expires_at_ms=expires_at_ms,
            )
        case Deleted(soft):
            return pb.DeleteReply(soft=soft)
        case Renewed():
            raise AssertionError("no request touches a stream and nothing else")
        case _:
            return rejected(outcome)


def head_of(found: Described) -> pb.HeadReply:
    """PROTOCOL 5.5."""
    return pb.HeadReply(
        content_type=found.content_type,
        first_offset=str(found.first_offset),
        next_offset=str(found.next_offset),
        closed=found.closed,
        ttl_s=found.ttl_s,
        expires_at_ms=found.expires_at_ms,
    )


def list_of(found: list[Described], limit: int) -> pb.ListReply:
    """Streams in the order of their paths."""
    rows = [
        pb.ListedStream(
            path=each.path,
            content_type=each.content_type,
            first_offset=str(each.first_offset),
            next_offset=str(each.next_offset),
            closed=each.closed,
            ttl_s=each.ttl_s,
            expires_at_ms=each.expires_at_ms,
        )
        for each in found
    ]
    return pb.ListReply(streams=rows, next=found[-1].path if len(found) == limit else "")


def page_of(page: Page) -> pb.Page:
    """PROTOCOL 5.6."""
    return pb.Page(
        bodies=page.bodies,
        offset=str(page.start),
        next_offset=str(page.next),
        up_to_date=page.up_to_date,
        closed=page.closed,
        content_type=page.content_type,
        stream=page.stream,
        behind_bytes=page.behind,
        ttl_s=page.ttl_s,
        expires_at_ms=page.expires_at_ms,
        after_cr=page.after_cr,
    )
