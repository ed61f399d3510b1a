"""HTTP requests, as values: the pure decoders refuse with ``BadRequest`` only, and what they accept is in bounds.

An input is a path (or a query), a line feed, header lines, an empty line, and the body.
"""

import json
import re
from dataclasses import replace
from datetime import date
from random import Random
from urllib.parse import quote, unquote_to_bytes

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.gateway import caching, codec, paths, status
from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.gateway.codec import Live
from durable_streams_cluster.gateway.headers import Headers, RawHeaders
from durable_streams_cluster.gateway.status import Response
from durable_streams_cluster.limits import MAX_SAFE_INTEGER, MAX_TTL_S, Limits
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.codecs import Origin, Proposal
from durable_streams_cluster.streams import json_mode, offsets
from durable_streams_cluster.streams.commands import Command, Create
from durable_streams_cluster.streams.meta import media_type
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.outcomes import (
    Appended,
    Created,
    OffsetMismatch,
    SeqRegression,
    StreamClosed,
    TypeMismatch,
)
from tests.fuzz.draw import Draw
from tests.runs import alone

LIMITS = replace(
    Limits(), max_path_bytes=64, max_content_type_bytes=40, max_producer_id_bytes=16, max_stream_seq_bytes=16
)
YEAR_10000_MS = 253_402_300_800_000
ROOT = b"/mounted"


def parts(data: bytes) -> tuple[bytes, RawHeaders, bytes]:
    """The first line, the headers, and the body of an input."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    pairs = (line.partition(b":") for line in lines)
    return first, [(name.lower(), value) for name, _, value in pairs], body


def sendable(response: Response) -> None:
    """``gateway.exchange`` turns a control character in a header into a 500."""
    for name, value in response.headers:
        assert re.fullmatch(rb"[a-z0-9-]+", name), name
        assert re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]*", value), value


def refused(error: BadRequest) -> None:
    """The refusal can be sent, says what is wrong, and is the client's fault."""
    response = status.bad_request(error)
    sendable(response)
    assert response.status in (400, 404, 414), response.status
    told = json.loads(response.body)["error"]
    assert told["code"]
    assert told["field"]
    assert told["message"]


def indexed(raw: RawHeaders) -> Headers:
    """The headers by name; none that may come once is there twice."""
    headers = h.index(raw)
    names = [name for name, _ in raw]
    assert all(names.count(name) < 2 for name in h.ONCE)
    return headers


def stored(command: Command) -> None:
    """What is accepted can be put into the log and read back."""
    proposal = Proposal(Origin(), command)
    assert codecs.decode_proposals(codecs.encode_proposals([proposal])) == [proposal]


def check_append(data: bytes) -> None:
    path, raw, body = parts(data)
    try:
        headers = indexed(raw)
        name = paths.stream_path(path, LIMITS.max_path_bytes)
        command = codec.decode_append(name, headers, body, LIMITS)
    except BadRequest as error:
        refused(error)
        return
    stored(command)
    assert command.body or command.close, "an empty append"
    assert bool(command.body) == bool(body)
    check_type(command.content_type, command.body, body)
    assert command.stream_seq is None or 0 < len(command.stream_seq) <= LIMITS.max_stream_seq_bytes
    if command.producer is not None:
        assert 0 < len(command.producer.id) <= LIMITS.max_producer_id_bytes
        assert 0 <= command.producer.epoch <= MAX_SAFE_INTEGER
        assert 0 <= command.producer.seq <= MAX_SAFE_INTEGER
    assert command.if_match is None or command.producer is None
    for outcome in (
        Appended(Offset(1, 2), True),
        Appended(Offset(1, 2), False, MAX_SAFE_INTEGER, 0),
        OffsetMismatch(command.if_match or START),
        StreamClosed(Offset(1, 2)),
        TypeMismatch(command.content_type or "a/b"),
        SeqRegression(command.stream_seq or b"\0"),
    ):
        sendable(status.of(outcome, append=command))


def check_type(content_type: str | None, body: bytes, sent: bytes) -> None:
    if content_type is None:
        return
    assert len(content_type) <= LIMITS.max_content_type_bytes
    assert content_type.isascii()
    assert "/" in content_type
    if media_type(content_type) == "application/json":
        assert body == (json_mode.record(sent) if sent else b"")
    else:
        assert body == sent


