"""Outcomes, rejections and refusals as HTTP: one exhaustive match each (PROTOCOL 5; DESIGN: Unknown outcomes)."""

import json
from collections.abc import Mapping

import msgspec

from durable_streams_cluster.api import BadOffset, OffsetGone, ReadRejected
from durable_streams_cluster.asked import TOO_LARGE, BadRequest
from durable_streams_cluster.errors import ClusterError, OutcomeUnknown, Overloaded, StorageFull
from durable_streams_cluster.gateway.headers import COMMON, format_time
from durable_streams_cluster.streams.commands import Append, Producer
from durable_streams_cluster.streams.offsets import Offset
from durable_streams_cluster.streams.outcomes import (
    Appended,
    ConfigMismatch,
    Created,
    Deleted,
    ForkRefused,
    ForkSourceDeleted,
    ForkSourceMissing,
    NotFound,
    OffsetMismatch,
    Outcome,
    ProducerBadStart,
    ProducerFenced,
    ProducerGap,
    Renewed,
    SeqRegression,
    SoftDeleted,
    StreamClosed,
    StreamFull,
    TooManyProducers,
    TypeMismatch,
)

Header = tuple[bytes, bytes]
CLOSED: Header = (b"stream-closed", b"true")
UP_TO_DATE: Header = (b"stream-up-to-date", b"true")
_OF_REQUESTS: Mapping[str, int] = {"not_found": 404, "body_timeout": 408, TOO_LARGE: 413, "path_too_long": 414}
"""Others that break a rule are answered 400."""
_JSON: Header = (b"content-type", b"application/json")
_NO_STORE: Header = (b"cache-control", b"no-store")


class Response(msgspec.Struct):
    """One whole HTTP response; names in lower case."""

    status: int
    headers: list[Header]
    body: bytes = b""


def next_offset(offset: Offset) -> Header:
    """The Stream-Next-Offset header."""
    return (b"stream-next-offset", str(offset).encode())


def first_offset(offset: Offset) -> Header:
    """The Stream-First-Offset header (a superset of the protocol): where what is kept begins."""
    return (b"stream-first-offset", str(offset).encode())


def offset_tag(offset: Offset) -> Header:
    """An ETag that If-Match of the next append takes as it is."""
    return (b"etag", b'"%s"' % str(offset).encode())


def integer(name: bytes, value: int) -> Header:
    """A header with a number."""
    return (name, b"%d" % value)


def framed(response: Response, *, head: bool = False) -> list[Header]:
    """Its headers, with its length; HEAD leaves out what it does not know: no length is better than a wrong one."""
    if response.status not in (204, 304) and not (head and response.status == 200 and not response.body):
        response.headers.append((b"content-length", b"%d" % len(response.body)))
    return response.headers


def problem(status: int, code: str, message: str, headers: tuple[Header, ...] = (), **details: object) -> Response:
    """An error with a JSON body: ``{"error": {"code", "message", …}}``."""
    body = json.dumps({"error": {"code": code, "message": message, **details}}, separators=(",", ":")).encode()
    return Response(status, [*COMMON, _JSON, _NO_STORE, *headers], body)


def bad_request(error: BadRequest) -> Response:
    """A request that breaks a rule."""
    status = _OF_REQUESTS.get(error.code, 400)
    return problem(status, error.code, f"{error.field} {error.rule}", field=error.field)


def refused_append(error: ClusterError, append: Append) -> Response:
    """``refused``, of an append."""
    return refused(error, append.producer, plain_append=append.producer is None and bool(append.body))


def refused(error: ClusterError, producer: Producer | None = None, *, plain_append: bool = False) -> Response:
    """What this node cannot do now.

    503 says: certainly not stored. After an unknown outcome, producers and what is idempotent (a close without a body
    too) get 504 and may ask again; a plain append gets 409, because official clients resend after 5xx and would store
    it twice.
    """
    if isinstance(error, Overloaded):
        return problem(429, "overloaded", str(error), (integer(b"retry-after", error.retry_after_s),))
    if isinstance(error, StorageFull):
        return problem(507, "storage_full", str(error), (integer(b"retry-after", error.retry_after_s),))
    if isinstance(error, OutcomeUnknown):
        if plain_append:
            return problem(409, "outcome_unknown", str(error))
        extra = (integer(b"producer-expected-seq", producer.seq),) if producer is not None else ()
        return problem(504, "outcome_unknown", str(error), extra)
    return problem(503, "unavailable", str(error), (integer(b"retry-after", 1),))


def created(outcome: Created, location: bytes) -> Response:
    """PROTOCOL 5.1."""
    headers = [
        *COMMON,
        (b"content-type", outcome.content_type.encode()),
        next_offset(outcome.next_offset),
        *lifetime(outcome.ttl_s, outcome.expires_at_ms),
        (b"location", location),
    ]
    if outcome.closed:
        headers.append(CLOSED)
    return Response(200 if outcome.existed else 201, headers)


def appended(outcome: Appended, *, stored: bool) -> Response:
    """PROTOCOL 5.2: 204; with producer headers 200 for new data, and 204 for a duplicate or a bare close."""
    headers = [*COMMON, next_offset(outcome.next_offset)]
    if outcome.closed:
        headers.append(CLOSED)
    if outcome.producer_epoch is None or outcome.producer_seq is None:
        return Response(204, headers)
    headers.append(integer(b"producer-epoch", outcome.producer_epoch))
    headers.append(integer(b"producer-seq", outcome.producer_seq))
    return Response(200 if stored and not outcome.duplicate else 204, headers)


