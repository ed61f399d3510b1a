"""Requests and answers of the protocol, as headers and values. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from durable_streams_client import errors, types
from durable_streams_client.errors import DurableStreamError

PREFIX = "/v1/stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; ``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    again: bool = False
    """A request before it may have done the same."""

    def header(self, name: str) -> str:
        """Raises DurableStreamError: it is not there, so no server of streams has answered."""
        value = self.headers.get(name)
        if value is None:
            raise DurableStreamError(
                f"the answer ({self.status}) has no {name}: is this the URL of a server of streams?"
            )
        return value


Headers = list[tuple[bytes, bytes]]


def append_headers(request: types.AppendRequest) -> Headers:
    """Of a POST (PROTOCOL 5.2). Raises BadRequestError: a value has characters that no header has."""
    headers = [_header("content-type", request.content_type)] if request.content_type is not None else []
    if request.close:
        headers.append((b"stream-closed", b"true"))
    if request.stream_seq is not None:
        headers.append(_header("stream-seq", request.stream_seq))
    if request.if_match is not None:
        headers.append(_header("if-match", f'"{request.if_match}"'))
    if request.producer is not None:
        batch = request.producer
        headers.append(_header("producer-id", batch.id))
        headers += [_header("producer-epoch", str(batch.epoch)), _header("producer-seq", str(batch.seq))]
    return headers


def create_headers(request: types.CreateRequest, base: str) -> Headers:
    """Of a PUT (PROTOCOL 5.1, 4.2); ``base``: the URL that streams are below. Raises BadRequestError."""
    headers = [_header("content-type", request.content_type)] if request.content_type is not None else []
    if request.ttl_s is not None:
        headers.append(_header("stream-ttl", str(request.ttl_s)))
    if request.expires_at_ms is not None:
        headers.append(_header("stream-expires-at", _rfc3339(request.expires_at_ms)))
    if request.closed:
        headers.append((b"stream-closed", b"true"))
    if request.fork is not None:
        headers.append(_header("stream-forked-from", f"{urlsplit(base).path}/{quote(request.fork.source)}"))
        if request.fork.offset is not None:
            headers.append(_header("stream-fork-offset", request.fork.offset))
        if request.fork.sub_offset:
            headers.append(_header("stream-fork-sub-offset", str(request.fork.sub_offset)))
    return headers


def _header(name: str, value: str | bytes) -> tuple[bytes, bytes]:
    try:
        sent = value if isinstance(value, bytes) else value.encode("latin-1")
    except UnicodeEncodeError:
        raise errors.BadRequestError(f"{name} has characters that no header has", name) from None
    if any(byte < 32 and byte != 9 for byte in sent) or 127 in sent:
        raise errors.BadRequestError(f"{name} has a control character", name)
    return name.encode(), sent


def _rfc3339(unix_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise errors.BadRequestError("expires_at_ms lies, in UTC, before 1970 or after 9999", "expires_at_ms") from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03d}Z"


def appended(answer: Answer) -> types.AppendResult:
    """Of a POST: a producer's duplicate is answered 204, and what is new 200 (PROTOCOL 5.2.1)."""
    epoch, seq = (_integer(answer.headers.get(name)) for name in ("producer-epoch", "producer-seq"))
    duplicate = answer.status == 204 and seq is not None
    at = answer.header("stream-next-offset")
    return types.AppendResult(at, _is_closed(answer), duplicate, answer.again, epoch, seq)


def created(answer: Answer) -> types.CreateResult:
    """Of a PUT."""
    return types.CreateResult(
        answer.status == 200 and not answer.again,
        answer.header("content-type"),
        answer.header("stream-next-offset"),
        _is_closed(answer),
        _integer(answer.headers.get("stream-ttl")),
        _time(answer.headers.get("stream-expires-at")),
    )


def head(answer: Answer) -> types.HeadResult:
    """Of a HEAD."""
    return types.HeadResult(
        answer.header("content-type"),
        answer.header("stream-next-offset"),
        answer.headers.get("stream-first-offset", ""),
        _is_closed(answer),
        _integer(answer.headers.get("stream-ttl")),
        _time(answer.headers.get("stream-expires-at")),
    )


def listed(answer: Answer) -> list[types.ListedStream]:
    """Of a GET of all streams."""
    return [
        types.ListedStream(
            row["path"],
            row["contentType"],
            row["firstOffset"],
            row["nextOffset"],
            row["closed"],
            row.get("ttlSeconds"),
            _time(row.get("expiresAt")),
        )
        for row in _rows(answer)
    ]


def _rows(answer: Answer) -> list[Any]:
    try:
        rows: list[Any] = json.loads(answer.body)["streams"]
    except (ValueError, LookupError, TypeError):
        raise DurableStreamError("the answer is no list of streams: is this the URL of a node?") from None
    return rows


