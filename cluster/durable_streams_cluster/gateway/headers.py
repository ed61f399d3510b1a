"""Header names, and the strict parsers of their values (PROTOCOL 4.2, 5.1, 5.2)."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

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

_YEAR_10000 = 253_402_300_800
_INTEGER = re.compile(rb"0|[1-9][0-9]{0,15}")
_CONTENT_TYPE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(;[\x20-\x7e\t]*)?")
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


class BadRequest(Exception):
    """A request that breaks a rule; nothing was stored.

    ``field`` names the header, parameter or part that is wrong, ``rule`` says what it must be.
    """

    def __init__(self, field: str, rule: str, status: int = 400, code: str = "bad_request") -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule
        self.status = status
        self.code = code


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
    if not value:
        return None
    if len(value) > limits.max_content_type_bytes:
        raise BadRequest("Content-Type", f"is longer than {limits.max_content_type_bytes} bytes")
    text = _content_type(value)
    if text is None:
        raise BadRequest("Content-Type", "must be type/subtype, with optional parameters")
    return text


@lru_cache(maxsize=256)  # Most requests have one of few.
def _content_type(value: bytes) -> str | None:
    return value.decode("ascii") if _CONTENT_TYPE.fullmatch(value) is not None else None


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
    if not 0 <= seconds < _YEAR_10000:
        raise BadRequest("Stream-Expires-At", "lies, in UTC, before 1970 or after 9999")
    return seconds * 1000 + int(((fraction or ".0")[1:] + "00")[:3])


def format_time(unix_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds when there are any."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    milliseconds = f".{unix_ms % 1000:03d}" if unix_ms % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{milliseconds}Z"


def stream_seq(headers: Headers, limits: Limits) -> bytes | None:
    """Stream-Seq, opaque bytes compared byte by byte (PROTOCOL 5.2), or None."""
    value = headers.get(b"stream-seq")
    if value is not None and not 0 < len(value) <= limits.max_stream_seq_bytes:
        raise BadRequest("Stream-Seq", f"must have 1 to {limits.max_stream_seq_bytes} bytes")
    return value


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
    try:
        return offsets.parse(value.decode("latin-1"))
    except ValueError:
        raise BadRequest("If-Match", "must be an offset, as Stream-Next-Offset gave it") from None


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
    if not 0 < len(identity) <= limits.max_producer_id_bytes:
        raise BadRequest("Producer-Id", f"must have 1 to {limits.max_producer_id_bytes} bytes")
    return Producer(identity.decode("latin-1"), epoch, seq)


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
    try:
        return offsets.parse(value.decode("latin-1"))
    except ValueError:
        raise BadRequest("Stream-Fork-Offset", "must be an offset that the source gave out") from None
