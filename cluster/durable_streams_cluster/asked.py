"""What is asked of streams has to keep these rules, over HTTP and gRPC alike (PROTOCOL 4.2, 5, 8, 9). Pure.

Each function takes a value as it was sent and returns what the commands carry; ``field`` is what whoever sent it calls
it, for the error. A value that breaks a rule raises ``BadRequest``; nothing was stored then.
"""

import re
from functools import lru_cache

from durable_streams_cluster.limits import MAX_SAFE_INTEGER, MAX_TTL_S, Limits
from durable_streams_cluster.streams import json_mode, offsets
from durable_streams_cluster.streams.commands import Append
from durable_streams_cluster.streams.meta import is_json
from durable_streams_cluster.streams.offsets import Offset

INVALID_JSON = "invalid_json"
"""Code of a body that cannot be a record: it is said only of an open JSON stream."""
TOO_LARGE = "too_large"

END_OF_TIME_MS = 253_402_300_800_000
"""The year 10000, in Unix milliseconds: a stream's end lies before."""

_CONTENT_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(;[\x20-\x7e\t]*)?")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


class BadRequest(Exception):
    """A request that breaks a rule; nothing was stored.

    ``field`` names the header, parameter or part that is wrong, ``rule`` says what it must be, ``code`` what it is to
    programs.
    """

    def __init__(self, field: str, rule: str, code: str = "bad_request") -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule
        self.code = code


# --------------------------------------------------------------------------------------------------------------- paths


def has_control(text: str) -> bool:
    """Whether a text holds what no path does."""
    return _CONTROL.search(text) is not None


def stream_path(path: str, field: str, max_bytes: int) -> str:
    """The path of a stream: what could name two things, or climb, is refused.

    Refused: empty segments, ``.`` and ``..``, control characters, what is not UTF-8, too long. ``__ds`` as the first
    segment is reserved for control APIs (PROTOCOL 6).

    Raises:
        BadRequest: it breaks a rule.

    """
    if not path:
        raise BadRequest(field, "is empty: a stream is at /v1/stream/<path>")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise BadRequest(field, "is not UTF-8") from None
    if size > max_bytes:
        raise path_too_long(field, max_bytes)
    if has_control(path):
        raise BadRequest(field, "has a control character")
    segments = path.split("/")
    if "" in segments:
        raise BadRequest(field, "has an empty segment: no '//' and no '/' at the end")
    if "." in segments or ".." in segments:
        raise BadRequest(field, "has a '.' or '..' segment")
    if segments[0] == "__ds":
        raise BadRequest(field, "begins with __ds, which is reserved for control APIs", "not_found")
    return path


def path_too_long(field: str, max_bytes: int) -> BadRequest:
    """It has more than ``max_bytes``."""
    return BadRequest(field, f"is longer than {max_bytes} bytes", "path_too_long")


# -------------------------------------------------------------------------------------------------------------- values


def content_type(text: str, field: str, limits: Limits) -> str:
    """A content type as it was sent: ``type/subtype`` with optional parameters."""
    if len(text) > limits.max_content_type_bytes:
        raise BadRequest(field, f"is longer than {limits.max_content_type_bytes} bytes")
    if not _is_content_type(text):
        raise BadRequest(field, "must be type/subtype, with optional parameters")
    return text


@lru_cache(maxsize=256)  # Most requests have one of few.
def _is_content_type(text: str) -> bool:
    return _CONTENT_TYPE.fullmatch(text) is not None


def integer(value: int, field: str, maximum: int = MAX_SAFE_INTEGER) -> int:
    """A number from 0 to ``maximum``."""
    if not 0 <= value <= maximum:
        raise BadRequest(field, f"must be an integer from 0 to {maximum}, without sign or leading zeros")
    return value


def ttl(seconds: int, field: str) -> int:
    """A sliding window, in seconds."""
    return integer(seconds, field, MAX_TTL_S)


def expires_at(unix_ms: int, field: str) -> int:
    """The end of a stream, in Unix milliseconds."""
    if not 0 <= unix_ms < END_OF_TIME_MS:
        raise BadRequest(field, "lies, in UTC, before 1970 or after 9999")
    return unix_ms


def one_end(ttl_s: int | None, expires_at_ms: int | None, field: str, other: str) -> None:
    """A stream has a window, an end, or neither."""
    if ttl_s is not None and expires_at_ms is not None:
        raise BadRequest(field, f"and {other} exclude each other")


def stream_seq(value: bytes, field: str, limits: Limits) -> bytes:
    """Stream-Seq: opaque bytes, compared byte by byte (PROTOCOL 5.2)."""
    if not 0 < len(value) <= limits.max_stream_seq_bytes:
        raise BadRequest(field, f"must have 1 to {limits.max_stream_seq_bytes} bytes")
    return value


def producer_id(value: bytes, field: str, limits: Limits) -> str:
    """The name of a producer (PROTOCOL 5.2.1)."""
    if not 0 < len(value) <= limits.max_producer_id_bytes:
        raise BadRequest(field, f"must have 1 to {limits.max_producer_id_bytes} bytes")
    return value.decode("latin-1")


def offset(text: str, field: str, rule: str) -> Offset:
    """An offset that this system gave out; ``rule`` is what is said of another text."""
    try:
        return offsets.parse(text)
    except ValueError:
        raise BadRequest(field, rule) from None


# ------------------------------------------------------------------------------------------------------------- appends


def record(body: bytes, type_: str | None) -> bytes:
    """The stored form: as sent, or in JSON mode the messages joined by commas (PROTOCOL 9.1)."""
    if type_ is None or (type_ != "application/json" and not is_json(type_)):
        return body
    try:
        return json_mode.record(body)
    except json_mode.InvalidJson as error:
        raise BadRequest("body", f"is not JSON: {error}", INVALID_JSON) from None


def appended(body: bytes, type_: str) -> bytes:
    """The stored form of what is appended, which is not nothing."""
    found = record(body, type_)
    if not found:
        raise BadRequest("body", "is an empty array: there is nothing to append", INVALID_JSON)
    return found


def fits(size: int, limits: Limits) -> None:
    """Whether a body of so many bytes is taken."""
    if size > limits.max_append_bytes:
        raise BadRequest("body", f"is larger than {limits.max_append_bytes} bytes", TOO_LARGE)


def one_condition(append: Append, field: str, other: str) -> Append:
    """An append has a producer or a condition on the tail; the two answer a retry differently.

    To a producer, a duplicate is a success; to the condition, a tail that moved is not.
    """
    if append.if_match is not None and append.producer is not None:
        raise BadRequest(field, f"and {other} exclude each other")
    return append
