"""The exception for an answer of HTTP that is no success. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from durable_streams_client import errors
from durable_streams_client._http import Answer, Headers
from durable_streams_client.errors import DurableStreamError

CHANGES = ("POST", "PUT", "DELETE")
_HOLDS = "the stream holds "
_MOST_TEXT = 200
"""Characters of an answer that is no error of ours, in a message."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it says what its answer means."""

    method: str
    path: str
    """Of the URL, with its query, as it was sent."""
    headers: Headers

    @property
    def changes(self) -> bool:
        """It was to change something."""
        return self.method in CHANGES

    def has(self, name: bytes) -> bool:
        """Whether a header was sent."""
        return any(name == each for each, _ in self.headers)


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
        e.message, e.message.removeprefix(_HOLDS) if e.message.startswith(_HOLDS) else ""
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
    413: "too_large",
    414: "path_too_long",
    429: "overloaded",
    507: "storage_full",
}
"""Of an answer that has no code, or a newer server's, whatever was asked."""


def error_of(answer: Answer, asked: Asked) -> DurableStreamError:
    """The exception for an answer that is no success."""
    code, message, field = "", "", ""
    try:
        body = json.loads(answer.body)["error"]
        code, message, field = str(body["code"]), str(body["message"]), str(body.get("field", ""))
    except (ValueError, LookupError, TypeError, RecursionError):
        message = f"the server answered {answer.status} to {asked.method} {asked.path}{_text(answer)}"
    if answer.status == 401:
        return errors.AuthenticationError(message)
    make = _ERRORS.get(code or _code(answer, asked)) or _ERRORS.get(_STATUSES.get(answer.status, ""))
    if make is None and answer.status == 403:
        return errors.PermissionDeniedError(message)
    if make is None and answer.status >= 500 and answer.status != 501:
        # A proxy's 502, 503 or 504 may come after the server has done it.
        return errors.OutcomeUnknownError(message) if asked.changes else errors.UnavailableError(message)
    if make is None:
        return DurableStreamError(message)
    said = _Said(message, field, answer.headers)
    if code == "bad_request" and "Producer-Seq 0" in message:
        return errors.SequenceGapError(message, 0, said.number("producer-received-seq"))
    return make(said)


def _code(answer: Answer, asked: Asked) -> str:
    """What an answer without a code says: a proxy's, another server's, or one to a HEAD.

    PROTOCOL 4.2, 5.1 and 5.2 tell conflicts apart by headers, and where they do not, by what was asked. Empty: the
    status says it all.
    """
    match answer.status, asked.method:
        case 403, _ if "producer-epoch" in answer.headers:
            return "producer_fenced"
        case 404, "PUT" if asked.has(b"stream-forked-from"):
            return "source_not_found"
        case 409, "PUT":
            return "config_mismatch"
        case 409, "POST":
            if answer.closed:
                return "stream_closed"
            if "producer-expected-seq" in answer.headers:
                return "sequence_gap"
            return "sequence_regression" if asked.has(b"stream-seq") else "content_type_mismatch"
        case 410, method:
            return "offset_gone" if method == "GET" else "deleted"
        case _:
            return ""


def _text(answer: Answer) -> str:
    """The first line of a text, if a terminal shows it as it is."""
    if not answer.headers.get("content-type", "").startswith("text/plain"):
        return ""
    line = answer.body[: 4 * _MOST_TEXT].decode(errors="replace").partition("\n")[0].strip()[:_MOST_TEXT]
    return f": {line}" if line and line.isprintable() else ""