def check_create(data: bytes) -> None:
    path, raw, body = parts(data)
    root = ROOT if path[:1] == b"." else b""
    try:
        headers = indexed(raw)
        name = paths.stream_path(path[len(root[:1]) :], LIMITS.max_path_bytes)
        fork = codec.decode_fork(headers, [root], LIMITS)
        command = codec.decode_create(name, headers, body, fork, "application/json" if fork else None, LIMITS)
    except BadRequest as error:
        refused(error)
        return
    stored(command)
    check_lifetime(command)
    if command.body:
        check_type(command.content_type, command.body, body)
    if command.fork is not None:
        check_path(command.fork.source)
        assert 0 <= command.fork.sub_offset <= MAX_SAFE_INTEGER
        if command.fork.offset is not None:
            assert offsets.parse(str(command.fork.offset)) == command.fork.offset
    kind = command.content_type or "application/octet-stream"
    outcome = Created(False, kind, START, command.closed, command.ttl_s, command.expires_at_ms)
    sendable(status.of(outcome, b"/v1/stream/" + quote(name).encode()))


def check_lifetime(command: Create) -> None:
    assert command.ttl_s is None or command.expires_at_ms is None
    assert command.ttl_s is None or 0 <= command.ttl_s <= MAX_TTL_S
    if command.expires_at_ms is not None:
        assert 0 <= command.expires_at_ms < YEAR_10000_MS
        shown = h.format_time(command.expires_at_ms).encode()
        assert h.expires_at({b"stream-expires-at": shown}) == command.expires_at_ms


def check_read(data: bytes) -> None:
    query, raw, _ = parts(data)
    try:
        request = codec.decode_read(query, indexed(raw))
    except BadRequest as error:
        refused(error)
        return
    assert request.live is Live.NO or b"offset" in unquote_to_bytes(query)
    if isinstance(request.at, Offset):
        assert offsets.parse(str(request.at)) == request.at
        assert str(request.at).encode() in unquote_to_bytes(query)
    else:
        assert request.at in From
    cursor = caching.cursor(request.cursor, 1_750_000_000_000, 0.5)
    assert cursor.isascii()
    assert cursor.isdigit()


def check_list(data: bytes) -> None:
    """A list names a part of the paths, in order: those that begin with the prefix and come behind ``after``."""
    try:
        request = codec.decode_list(data)
    except BadRequest as error:
        refused(error)
        return
    assert 1 <= request.limit <= codec.LIST_MOST
    low, high = keys.listing_range(request.prefix, request.after)
    for path in {
        request.prefix or "b",
        request.after or "b",
        request.prefix + "a",
        request.after + "a",
        request.after + "0",
        *SOME,
    }:
        named = low <= keys.listing(path, 0) < high
        assert named == (path.startswith(request.prefix) and path.encode() > request.after.encode()), path


SOME = ("a", "a/b", "a0", "b", "\u00e9", "\U0001f600", "~")


def check_path(path: str) -> None:
    """An accepted path, however it is percent-encoded, is itself; and it names one thing only."""
    encoded = path.encode()
    assert 0 < len(encoded) <= LIMITS.max_path_bytes
    assert not re.search(r"[\x00-\x1f\x7f]", path)
    assert not {"", ".", ".."} & set(path.split("/"))
    assert path != "__ds"
    assert not path.startswith("__ds/")
    every = "".join(f"%{byte:02x}" for byte in encoded)
    for again in (quote(path), quote(path, safe=""), every, every.upper()):
        assert paths.stream_path(again.encode(), LIMITS.max_path_bytes) == path
        assert paths.source_path(paths.PREFIX + again.encode(), [b""], LIMITS.max_path_bytes) == path
        assert paths.source_path(ROOT + paths.PREFIX + again.encode(), [ROOT], LIMITS.max_path_bytes) == path


def check_paths(data: bytes) -> None:
    try:
        path = paths.stream_path(data, LIMITS.max_path_bytes)
    except BadRequest as error:
        refused(error)
    else:
        check_path(path)
        assert b"%" not in re.sub(rb"%[0-9A-Fa-f]{2}", b"", data)
    try:
        source = paths.source_path(data, [ROOT], LIMITS.max_path_bytes)
    except BadRequest as error:
        refused(error)
    else:
        check_path(source)
        assert paths.PREFIX in data


def check_headers(data: bytes) -> None:
    """One parser, chosen by the first byte, and a value."""
    which, value = data[:1], data[1:]
    try:
        match which[0] % 8 if which else 0:
            case 0:
                check_integer(value)
            case 1:
                check_expires_at(value)
            case 2:
                kind = h.content_type({b"content-type": value}, LIMITS)
                assert kind is None or (kind.isascii() and kind == kind.strip() and "/" in kind)
            case 3:
                check_offset(value)
            case 4:
                closed = h.is_closed({b"stream-closed": value})
                assert closed == (value.strip(b" \t\n\r\v\f").lower() == b"true")
            case 5:
                check_if_match(value)
            case 6:
                seq = h.stream_seq({b"stream-seq": value}, LIMITS)
                assert seq == value
            case _:
                found = h.producer(
                    {b"producer-id": value, b"producer-epoch": value[:3], b"producer-seq": value[-3:]}, LIMITS
                )
                assert found is not None
                assert found.id.encode("latin-1") == value
    except BadRequest as error:
        refused(error)


