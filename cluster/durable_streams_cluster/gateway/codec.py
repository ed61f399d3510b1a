"""A request to what is asked of ``api.Streams``: pure, strict, the whole protocol in one read (PROTOCOL 5, 8).

A request that breaks a rule raises ``BadRequest``; nothing was stored then.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from urllib.parse import parse_qsl

import msgspec

from durable_streams_cluster import asked
from durable_streams_cluster.api import From
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.gateway import paths
from durable_streams_cluster.gateway.headers import Headers
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.streams import offsets
from durable_streams_cluster.streams.commands import Append, Create, Delete, Fork
from durable_streams_cluster.streams.offsets import Offset

LIST_DEFAULT = 100
LIST_MOST = 1000
"""Streams that one answer names."""


class Live(Enum):
    """The ``live`` parameter."""

    NO = "catch-up"
    LONG_POLL = "long-poll"
    SSE = "sse"


_LIVE: Mapping[str | None, Live] = {None: Live.NO, "long-poll": Live.LONG_POLL, "sse": Live.SSE}


class ReadRequest(msgspec.Struct, frozen=True):
    """A GET."""

    at: Offset | From
    live: Live
    cursor: str | None
    if_none_match: bytes | None


class ListRequest(msgspec.Struct, frozen=True):
    """A GET of all streams."""

    prefix: str
    after: str
    limit: int


def decode_fork(headers: Headers, roots: Iterable[bytes], limits: Limits) -> Fork | None:
    """The fork headers of a PUT (PROTOCOL 4.2); ``roots``: where this application is mounted, see ``source_path``."""
    source = headers.get(b"stream-forked-from")
    sub_offset = h.integer(headers, b"stream-fork-sub-offset", "Stream-Fork-Sub-Offset")
    if source is None:
        for name in ("Stream-Fork-Offset", "Stream-Fork-Sub-Offset"):
            if name.lower().encode() in headers:
                raise BadRequest(name, "needs Stream-Forked-From")
        return None
    return Fork(paths.source_path(source, roots, limits.max_path_bytes), h.fork_offset(headers), sub_offset or 0)


def decode_create(
    path: str, headers: Headers, body: bytes, fork: Fork | None, source_type: str | None, limits: Limits
) -> Create:
    """PUT (PROTOCOL 5.1, 4.2).

    Args:
        path: Of the stream, decoded.
        headers: By lower-case name.
        body: First content, possibly empty.
        fork: From ``decode_fork``.
        source_type: The content type of a fork's source, as it is now; needed when there is a body without a type.
        limits: The bounds.

    """
    h.refuse_if_match(headers, "PUT")
    ttl_s, expires_at_ms = h.ttl(headers), h.expires_at(headers)
    asked.one_end(ttl_s, expires_at_ms, "Stream-TTL", "Stream-Expires-At")
    content_type = h.content_type(headers, limits)
    if body and content_type is None and fork is not None:
        # The command then asks for this type: should the source be replaced meanwhile, the body never lands in a
        # stream of another one.
        content_type = source_type
    return Create(
        path=path,
        content_type=content_type,
        ttl_s=ttl_s,
        expires_at_ms=expires_at_ms,
        closed=h.is_closed(headers),
        body=asked.record(body, content_type) if body else b"",
        fork=fork,
    )


def decode_delete(path: str, headers: Headers) -> Delete:
    """DELETE (PROTOCOL 5.4)."""
    h.refuse_if_match(headers, "DELETE")
    return Delete(path)


def decode_append(path: str, headers: Headers, body: bytes, limits: Limits) -> Append:
    """POST (PROTOCOL 5.2, 5.3). An empty body is valid only when it closes; its content type is then ignored."""
    close = h.is_closed(headers)
    producer = h.producer(headers, limits)
    content_type = None
    if body:
        content_type = h.content_type(headers, limits)
        if content_type is None:
            raise BadRequest("Content-Type", "is missing")
        body = asked.appended(body, content_type)
    elif not close:
        raise BadRequest("body", "is empty; only a request with Stream-Closed: true may be")
    append = Append(path, content_type, body, close, h.stream_seq(headers, limits), producer, h.if_match(headers))
    return asked.one_condition(append, "If-Match", "the producer headers")


def decode_again(before: Append, body: bytes) -> Append:
    """Another append with the headers of ``before``, which had a body and no producer.

    Raises:
        BadRequest: ``body`` is not such a one; ``decode_append`` has the word.

    """
    assert before.content_type is not None
    record = asked.appended(body, before.content_type)
    return Append(before.path, before.content_type, record, before.close, before.stream_seq, None, before.if_match)


def decode_read(query: bytes, headers: Headers) -> ReadRequest:
    """GET (PROTOCOL 5.6-5.8). Parameters that are not the protocol's are left alone."""
    given: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in ("offset", "live", "cursor"):
            if name in given:
                raise BadRequest(name, "may be given only once")
            given[name] = value
    live = _LIVE.get(given.get("live"))
    if live is None:
        raise BadRequest("live", "must be long-poll or sse")
    if live is not Live.NO and "offset" not in given:
        raise BadRequest("offset", "is required in live modes")
    return ReadRequest(_offset(given.get("offset")), live, given.get("cursor"), headers.get(b"if-none-match"))


def decode_list(query: bytes) -> ListRequest:
    """GET of ``/v1/stream/`` itself: which streams there are (a superset of the protocol)."""
    given: dict[str, str] = {}
    try:
        for name, value in parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict"):
            if name not in ("prefix", "after", "limit"):
                raise BadRequest(name or "''", "is not a parameter of a list: there are prefix, after and limit")
            if name in given:
                raise BadRequest(name, "may be given only once")
            if asked.has_control(value):
                raise BadRequest(name, "has a control character, which no path has")  # a NUL ends a path in its key
            given[name] = value
    except UnicodeDecodeError:
        raise BadRequest("query", "is not UTF-8") from None
    limit = given.get("limit", str(LIST_DEFAULT))
    if not re.fullmatch(r"[1-9][0-9]{0,3}", limit) or int(limit) > LIST_MOST:
        raise BadRequest("limit", f"must be a number from 1 to {LIST_MOST}")
    return ListRequest(given.get("prefix", ""), given.get("after", ""), int(limit))


def _offset(text: str | None) -> Offset | From:
    if text is None or text == "-1":
        return From.START
    if text == "now":
        return From.NOW
    return asked.offset(text, "offset", f"must be -1, now, or an offset of this stream: {offsets.FORM}")
