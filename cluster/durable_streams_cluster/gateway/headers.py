"""Header names, and the strict parsers of their values (PROTOCOL 4.2, 5.1, 5.2)."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from durable_streams_cluster import asked
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.limits import MAX_SAFE_INTEGER, MAX_TTL_S, Limits
from durable_streams_cluster.streams import offsets
from durable_streams_cluster.streams.commands import Producer
from durable_streams_cluster.streams.offsets import Offset

Headers = Mapping[bytes, bytes]
RawHeaders = Sequence[tuple[bytes, bytes]]

ONCE = frozenset(
    {
        b"content-type",
        b"stream-ttl",
        b"stream-expires-at",
        b"stream-seq",
        b"if-match",
        b"stream-closed",
        b"stream-forked-from",
        b"stream-fork-offset",
        b"stream-fork-sub-offset",
        b"producer-id",
        b"producer-epoch",
        b"producer-seq",
    }
)
"""Sent twice, these would have two meanings."""

EXPOSED = (
    b"Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-SSE-Data-Encoding, Stream-TTL, "
    b"Stream-Expires-At, Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq, ETag, Location, "
    b"Stream-First-Offset, Content-Type, Content-Encoding, Vary, Upstream-Content-Type, Upstream-Status, Retry-After"
)
ALLOWED = (
    b"Content-Type, Authorization, If-None-Match, If-Match, Stream-Seq, Stream-TTL, Stream-Expires-At, Stream-Closed, "
    b"Producer-Id, Producer-Epoch, Producer-Seq, Stream-Forked-From, Stream-Fork-Offset, Stream-Fork-Sub-Offset, "
    b"Upstream-URL, Upstream-Method, Upstream-Authorization"
)

COMMON: tuple[tuple[bytes, bytes], ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""On every response: CORS, and PROTOCOL 12.7."""

_INTEGER = re.compile(rb"0|[1-9][0-9]{0,15}")
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


def index(raw: RawHeaders) -> Headers:
    """Headers by lower-case name.

    Raises:
        BadRequest: a header that may come once came twice.

    """
    headers = dict(raw)
    if len(headers) != len(raw):
        seen: set[bytes] = set()
        for name, _ in raw:
            if name in seen and name in ONCE:
                raise BadRequest(name.decode("latin-1"), "may be sent only once")
            seen.add(name)
    return headers


def is_closed(headers: Headers) -> bool:
    """Whether Stream-Closed is present: exactly ``true`` in any case; other values count as absent (PROTOCOL 4.1)."""
    value = headers.get(b"stream-closed")
    return value is not None and value.strip().lower() == b"true"


def content_type(headers: Headers, limits: Limits) -> str | None:
    """The Content-Type as sent, or None.

    Raises:
        BadRequest: not ``type/subtype`` with optional parameters, or too long.

    """
    value = headers.get(b"content-type", b"").strip()
    return asked.content_type(value.decode("latin-1"), "Content-Type", limits) if value else None


def integer(headers: Headers, name: bytes, field: str, maximum: int = MAX_SAFE_INTEGER) -> int | None:
    """A non-negative decimal integer without sign or leading zeros, or None.

    Raises:
        BadRequest: anything else, or above ``maximum``.

    """
    value = headers.get(name)
    if value is None:
        return None
    if _INTEGER.fullmatch(value) is None or int(value) > maximum:
        raise BadRequest(field, f"must be an integer from 0 to {maximum}, without sign or leading zeros")
    return int(value)


def ttl(headers: Headers) -> int | None:
    """Stream-TTL in seconds, or None."""
    return integer(headers, b"stream-ttl", "Stream-TTL", MAX_TTL_S)


def expires_at(headers: Headers) -> int | None:
    """Stream-Expires-At as Unix milliseconds, or None.

    Raises:
        BadRequest: not an RFC 3339 timestamp.

    """
    value = headers.get(b"stream-expires-at")
    if value is None:
        return None
    match = _RFC3339.fullmatch(value.decode("latin-1"))
    if match is None:
        raise BadRequest("Stream-Expires-At", "must be an RFC 3339 timestamp such as 2030-01-01T00:00:00Z")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        raise BadRequest("Stream-Expires-At", "is not a date and time that exists") from None
    milliseconds = int(((fraction or ".0")[1:] + "00")[:3])
    return asked.expires_at(seconds * 1000 + milliseconds, "Stream-Expires-At")


def format_time(unix_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds when there are any."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    milliseconds = f".{unix_ms % 1000:03d}" if unix_ms % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{milliseconds}Z"


def stream_seq(headers: Headers, limits: Limits) -> bytes | None:
    """Stream-Seq, opaque bytes compared byte by byte (PROTOCOL 5.2), or None."""
    value = headers.get(b"stream-seq")
    return asked.stream_seq(value, "Stream-Seq", limits) if value is not None else None


def if_match(headers: Headers) -> Offset | None:
    """The offset that an append expects the tail to be at, with or without quotes; None for none, and for ``*``.

    Raises:
        BadRequest: anything but one offset.

    """
    value = headers.get(b"if-match")
    if value is None or value == b"*":
        return None  # "*" is any stream that is there (RFC 9110 13.1.1), and an append needs one anyway
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    return asked.offset(value.decode("latin-1"), "If-Match", "must be an offset, as Stream-Next-Offset gave it")


def refuse_if_match(headers: Headers, method: str) -> None:
    """Refuse the condition where nothing looks at it: who relies on it would delete what another has just written.

    ``*`` says no more than a DELETE does by itself, and a PUT with it would have to create nothing (RFC 9110 13.1.1).

    Raises:
        BadRequest: it is there.

    """
    value = headers.get(b"if-match")
    if value is not None and not (value == b"*" and method == "DELETE"):
        raise BadRequest("If-Match", f"is not supported on {method}, only on POST; nothing was changed")


def producer(headers: Headers, limits: Limits) -> Producer | None:
    """The three producer headers, all or none (PROTOCOL 5.2.1).

    Raises:
        BadRequest: some are missing, the id is empty, or a number is not one.

    """
    identity = headers.get(b"producer-id")
    epoch = integer(headers, b"producer-epoch", "Producer-Epoch")
    seq = integer(headers, b"producer-seq", "Producer-Seq")
    if identity is None and epoch is None and seq is None:
        return None
    if identity is None or epoch is None or seq is None:
        missing = "Producer-Id" if identity is None else "Producer-Epoch" if epoch is None else "Producer-Seq"
        raise BadRequest(
            missing, "is missing: Producer-Id, Producer-Epoch and Producer-Seq come together or not at all"
        )
    return Producer(asked.producer_id(identity, "Producer-Id", limits), epoch, seq)


def fork_offset(headers: Headers) -> Offset | None:
    """Stream-Fork-Offset, or None for the source's tail.

    Raises:
        BadRequest: not an offset.

    """
    value = headers.get(b"stream-fork-offset")
    if value is None:
        return None
    if value == b"-1":
        return offsets.START
    if value == b"now":
        return None
    return asked.offset(value.decode("latin-1"), "Stream-Fork-Offset", "must be an offset that the source gave out")
