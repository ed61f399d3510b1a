"""Commands as requests of the client SDK; its results and errors as outcomes and pages. Pure.

What an error of the SDK loses of an outcome, an HTTP client loses: each match below is exhaustive.
"""

import math
from itertools import accumulate

from durable_streams_client import errors, types
from durable_streams_cluster.api import BadOffset, Described, OffsetGone, Page, ReadRejected
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown, Overloaded, StorageFull, Unavailable
from durable_streams_cluster.streams import offsets
from durable_streams_cluster.streams.commands import Append, Create
from durable_streams_cluster.streams.meta import is_json
from durable_streams_cluster.streams.outcomes import (
    Appended,
    ConfigMismatch,
    Created,
    Deleted,
    ForkSourceDeleted,
    ForkSourceMissing,
    NotFound,
    OffsetMismatch,
    Outcome,
    ProducerBadStart,
    ProducerFenced,
    ProducerGap,
    SeqRegression,
    SoftDeleted,
    StreamClosed,
    StreamFull,
    TooManyProducers,
    TypeMismatch,
)
from durable_streams_cluster.streams.view import Record

Result = types.AppendResult | types.CreateResult | bool
"""Of an append, a create, or a delete."""


def append_of(command: Append) -> types.AppendRequest:
    """To the SDK. Messages that are joined are an array again."""
    producer = command.producer
    return types.AppendRequest(
        command.path,
        _text(command.body, command.content_type),
        command.content_type,
        command.close,
        command.stream_seq,
        types.ProducerBatch(producer.id, producer.epoch, producer.seq) if producer is not None else None,
        str(command.if_match) if command.if_match is not None else None,
    )


def create_of(command: Create) -> types.CreateRequest:
    """To the SDK. A body without a type is that of a fork whose source was not found: it is as it was sent."""
    fork = command.fork
    at = str(fork.offset) if fork is not None and fork.offset is not None else None
    return types.CreateRequest(
        command.path,
        command.content_type,
        command.ttl_s,
        command.expires_at_ms,
        command.closed,
        _text(command.body, command.content_type),
        types.Fork(fork.source, at, fork.sub_offset) if fork is not None else None,
    )


def _text(body: bytes, content_type: str | None) -> bytes:
    return b"[" + body + b"]" if body and content_type is not None and is_json(content_type) else body


def outcome_of(result: Result) -> Outcome:
    """What was done."""
    match result:
        case types.AppendResult():
            at = offsets.parse(result.next_offset)
            return Appended(at, result.closed, result.producer_epoch, result.producer_seq, result.duplicate)
        case types.CreateResult():
            at = offsets.parse(result.next_offset)
            return Created(result.existed, result.content_type, at, result.closed, result.ttl_s, result.expires_at_ms)
        case bool():
            return Deleted(result)


def told_of(error: errors.DurableStreamError) -> Outcome | BadRequest | ClusterError:
    """What became of a write: an outcome, a request that breaks a rule, or what nobody can do now."""
    match error:
        case errors.StreamNotFoundError():
            return _absent(error)
        case errors.StreamExistsError():
            return ConfigMismatch(error.field)
        case errors.StreamClosedError():
            return StreamClosed(offsets.parse(error.offset))
        case errors.ContentTypeMismatchError():
            return TypeMismatch(error.content_type)
        case errors.SeqConflictError():
            return SeqRegression(error.last)
        case errors.OffsetMismatchError():
            return OffsetMismatch(offsets.parse(error.offset))
        case errors.StreamFullError():
            return StreamFull(error.max_bytes)
        case errors.TooManyProducersError():
            return TooManyProducers(error.most)
        case errors.ProducerFencedError():
            return ProducerFenced(error.epoch)
        case errors.SequenceGapError():
            if error.epoch:
                return ProducerBadStart(error.epoch, error.received_seq)
            return ProducerGap(error.expected_seq, error.received_seq)
        case errors.ForkSourceError():
            return ForkSourceDeleted() if error.code == "source_deleted" else ForkSourceMissing()
        case errors.BadRequestError():
            return broken_of(error)
        case _:
            return refused_of(error)


def unread_of(error: errors.DurableStreamError) -> ReadRejected:
    """Why a read has no page (PROTOCOL 5.6, 8). Raises BadRequest, ClusterError."""
    match error:
        case errors.StreamNotFoundError():
            return _absent(error)
        case errors.RetentionGoneError():
            return OffsetGone(offsets.parse(error.offset))
        case errors.BadRequestError(field="offset"):
            return BadOffset()
        case _:
            raise unasked_of(error) from error


def undescribed_of(error: errors.DurableStreamError) -> NotFound | SoftDeleted:
    """Why nothing is known of a stream. Raises BadRequest, ClusterError."""
    if isinstance(error, errors.StreamNotFoundError):
        return _absent(error)
    raise unasked_of(error) from error


def unasked_of(error: errors.DurableStreamError) -> BadRequest | ClusterError:
    """Why a question has no answer."""
    return broken_of(error) if isinstance(error, errors.BadRequestError) else refused_of(error)


def _absent(error: errors.StreamNotFoundError) -> NotFound | SoftDeleted:
    return SoftDeleted() if isinstance(error, errors.StreamDeletedError) else NotFound()


def broken_of(error: errors.BadRequestError) -> BadRequest:
    """A rule that the cluster has and this gateway does not, as another bound of an append."""
    field = error.field or "request"
    return BadRequest(field, str(error).removeprefix(field).strip(), error.code)


def refused_of(error: errors.DurableStreamError) -> ClusterError:
    """What the cluster, or this gateway, cannot do now."""
    match error:
        case errors.StorageFullError():
            return StorageFull(str(error), math.ceil(error.retry_after_s))
        case errors.OverloadedError():
            return Overloaded(str(error), math.ceil(error.retry_after_s))
        case errors.OutcomeUnknownError():
            return OutcomeUnknown(str(error))
        case errors.AuthenticationError() | errors.PermissionDeniedError():
            return Unavailable(f"the cluster does not take this gateway's token: {error}; nothing was stored")
        case _ if error.maybe_applied:
            return OutcomeUnknown(str(error))
        case _:
            return Unavailable(str(error))


def page_of(page: types.Page) -> Page:
    """From the SDK."""
    return Page(
        stream=page.stream,
        content_type=page.content_type,
        is_json=page.is_json,
        start=offsets.parse(page.offset),
        next=offsets.parse(page.next_offset),
        records=_records(page, offsets.parse(page.next_offset).position),
        up_to_date=page.up_to_date,
        closed=page.closed,
        ttl_s=page.ttl_s,
        expires_at_ms=page.expires_at_ms,
        encoded={},
        behind=page.lag_bytes or 0,
        after_cr=page.after_cr,
    )


def _records(page: types.Page, end: int) -> list[Record]:
    """A page's appends as one run of them."""
    if not page.bodies:
        return []
    *cuts, _ = accumulate(map(len, page.bodies))
    return [Record(end, page.bodies[0] if not cuts else b"".join(page.bodies), tuple(cuts))]


def described_of(path: str, found: types.HeadResult | types.ListedStream) -> Described:
    """From the SDK."""
    at = found.offset if isinstance(found, types.HeadResult) else found.next_offset
    return Described(
        path,
        found.content_type,
        offsets.parse(found.first_offset),
        offsets.parse(at),
        found.closed,
        found.ttl_s,
        found.expires_at_ms,
    )