def page(offset: types.Offset, answer: Answer) -> types.Page:
    """Of a GET, with a long-poll's 204 (PROTOCOL 5.6, 5.7)."""
    end = answer.header("stream-next-offset")
    up_to_date = "stream-up-to-date" in answer.headers
    content_type = answer.headers.get("content-type", "")
    body = answer.body.strip()[1:-1] if types.is_json(content_type) else answer.body
    bodies = (body,) if body else ()
    begins = offset if bodies else end
    return types.Page(bodies, begins, end, up_to_date, _is_closed(answer), content_type, 0 if up_to_date else None)


def _is_closed(answer: Answer) -> bool:
    return answer.headers.get("stream-closed") == "true"


def _integer(value: str | None) -> int | None:
    return int(value) if value is not None else None


def _time(value: str | None) -> int | None:
    """RFC 3339 as Unix milliseconds."""
    if value is None:
        return None
    return round(datetime.fromisoformat(value).timestamp() * 1000)


# -------------------------------------------------------------------------------------------------------------- errors


@dataclass(frozen=True, slots=True)
class _Said:
    """An error's body, and what comes with it in headers."""

    message: str
    field: str
    headers: Mapping[str, str]

    def text(self, name: str) -> str:
        return self.headers.get(name, "")

    def number(self, name: str) -> int:
        value = self.headers.get(name, "")
        return int(value) if value.isdecimal() else 0

    @property
    def wait_s(self) -> float:
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdecimal() else 1.0


_ERRORS: Mapping[str, Callable[[_Said], DurableStreamError]] = {
    "bad_request": lambda e: errors.BadRequestError(e.message, e.field),
    "path_too_long": lambda e: errors.BadRequestError(e.message, e.field, "path_too_long"),
    "invalid_json": lambda e: errors.InvalidJsonError(e.message, e.field),
    "too_large": lambda e: errors.TooLargeError(e.message, e.field),
    "not_found": lambda e: errors.StreamNotFoundError(e.message),
    "deleted": lambda e: errors.StreamDeletedError(e.message),
    "config_mismatch": lambda e: errors.StreamExistsError(e.message, e.field),
    "stream_closed": lambda e: errors.StreamClosedError(e.message, e.text("stream-next-offset")),
    "content_type_mismatch": lambda e: errors.ContentTypeMismatchError(
        e.message, e.message.removeprefix("the stream holds ")
    ),
    "sequence_regression": lambda e: errors.SeqConflictError(e.message),
    "offset_mismatch": lambda e: errors.OffsetMismatchError(e.message, e.text("stream-next-offset")),
    "stream_full": lambda e: errors.StreamFullError(e.message),
    "too_many_producers": lambda e: errors.TooManyProducersError(e.message),
    "producer_fenced": lambda e: errors.ProducerFencedError(e.message, e.number("producer-epoch")),
    "sequence_gap": lambda e: errors.SequenceGapError(
        e.message, e.number("producer-expected-seq"), e.number("producer-received-seq")
    ),
    "source_not_found": lambda e: errors.ForkSourceError(e.message, "source_not_found"),
    "source_deleted": lambda e: errors.ForkSourceError(e.message, "source_deleted"),
    "offset_gone": lambda e: errors.RetentionGoneError(e.message, e.text("stream-first-offset")),
    "overloaded": lambda e: errors.OverloadedError(e.message, e.wait_s),
    "storage_full": lambda e: errors.StorageFullError(e.message, e.wait_s),
    "unavailable": lambda e: errors.UnavailableError(e.message),
    "outcome_unknown": lambda e: errors.OutcomeUnknownError(e.message),
}
_STATUSES: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    410: "offset_gone",
    413: "too_large",
    414: "path_too_long",
    429: "overloaded",
    507: "storage_full",
}
"""Of an answer that has no code: a proxy's, another server's, or to a HEAD."""


def error(answer: Answer, *, changes: bool) -> DurableStreamError:
    """The exception for an answer that is no success; ``changes``: the request was to change something."""
    code, message, field = "", "", ""
    try:
        body = json.loads(answer.body)["error"]
        code, message, field = str(body["code"]), str(body["message"]), str(body.get("field", ""))
    except (ValueError, LookupError, TypeError, RecursionError):
        message = f"the server answered {answer.status}"
    if answer.status == 401:
        return errors.AuthenticationError(message)
    make = _ERRORS.get(code)
    if make is None and answer.status == 403:
        return errors.PermissionDeniedError(message)
    make = make or _ERRORS.get(_STATUSES.get(answer.status, ""))
    if make is None and answer.status >= 500:
        # A proxy's 502, 503 or 504 may come after the server has done it.
        return errors.OutcomeUnknownError(message) if changes else errors.UnavailableError(message)
    if make is None:
        return DurableStreamError(f"{message} ({answer.status})")
    said = _Said(message, field, answer.headers)
    if code == "bad_request" and "Producer-Seq 0" in message:
        return errors.SequenceGapError(message, 0, said.number("producer-received-seq"))
    return make(said)