def check_integer(value: bytes) -> None:
    plain = value.isdigit() and (value == b"0" or value[:1] != b"0") and len(value) < 20
    try:
        found = h.integer({b"n": value}, b"n", "N", 1_000)
    except BadRequest:
        assert not plain or int(value) > 1_000
        raise
    assert plain
    assert found == int(value)


def check_expires_at(value: bytes) -> None:
    shape = re.fullmatch(
        rb"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", value
    )
    expected = unix_ms(*shape.groups()) if shape is not None else None
    try:
        found = h.expires_at({b"stream-expires-at": value})
    except BadRequest:
        assert expected is None, value
        raise
    assert found == expected, value


def unix_ms(*groups: bytes | None) -> int | None:
    """Unix milliseconds of the groups of an RFC 3339 timestamp, by hand; None when there is no such moment."""
    year, month, day, hour, minute, second = (int(each or b"") for each in groups[:6])
    fraction, sign, zone_hour, zone_minute = groups[6:]
    try:
        days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    zone = int(zone_hour or b"0") * 60 + int(zone_minute or b"0")
    if hour > 23 or minute > 59 or second > 59 or int(zone_minute or b"0") > 59 or zone >= 24 * 60:
        return None
    zone = -zone if sign == b"-" else zone
    seconds = ((days * 24 + hour) * 60 + minute - zone) * 60 + second
    milliseconds = seconds * 1000 + int((fraction or b"").ljust(3, b"0")[:3])
    return milliseconds if 0 <= seconds * 1000 < YEAR_10000_MS else None


def check_offset(value: bytes) -> None:
    found = h.fork_offset({b"stream-fork-offset": value})
    if value == b"now":
        assert found is None
    elif value == b"-1":
        assert found == START
    else:
        assert str(found).encode() == value


def check_if_match(value: bytes) -> None:
    found = h.if_match({b"if-match": value})
    assert value == b"*" if found is None else str(found).encode() in (value, value[1:-1])


def check_caching(data: bytes) -> None:
    """A cursor always moves, an ETag matches itself and no other page's, a cached answer ends with its stream."""
    draw = Draw(data)
    wall_ms, jitter = draw.integer(2**48), Random(draw.byte()).random()
    asked = draw.text()
    current = int(caching.cursor(None, wall_ms, jitter))
    found = caching.cursor(asked, wall_ms, jitter)
    assert found.isascii()
    assert found.isdigit()
    assert int(found) >= current
    if re.fullmatch("[0-9]{1,100}", asked):
        assert int(found) > int(asked) or int(asked) < current == int(found)
    assert int(caching.moved_on(found, draw.integer(2**48))) >= int(found)
    page = drawn_page(draw)
    tag = caching.etag(page)
    sent = draw.chunk()
    assert caching.matches(tag, tag)
    assert caching.matches(b'"x", W/' + tag + b" ,", tag)
    assert not caching.matches(None, tag)
    assert caching.matches(sent, tag) == (sent.strip() == b"*" or tag in [*split_tags(sent)])
    other = drawn_page(draw)
    same = (page.stream, page.start, page.next, page.closed) == (other.stream, other.start, other.next, other.closed)
    assert caching.matches(tag, caching.etag(other)) == same
    control = caching.cache_control(page, wall_ms)
    age = re.search(rb"max-age=([0-9]+)", control)
    if age is not None:
        assert page.bodies
        assert page.ttl_s is None or page.ttl_s >= 360 or int(age[1]) <= page.ttl_s
        assert page.expires_at_ms is None or int(age[1]) <= max(0, page.expires_at_ms - wall_ms) // 1000


def split_tags(sent: bytes) -> list[bytes]:
    return [each.strip().removeprefix(b"W/") for each in sent.split(b",")]


def drawn_page(draw: Draw) -> Page:
    ttl_s = draw.maybe(lambda: draw.integer(MAX_TTL_S))
    expires_at_ms = draw.maybe(lambda: draw.integer(YEAR_10000_MS - 1)) if ttl_s is None else None
    start, end = (Offset(draw.integer(offsets.MAX_PART), draw.integer(offsets.MAX_PART)) for _ in range(2))
    name = f"{draw.byte() % 3}-{draw.byte() % 3}"
    records = alone(b"x") if draw.flag() else []
    return Page(name, "text/plain", False, start, end, records, draw.flag(), draw.flag(), ttl_s, expires_at_ms, {})
