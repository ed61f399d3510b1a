"""Requests and answers of the protocol, as headers and values. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
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
    """A request before may have done the same."""

    def of_another(self, unknown: bool) -> "Answer":
        """The same, of a request that was not the first."""
        return replace(self, again=True) if unknown else self


def append_headers(request: types.AppendRequest) -> dict[str, str]:
    """Of a POST (PROTOCOL 5.2)."""
    headers = {"content-type": request.content_type} if request.content_type is not None else {}
    if request.close:
        headers["stream-closed"] = "true"
    if request.stream_seq is not None:
        headers["stream-seq"] = request.stream_seq.decode("latin-1")
    if request.if_match is not None:
        headers["if-match"] = f'"{request.if_match}"'
    if request.producer is not None:
        batch = request.producer
        headers |= {"producer-id": batch.id, "producer-epoch": str(batch.epoch), "producer-seq": str(batch.seq)}
    return headers


def create_headers(request: types.CreateRequest, base: str) -> dict[str, str]:
    """Of a PUT (PROTOCOL 5.1, 4.2); ``base``: the URL that streams are below."""
    headers = {"content-type": request.content_type} if request.content_type is not None else {}
    if request.ttl_s is not None:
        headers["stream-ttl"] = str(request.ttl_s)
    if request.expires_at_ms is not None:
        moment = datetime.fromtimestamp(request.expires_at_ms // 1000, UTC)
        headers["stream-expires-at"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{request.expires_at_ms % 1000:03d}Z"
    if request.closed:
        headers["stream-closed"] = "true"
    if request.fork is not None:
        headers["stream-forked-from"] = f"{urlsplit(base).path}/{quote(request.fork.source)}"
        if request.fork.offset is not None:
            headers["stream-fork-offset"] = request.fork.offset
        if request.fork.sub_offset:
            headers["stream-fork-sub-offset"] = str(request.fork.sub_offset)
    return headers


def appended(answer: Answer) -> types.AppendResult:
    """Of a POST: a producer's duplicate is answered 204, and what is new 200 (PROTOCOL 5.2.1)."""
    duplicate = answer.status == 204 and "producer-seq" in answer.headers and not answer.again
    return types.AppendResult(answer.headers["stream-next-offset"], _is_closed(answer), duplicate)


def created(answer: Answer) -> types.CreateResult:
    """Of a PUT."""
    return types.CreateResult(
        answer.status == 200 and not answer.again,
        answer.headers["content-type"],
        answer.headers["stream-next-offset"],
        _is_closed(answer),
        _ttl(answer.headers.get("stream-ttl")),
        _time(answer.headers.get("stream-expires-at")),
    )


def head(answer: Answer) -> types.HeadResult:
    """Of a HEAD."""
    return types.HeadResult(
        answer.headers["content-type"],
        answer.headers["stream-next-offset"],
        answer.headers.get("stream-first-offset", ""),
        _is_closed(answer),
        _ttl(answer.headers.get("stream-ttl")),
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
        for row in json.loads(answer.body)["streams"]
    ]


def page(offset: types.Offset, answer: Answer) -> types.Page:
    """Of a GET, with a long-poll's 204 (PROTOCOL 5.6, 5.7)."""
    end = answer.headers["stream-next-offset"]
    up_to_date = "stream-up-to-date" in answer.headers
    content_type = answer.headers.get("content-type", "")
    body = answer.body.strip()[1:-1] if types.is_json(content_type) else answer.body
    bodies = (body,) if body else ()
    begins = offset if bodies else end
    return types.Page(bodies, begins, end, up_to_date, _is_closed(answer), content_type, 0 if up_to_date else None)


def _is_closed(answer: Answer) -> bool:
    return answer.headers.get("stream-closed") == "true"


def _ttl(value: str | None) -> int | None:
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
        return int(self.headers.get(name, "0"))

    @property
    def wait_s(self) -> float:
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdecimal() else 1.0


_ERRORS: Mapping[str, Callable[[_Said], DurableStreamError]] = {
    "bad_request": lambda e: errors.BadRequestError(e.message, e.field),
    "path_too_long": lambda e: errors.BadRequestError(e.message, e.field),
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
    502: "outcome_unknown",
    503: "unavailable",
    504: "outcome_unknown",
    507: "storage_full",
}
"""Of an answer that has no code: a proxy's, another server's, or to a HEAD."""


def error(answer: Answer) -> DurableStreamError:
    """The exception for an answer that is no success."""
    code, message, field = "", "", ""
    try:
        body = json.loads(answer.body)["error"]
        code, message, field = str(body["code"]), str(body["message"]), str(body.get("field", ""))
    except (ValueError, LookupError, TypeError):
        message = f"the server answered {answer.status}"
    if answer.status == 401:
        return errors.AuthenticationError(message)
    make = _ERRORS.get(code)
    if make is None and answer.status == 403:
        return errors.PermissionDeniedError(message)
    make = make or _ERRORS.get(_STATUSES.get(answer.status, ""))
    if make is None:
        return DurableStreamError(f"{message} ({answer.status})")
    said = _Said(message, field, answer.headers)
    if code == "bad_request" and "Producer-Seq 0" in message:
        return errors.SequenceGapError(message, 0, said.number("producer-received-seq"))
    return make(said)