def lifetime(ttl_s: int | None, expires_at_ms: int | None) -> list[Header]:
    """Stream-TTL or Stream-Expires-At."""
    headers = []
    if ttl_s is not None:
        headers.append(integer(b"stream-ttl", ttl_s))
    if expires_at_ms is not None:
        headers.append((b"stream-expires-at", format_time(expires_at_ms).encode()))
    return headers


def of(outcome: Outcome, location: bytes = b"", append: Append | None = None) -> Response:
    """The response to a command.

    Args:
        outcome: What was decided.
        location: The stream's URL, for 201.
        append: The command, when it was one: a closed stream answers its producer in a way that ends its retries.

    """
    match outcome:
        case Appended():
            response = appended(outcome, stored=append is None or bool(append.body))
            if append is not None and append.if_match is not None:
                response.headers.append(offset_tag(outcome.next_offset))
            return response
        case Created():
            return created(outcome, location)
        case Deleted():
            return Response(204, [*COMMON])
        case Renewed():
            return Response(204, [*COMMON])
        case NotFound() | SoftDeleted():
            return _absent(outcome, creating=append is None and bool(location))
        case ConfigMismatch(field):
            return problem(409, "config_mismatch", f"a stream is here with another {field}", field=field)
        case StreamClosed(at):
            return closed(at, append.producer if append is not None else None)
        case TypeMismatch(expected):
            return type_mismatch(expected, append.producer if append is not None else None)
        case SeqRegression(last):
            message = f"Stream-Seq must be above {last.decode('latin-1')!r}"
            batch = final(append.producer if append is not None else None)
            return problem(409, "sequence_regression", message, batch, field="Stream-Seq")
        case OffsetMismatch(at):
            headers = (next_offset(at), offset_tag(at))
            return problem(412, "offset_mismatch", f"the stream ends at {at}, not at If-Match", headers)
        case StreamFull(max_bytes):
            return problem(413, "stream_full", f"this stream may hold {max_bytes} bytes; nothing was stored")
        case TooManyProducers(most):
            message = f"{most} producers have written to this stream, the most it remembers: use one of their ids"
            batch = final(append.producer if append is not None else None)
            return problem(409, "too_many_producers", message, batch, field="Producer-Id")
        case ProducerFenced(epoch):
            header = (integer(b"producer-epoch", epoch),)
            return problem(403, "producer_fenced", f"epoch {epoch} of this producer was seen", header, epoch=epoch)
        case ProducerBadStart():
            return problem(400, "bad_request", "a new epoch begins with Producer-Seq 0", field="Producer-Seq")
        case ProducerGap(expected, received):
            seqs = (integer(b"producer-expected-seq", expected), integer(b"producer-received-seq", received))
            message = f"batch {expected} comes before batch {received}"
            return problem(409, "sequence_gap", message, seqs, expected=expected, received=received)
        case ForkSourceMissing():
            return problem(404, "source_not_found", "no stream at Stream-Forked-From", field="Stream-Forked-From")
        case ForkSourceDeleted():
            return problem(409, "source_deleted", "the source stream was deleted", field="Stream-Forked-From")
        case ForkRefused(field, rule):
            return problem(400, "bad_request", f"{field} {rule}", field=field)


def of_read(rejected: ReadRejected) -> Response:
    """The response to a read that has no page (PROTOCOL 5.6, 8)."""
    match rejected:
        case NotFound() | SoftDeleted():
            return _absent(rejected, creating=False)
        case BadOffset():
            return problem(400, "bad_request", "offset is not one that this stream gave out", field="offset")
        case OffsetGone(first):
            message = "offset belongs to a stream that was here before, or to data no longer kept: read from -1"
            return problem(410, "offset_gone", message, (first_offset(first),), field="offset")


def _absent(outcome: NotFound | SoftDeleted, *, creating: bool) -> Response:
    if isinstance(outcome, NotFound):
        return problem(404, "not_found", "no stream at this path: create it with PUT")
    if creating:
        return problem(409, "deleted", "a stream was deleted here and its forks still need its data")
    return problem(410, "deleted", "this stream was deleted; its forks still need its data")


def closed(at: Offset, producer: Producer | None) -> Response:
    """An append to a closed stream, which ends at ``at``."""
    headers = (CLOSED, next_offset(at), *final(producer))
    return problem(409, "stream_closed", "this stream is closed", headers)


def type_mismatch(expected: str, producer: Producer | None) -> Response:
    """An append of another content type than the stream's, ``expected``."""
    message = f"the stream holds {expected}"
    return problem(409, "content_type_mismatch", message, final(producer), field="Content-Type")


def final(producer: Producer | None) -> tuple[Header, ...]:
    """What a 409 that is no gap tells a producer: it is about this very batch, and sending it again is of no use.

    Without these the official client reads "expected 0" and resends in a tight loop, for ever.
    """
    if producer is None:
        return ()
    return integer(b"producer-expected-seq", producer.seq), integer(b"producer-received-seq", producer.seq)
