"""Requests and answers of the protocol, as headers and values. Pure."""

import json
import re
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

    @property
    def closed(self) -> bool:
        """It says that the stream is closed, and ends here (PROTOCOL 4.1)."""
        return self.headers.get("stream-closed", "").lower() == "true"


Headers = list[tuple[bytes, bytes]]
RequestHeaders = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""Headers that a user adds to each request; a function says them anew for each."""


def base_of(url: str) -> str:
    """The URL that streams are below: a server's own URL, without a path, means ``/v1/stream`` there."""
    base = url.rstrip("/")
    return base if urlsplit(base).path else base + PREFIX


def headers_for_all(token: str | None, more: Mapping[str, str]) -> Headers:
    """What goes with each request. Raises ValueError: none of ``more`` takes the place of what the protocol says."""
    named = {"authorization": f"Bearer {token}"} if token is not None else {}
    named |= {name.lower(): value for name, value in more.items()}
    for name, value in named.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or value != value.strip():
            raise ValueError(f"{name!r} is no header, or has a value that none has")
        if name in _OWN or name.startswith(("stream-", "producer-")):
            raise ValueError(f"{name} is a header that the client sets itself")
    return [_header(*each) for each in named.items()]


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OWN = ("content-type", "content-length", "transfer-encoding", "connection", "if-match")


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
    # The reference server does not say where a duplicate ends.
    at = answer.headers.get("stream-next-offset", "") if duplicate else answer.header("stream-next-offset")
    return types.AppendResult(at, answer.closed, duplicate, answer.again, epoch, seq)


def created(answer: Answer) -> types.CreateResult:
    """Of a PUT."""
    return types.CreateResult(
        answer.status == 200 and not answer.again,
        answer.header("content-type"),
        answer.header("stream-next-offset"),
        answer.closed,
        _integer(answer.headers.get("stream-ttl")),
        _time(answer.headers.get("stream-expires-at")),
    )


def head(answer: Answer) -> types.HeadResult:
    """Of a HEAD."""
    return types.HeadResult(
        answer.header("content-type"),
        answer.header("stream-next-offset"),
        answer.headers.get("stream-first-offset", ""),
        answer.closed,
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
    body = _messages(answer.body) if types.is_json(content_type) else answer.body
    bodies = (body,) if body else ()
    begins = offset if bodies else end
    return types.Page(bodies, begins, end, up_to_date, answer.closed, content_type, 0 if up_to_date else None)


def next_params(page: types.Page, answer: Answer) -> dict[str, str]:
    """What to ask for behind a page (PROTOCOL 5.7); ``answer`` is where it was."""
    params = {"offset": page.next_offset}
    if page.up_to_date:
        params["live"] = "long-poll"
    if cursor := answer.headers.get("stream-cursor"):
        params["cursor"] = cursor  # Else a cache may give the same empty answer again and again (PROTOCOL 10.1).
    return params


def _messages(body: bytes) -> bytes:
    """What is between the brackets of an array."""
    array = body.strip()
    if not array:
        return b""
    if not (array.startswith(b"[") and array.endswith(b"]")):
        raise DurableStreamError("the answer is no JSON array of messages: was it cut off on its way?")
    return array[1:-1].strip()


def _integer(value: str | None) -> int | None:
    return int(value) if value is not None else None


def _time(value: str | None) -> int | None:
    """RFC 3339 as Unix milliseconds."""
    if value is None:
        return None
    return round(datetime.fromisoformat(value).timestamp() * 1000)
