"""Outcomes, rejections and refusals as ``Error``: one exhaustive match each, as ``gateway.status`` for HTTP. Pure.

The words of the codes are those of HTTP's ``error.code``, so that one table tells users of both what they mean.
"""

from collections.abc import Mapping
from typing import Final

from durable_streams_cluster.api import BadOffset, OffsetGone, ReadRejected
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown, Overloaded, StorageFull
from durable_streams_cluster.streams.outcomes import (
    ConfigMismatch,
    ForkRefused,
    ForkSourceDeleted,
    ForkSourceMissing,
    NotFound,
    OffsetMismatch,
    ProducerBadStart,
    ProducerFenced,
    ProducerGap,
    Rejected,
    SeqRegression,
    SoftDeleted,
    StreamClosed,
    StreamFull,
    TooManyProducers,
    TypeMismatch,
)
from durable_streams_proto.v1.streams_pb2 import Error

STATUS: Final[Mapping["Error.Code.ValueType", str]] = {
    Error.BAD_REQUEST: "INVALID_ARGUMENT",
    Error.INVALID_JSON: "INVALID_ARGUMENT",
    Error.PATH_TOO_LONG: "INVALID_ARGUMENT",
    Error.TOO_LARGE: "INVALID_ARGUMENT",
    Error.NOT_FOUND: "NOT_FOUND",
    Error.DELETED: "NOT_FOUND",
    Error.CONFIG_MISMATCH: "ALREADY_EXISTS",
    Error.STREAM_CLOSED: "FAILED_PRECONDITION",
    Error.CONTENT_TYPE_MISMATCH: "FAILED_PRECONDITION",
    Error.SEQUENCE_REGRESSION: "FAILED_PRECONDITION",
    Error.OFFSET_MISMATCH: "FAILED_PRECONDITION",
    Error.STREAM_FULL: "FAILED_PRECONDITION",
    Error.TOO_MANY_PRODUCERS: "FAILED_PRECONDITION",
    Error.PRODUCER_FENCED: "FAILED_PRECONDITION",
    Error.SEQUENCE_GAP: "FAILED_PRECONDITION",
    Error.SOURCE_NOT_FOUND: "NOT_FOUND",
    Error.SOURCE_DELETED: "FAILED_PRECONDITION",
    Error.OFFSET_GONE: "OUT_OF_RANGE",
    Error.OVERLOADED: "RESOURCE_EXHAUSTED",
    Error.STORAGE_FULL: "RESOURCE_EXHAUSTED",
    Error.UNAVAILABLE: "UNAVAILABLE",
    Error.OUTCOME_UNKNOWN: "UNKNOWN",
}
"""The names of gRPC's status codes. UNAVAILABLE alone may be sent again by whoever knows no more than that."""

_BROKEN: Final[Mapping[str, "Error.Code.ValueType"]] = {
    "invalid_json": Error.INVALID_JSON,
    "path_too_long": Error.PATH_TOO_LONG,
    "too_large": Error.TOO_LARGE,
    "not_found": Error.NOT_FOUND,
}
"""Codes of ``BadRequest``; others are BAD_REQUEST."""


def broken(error: BadRequest) -> Error:
    """A request that breaks a rule."""
    code = _BROKEN.get(error.code, Error.BAD_REQUEST)
    return Error(code=code, message=f"{error.field} {error.rule}", field=error.field)


def refused(error: ClusterError) -> Error:
    """What this node cannot do now."""
    code: Error.Code.ValueType = Error.UNAVAILABLE
    wait_s = 1
    if isinstance(error, Overloaded):
        code, wait_s = Error.OVERLOADED, error.retry_after_s
    elif isinstance(error, StorageFull):
        code, wait_s = Error.STORAGE_FULL, error.retry_after_s
    elif isinstance(error, OutcomeUnknown):
        code, wait_s = Error.OUTCOME_UNKNOWN, 0
    return Error(
        code=code,
        message=str(error),
        retryable=error.retryable,
        maybe_applied=error.maybe_applied,
        retry_after_ms=1000 * wait_s,
    )


def rejected(outcome: Rejected) -> Error:
    """What the stream machine decided (PROTOCOL 5)."""
    match outcome:
        case NotFound() | SoftDeleted():
            return _absent(outcome)
        case ConfigMismatch(field):
            message = f"a stream is here with another {field}"
            return Error(code=Error.CONFIG_MISMATCH, message=message, field=field)
        case StreamClosed(at):
            return Error(code=Error.STREAM_CLOSED, message="this stream is closed", offset=str(at))
        case TypeMismatch(expected):
            message = f"the stream holds {expected}"
            return Error(code=Error.CONTENT_TYPE_MISMATCH, message=message, content_type=expected)
        case SeqRegression(last):
            message = f"stream_seq must be above {last.decode('latin-1')!r}"
            return Error(code=Error.SEQUENCE_REGRESSION, message=message, stream_seq=last)
        case OffsetMismatch(at):
            message = f"the stream ends at {at}, not at if_match"
            return Error(code=Error.OFFSET_MISMATCH, message=message, offset=str(at))
        case StreamFull(max_bytes):
            message = f"this stream may hold {max_bytes} bytes; nothing was stored"
            return Error(code=Error.STREAM_FULL, message=message, max_bytes=max_bytes)
        case TooManyProducers(most):
            message = f"{most} producers have written to this stream, the most it remembers: use one of their ids"
            return Error(code=Error.TOO_MANY_PRODUCERS, message=message, most=most)
        case ProducerFenced(epoch):
            message = f"epoch {epoch} of this producer was seen"
            return Error(code=Error.PRODUCER_FENCED, message=message, epoch=epoch)
        case ProducerBadStart(epoch, seq):
            message = "a new epoch begins with sequence 0"
            return Error(code=Error.SEQUENCE_GAP, message=message, expected_seq=0, received_seq=seq, epoch=epoch)
        case ProducerGap(expected, received):
            message = f"batch {expected} comes before batch {received}"
            return Error(code=Error.SEQUENCE_GAP, message=message, expected_seq=expected, received_seq=received)
        case ForkSourceMissing():
            return Error(code=Error.SOURCE_NOT_FOUND, message="no stream at fork.source", field="fork.source")
        case ForkSourceDeleted():
            return Error(code=Error.SOURCE_DELETED, message="the source stream was deleted", field="fork.source")
        case ForkRefused(field, rule):
            return Error(code=Error.BAD_REQUEST, message=f"{field} {rule}", field=field)


def unread(outcome: ReadRejected) -> Error:
    """A read that has no page (PROTOCOL 5.6, 8)."""
    match outcome:
        case NotFound() | SoftDeleted():
            return _absent(outcome)
        case BadOffset():
            message = "offset is not one that this stream gave out"
            return Error(code=Error.BAD_REQUEST, message=message, field="offset")
        case OffsetGone(first):
            message = "offset belongs to a stream that was here before, or to data no longer kept: read from -1"
            return Error(code=Error.OFFSET_GONE, message=message, field="offset", offset=str(first))


def _absent(outcome: NotFound | SoftDeleted) -> Error:
    if isinstance(outcome, NotFound):
        return Error(code=Error.NOT_FOUND, message="no stream at this path: create it first")
    message = "this stream was deleted; its forks still need its data"
    return Error(code=Error.DELETED, message=message)
