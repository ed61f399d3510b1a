"""Requests, results and errors, to and from protobuf. Pure."""

from collections.abc import Callable, Mapping

from durable_streams_client import errors, types
from durable_streams_client.errors import DurableStreamError
from durable_streams_proto.v1 import streams_pb2 as pb

Written = types.AppendResult | types.CreateResult | bool | DurableStreamError
"""What became of a write; of a delete, whether the data stays for forks."""


def create(request: types.CreateRequest) -> pb.CreateRequest:
    """To protobuf."""
    fork = request.fork
    return pb.CreateRequest(
        path=request.path,
        content_type=request.content_type,
        ttl_s=request.ttl_s,
        expires_at_ms=request.expires_at_ms,
        closed=request.closed,
        body=request.body,
        fork=pb.Fork(source=fork.source, offset=fork.offset, sub_offset=fork.sub_offset) if fork is not None else None,
    )


def append(request: types.AppendRequest) -> pb.AppendRequest:
    """To protobuf."""
    batch = request.producer
    return pb.AppendRequest(
        path=request.path,
        content_type=request.content_type,
        body=request.body,
        close=request.close,
        stream_seq=request.stream_seq,
        producer=pb.Producer(id=batch.id, epoch=batch.epoch, seq=batch.seq) if batch is not None else None,
        if_match=request.if_match,
    )


def write(number: int, request: types.AppendRequest | types.CreateRequest | types.DeleteRequest) -> pb.WriteRequest:
    """To protobuf, as one of many."""
    match request:
        case types.AppendRequest():
            return pb.WriteRequest(number=number, append=append(request))
        case types.CreateRequest():
            return pb.WriteRequest(number=number, create=create(request))
        case types.DeleteRequest():
            return pb.WriteRequest(number=number, delete=pb.DeleteRequest(path=request.path))


def written(reply: pb.WriteReply) -> Written:
    """What became of one of many."""
    match reply.WhichOneof("result"):
        case "append":
            done = reply.append
            return types.AppendResult(
                done.next_offset,
                done.closed,
                done.duplicate,
                producer_epoch=done.producer_epoch if done.HasField("producer_epoch") else None,
                producer_seq=done.producer_seq if done.HasField("producer_seq") else None,
            )
        case "create":
            return created(reply.create)
        case "delete":
            return reply.delete.soft
        case "error":
            return error(reply.error)
        case _:
            return errors.OutcomeUnknownError("the server's answer is of a newer kind: update this client")


def created(reply: pb.CreateReply) -> types.CreateResult:
    """From protobuf."""
    return types.CreateResult(
        reply.existed,
        reply.content_type,
        reply.next_offset,
        reply.closed,
        reply.ttl_s if reply.HasField("ttl_s") else None,
        reply.expires_at_ms if reply.HasField("expires_at_ms") else None,
    )


def head(reply: pb.HeadReply) -> types.HeadResult:
    """From protobuf."""
    return types.HeadResult(
        reply.content_type,
        reply.next_offset,
        reply.first_offset,
        reply.closed,
        reply.ttl_s if reply.HasField("ttl_s") else None,
        reply.expires_at_ms if reply.HasField("expires_at_ms") else None,
    )


def listed(reply: pb.ListReply) -> list[types.ListedStream]:
    """From protobuf."""
    return [
        types.ListedStream(
            each.path,
            each.content_type,
            each.first_offset,
            each.next_offset,
            each.closed,
            each.ttl_s if each.HasField("ttl_s") else None,
            each.expires_at_ms if each.HasField("expires_at_ms") else None,
        )
        for each in reply.streams
    ]


def page(found: pb.Page) -> types.Page:
    """From protobuf."""
    return types.Page(
        tuple(found.bodies),
        found.offset,
        found.next_offset,
        found.up_to_date,
        found.closed,
        found.content_type,
        found.behind_bytes,
        found.stream,
        found.ttl_s if found.HasField("ttl_s") else None,
        found.expires_at_ms if found.HasField("expires_at_ms") else None,
        found.after_cr,
    )


# -------------------------------------------------------------------------------------------------------------- errors

_Make = Callable[[pb.Error], DurableStreamError]
_ERRORS: Mapping["pb.Error.Code.ValueType", _Make] = {
    pb.Error.BAD_REQUEST: lambda e: errors.BadRequestError(e.message, e.field),
    pb.Error.INVALID_JSON: lambda e: errors.InvalidJsonError(e.message, e.field),
    pb.Error.PATH_TOO_LONG: lambda e: errors.BadRequestError(e.message, e.field, "path_too_long"),
    pb.Error.TOO_LARGE: lambda e: errors.TooLargeError(e.message, e.field),
    pb.Error.NOT_FOUND: lambda e: errors.StreamNotFoundError(e.message),
    pb.Error.DELETED: lambda e: errors.StreamDeletedError(e.message),
    pb.Error.CONFIG_MISMATCH: lambda e: errors.StreamExistsError(e.message, e.field),
    pb.Error.STREAM_CLOSED: lambda e: errors.StreamClosedError(e.message, e.offset),
    pb.Error.CONTENT_TYPE_MISMATCH: lambda e: errors.ContentTypeMismatchError(e.message, e.content_type),
    pb.Error.SEQUENCE_REGRESSION: lambda e: errors.SeqConflictError(e.message, e.stream_seq),
    pb.Error.OFFSET_MISMATCH: lambda e: errors.OffsetMismatchError(e.message, e.offset),
    pb.Error.STREAM_FULL: lambda e: errors.StreamFullError(e.message, e.max_bytes),
    pb.Error.TOO_MANY_PRODUCERS: lambda e: errors.TooManyProducersError(e.message, e.most),
    pb.Error.PRODUCER_FENCED: lambda e: errors.ProducerFencedError(e.message, e.epoch),
    pb.Error.SEQUENCE_GAP: lambda e: errors.SequenceGapError(e.message, e.expected_seq, e.received_seq, e.epoch),
    pb.Error.SOURCE_NOT_FOUND: lambda e: errors.ForkSourceError(e.message, "source_not_found"),
    pb.Error.SOURCE_DELETED: lambda e: errors.ForkSourceError(e.message, "source_deleted"),
    pb.Error.OFFSET_GONE: lambda e: errors.RetentionGoneError(e.message, e.offset),
    pb.Error.OVERLOADED: lambda e: errors.OverloadedError(e.message, e.retry_after_ms / 1000),
    pb.Error.STORAGE_FULL: lambda e: errors.StorageFullError(e.message, e.retry_after_ms / 1000),
    pb.Error.UNAVAILABLE: lambda e: errors.UnavailableError(e.message),
    pb.Error.OUTCOME_UNKNOWN: lambda e: errors.OutcomeUnknownError(e.message),
}


def error(found: pb.Error) -> DurableStreamError:
    """The exception for an ``Error``; one of a newer server by what it says may be done."""
    make = _ERRORS.get(found.code)
    if make is not None:
        return make(found)
    if found.retryable:
        return errors.UnavailableError(found.message)
    return errors.OutcomeUnknownError(found.message) if found.maybe_applied else DurableStreamError(found.message)
