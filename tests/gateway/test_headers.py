"""Strict parsers of header values (PROTOCOL 4.2, 5.1, 5.2); over HTTP they are in ``testdata/headers.http.txt``."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.limits import MAX_SAFE_INTEGER, MAX_TTL_S, Limits
from durable_streams_cluster.streams.commands import Producer

LIMITS = Limits()
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001 - the zone is drawn apart
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ASCII = st.binary(max_size=20)


@given(st.integers(0, MAX_TTL_S))
def test_a_ttl_is_a_plain_decimal_integer(seconds: int) -> None:
    assert h.ttl({b"stream-ttl": b"%d" % seconds}) == seconds


@given(ASCII)
def test_a_ttl_is_that_or_refused(value: bytes) -> None:
    right = value.isdigit() and b"%d" % int(value) == value and int(value) <= MAX_TTL_S
    try:
        assert h.ttl({b"stream-ttl": value}) == int(value)
    except BadRequest:
        assert not right
    else:
        assert right, "one way to write each number"


@pytest.mark.parametrize(
    "value", [b"+1", b"01", b"00", b"1.0", b"1e3", b"-0", b"", b" 1", b"1 ", b"0x1", b"1_0", b"\xb2"]
)
def test_other_ways_to_write_a_ttl_are_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="Stream-TTL: must be an integer"):
        h.ttl({b"stream-ttl": value})


@given(MOMENTS, ZONES, st.integers(0, 9), st.booleans())
def test_a_timestamp_is_read_and_shown_to_the_millisecond(
    moment: datetime, zone: timezone, digits: int, lower: bool
) -> None:
    moment = moment.replace(tzinfo=zone)
    offset = moment.strftime("%z")
    fraction = f".{moment.microsecond:06d}000"[: digits + 1] if digits else ""
    text = f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}{fraction}{offset[:3]}:{offset[3:]}"
    unix_ms = h.expires_at({b"stream-expires-at": (text.lower() if lower else text).encode()})
    assert unix_ms is not None
    micros = int((fraction[1:] or "0").ljust(6, "0")[:6])
    assert unix_ms == round(moment.replace(microsecond=0).timestamp()) * 1000 + micros // 1000
    shown = datetime.fromisoformat(h.format_time(unix_ms))
    assert shown == moment.replace(microsecond=micros // 1000 * 1000)
    assert shown.tzinfo == UTC
    assert h.expires_at({b"stream-expires-at": h.format_time(unix_ms).encode()}) == unix_ms


NO_TIMESTAMPS = [
    *["2030-01-01", "2030-01-01T00:00:00", "2030-01-01 00:00:00Z", "2030-1-1T00:00:00Z", "2030-13-01T00:00:00Z"],
    *["2030-02-30T00:00:00Z", "2030-01-01T25:00:00Z", "2030-01-01T00:60:00Z", "2030-01-01T00:00:00.Z", "now", ""],
    *["2030-01-01T00:00:00+0100", "2030-01-01T00:00:00+1", "2030-01-01T00:00Z", "0000-01-01T00:00:00Z", "1893456000"],
    *["1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01", "2030-01-01T00:00:00Z ", "+2030-01-01T00:00:00Z"],
]


@pytest.mark.parametrize("text", NO_TIMESTAMPS)
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="Stream-Expires-At"):
        h.expires_at({b"stream-expires-at": text.encode()})


@given(ASCII)
def test_any_timestamp_is_read_or_refused_and_can_be_shown(value: bytes) -> None:
    try:
        unix_ms = h.expires_at({b"stream-expires-at": value})
    except BadRequest:
        return
    assert unix_ms is not None
    h.format_time(unix_ms)


@pytest.mark.parametrize("name", sorted(h.ONCE))
def test_a_header_with_one_meaning_comes_once(name: bytes) -> None:
    with pytest.raises(BadRequest, match="only once") as refused:
        h.index([(name, b"a"), (b"host", b"h"), (name, b"a")])
    assert refused.value.field.encode() == name
    assert h.index([(b"x", b"1"), (b"x", b"2"), (name, b"a")])[name] == b"a"


@pytest.mark.parametrize(
    ("value", "closed"),
    [
        *[(value, True) for value in (b"true", b"TRUE", b"True", b" true ")],
        *[(value, False) for value in (b"false", b"yes", b"1", b"", b"truee", b"true, true", b"t r u e", b"\xfftrue")],
    ],
)
def test_only_true_closes(value: bytes, closed: bool) -> None:
    assert h.is_closed({b"stream-closed": value}) is closed
    assert not h.is_closed({})


@given(st.integers(0, MAX_SAFE_INTEGER), st.integers(0, MAX_SAFE_INTEGER))
def test_producer_numbers_reach_as_far_as_javascript(epoch: int, seq: int) -> None:
    sent = {b"producer-id": b"p", b"producer-epoch": b"%d" % epoch, b"producer-seq": b"%d" % seq}
    assert h.producer(sent, LIMITS) == Producer("p", epoch, seq)


@pytest.mark.parametrize("missing", [b"producer-id", b"producer-epoch", b"producer-seq"])
def test_producer_headers_come_together(missing: bytes) -> None:
    sent = {b"producer-id": b"p", b"producer-epoch": b"0", b"producer-seq": b"0"}
    one = {missing: sent.pop(missing)}
    for some in (sent, one):
        with pytest.raises(BadRequest, match="come together or not at all"):
            h.producer(some, LIMITS)
    assert h.producer({}, LIMITS) is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"text/plain", "text/plain"),
        (b"  text/plain;charset=utf-8 ", "text/plain;charset=utf-8"),
        (b'multipart/mixed; boundary="a,b;c"', 'multipart/mixed; boundary="a,b;c"'),
        (b"application/vnd.api+json", "application/vnd.api+json"),
        (b"", None),
    ],
)
def test_content_types_are_kept_as_sent(value: bytes, read: str | None) -> None:
    assert h.content_type({b"content-type": value}, LIMITS) == read


NO_TYPES = [
    b"text",
    b"/",
    b"text/",
    b"/plain",
    b"a b/c",
    b"text/plain x",
    b"a/b,c/d",
    b"a/b\r\nx: y",
    b"a/b;\xe9",
    b"*/*;\0",
]


@pytest.mark.parametrize("value", NO_TYPES)
def test_what_is_no_content_type_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="Content-Type"):
        h.content_type({b"content-type": value}, LIMITS)


def test_lengths_are_bounded() -> None:
    with pytest.raises(BadRequest, match="256"):
        h.content_type({b"content-type": b"a/" + b"b" * 255}, LIMITS)
    for size, fits in ((0, False), (1, True), (256, True), (257, False)):
        if fits:
            assert h.stream_seq({b"stream-seq": b"s" * size}, LIMITS) == b"s" * size
        else:
            with pytest.raises(BadRequest, match="Stream-Seq"):
                h.stream_seq({b"stream-seq": b"s" * size}, LIMITS)
