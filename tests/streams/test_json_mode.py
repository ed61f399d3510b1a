"""JSON mode (PROTOCOL 9.1) against Python's own ``json``, the slow and obvious way."""

import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.streams import json_mode
from durable_streams_cluster.streams.json_mode import InvalidJson, cut_after


def join(messages: list[bytes]) -> bytes:
    return b",".join(messages)


def split(body: bytes) -> list[bytes]:
    """The messages of a body, found by cutting its record after each."""
    record = json_mode.record(body)
    ends = [0]
    while (end := cut_after(record, len(ends))) is not None and record:
        ends.append(end)
    starts = [0, *(end + 1 for end in ends[1:-1])]
    return [record[start:end].strip(b" \t\r\n") for start, end in zip(starts, ends[1:], strict=True)] if record else []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
SPACE = st.text(" \t\r\n", max_size=3).map(str.encode)
# Text that is nearly JSON: pieces, in any order.
PIECES = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"u", b"\\u", b"d83d", b"\\ud83d", b"\\udE00", b"\\u00e9"]
PIECES += [b"0", b"1", b"-", b".", b"e", b"+", b"1e400", b"true", b"null", b"NaN", b"Infinity", b" ", b"\n", b"\t"]
PIECES += ["é".encode(), "😀".encode(), b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xff", b"\x00", b'"a"', b"[]", b"/", b"'"]
NEARLY_JSON = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
SURROGATE_TEXT = st.lists(
    st.sampled_from([b"a", b"\\\\", b"\\ud83d", b"\\uDE00", b"\\u0041", b"ud83d", b'\\"']), max_size=6
)
STRINGS = SURROGATE_TEXT.map(lambda parts: b'"' + b"".join(parts) + b'"')


def parsed(body: bytes) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    if body.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark")
    return json.loads(body.decode(), parse_constant=refuse)


def slow(body: bytes) -> list[Any] | None:
    """The messages as values; None when it is not JSON."""
    try:
        value = parsed(body)
    except ValueError:
        return None
    return value if isinstance(value, list) else [value]


def agrees(body: bytes) -> None:
    expected = slow(body)
    try:
        messages = split(body)
    except InvalidJson:
        assert expected is None, f"refused, though Python reads {expected!r}"
        return
    assert expected is not None, f"accepted as {messages!r}"
    assert repr([parsed(message) for message in messages]) == repr(expected)
    at = 0
    for message in messages:  # each is a piece of what was sent, in order
        at = body.index(message, at) + len(message)
        assert message == message.strip(b" \t\r\n")


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_value_is_split_as_python_reads_it(value: object, indent: int | str | None, ascii_only: bool) -> None:
    agrees(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


@given(NEARLY_JSON)
def test_nearly_json_is_accepted_and_refused_as_python_does(body: bytes) -> None:
    agrees(body)


@given(st.lists(STRINGS, max_size=4), SPACE, SPACE)
def test_surrogates_in_any_place(strings: list[bytes], before: bytes, after: bytes) -> None:
    agrees(before + b"[" + (before + b"," + after).join(strings) + b"]" + after)
    for text in strings:
        agrees(before + text + after)
        agrees(b'{"k":' + text + b"," + text + b":[" + text + b"]}")


@given(st.binary(max_size=30))
def test_any_bytes_are_split_or_refused(body: bytes) -> None:
    agrees(body)


@given(st.lists(VALUES.map(lambda value: json.dumps(value).encode()), min_size=1, max_size=6))
def test_a_record_is_cut_between_messages(messages: list[bytes]) -> None:
    record = join(messages)
    assert split(b"[" + record + b"]") == messages
    for count in range(len(messages) + 1):
        cut = cut_after(record, count)
        assert cut is not None
        assert record[:cut] == join(messages[:count])
    assert cut_after(record, len(messages) + 1) is None


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b"[[]]", [b"[]"]),
        (b"[[1,2], [3,4]]", [b"[1,2]", b"[3,4]"]),
        (b"[[[1,2,3]]]", [b"[[1,2,3]]"]),
        (b' {"a" : 1 } ', [b'{"a" : 1 }']),
        (
            b"[1.0, 1.00,1e400, -0 ,12345678901234567890123]",
            [b"1.0", b"1.00", b"1e400", b"-0", b"12345678901234567890123"],
        ),
        (b'{"a":1,"a":2}', [b'{"a":1,"a":2}']),
        (rb'["\ud83d", "\ud83d\ude00", "\\ud83d"]', [rb'"\ud83d"', rb'"\ud83d\ude00"', rb'"\\ud83d"']),
        (rb'["\udc00","\u0041","\udc00"]', [rb'"\udc00"', rb'"\u0041"', rb'"\udc00"']),
        (rb'["\ud83d,", ",\ud83d", "]"]', [rb'"\ud83d,"', rb'",\ud83d"', rb'"]"']),
        (rb'[1, 11, 1, "\ud83d", 1]', [b"1", b"11", b"1", rb'"\ud83d"', b"1"]),
        (b'"\\/\\b\\f"', [b'"\\/\\b\\f"']),
        ('["é\u2028😀"]'.encode(), ['"é\u2028😀"'.encode()]),
    ],
)
def test_bytes_are_kept_as_they_were_sent(body: bytes, messages: list[bytes]) -> None:
    assert split(body) == messages


NOT_JSON = [
    *[b"", b" ", b"[", b"[1,]", b"[,1]", b"[1 2]", b"{}{}", b"[1]]", b'{"a"}', b"{1:2}", b'{"a":1,}', b"[1]\x00"],
    *[b"01", b"1.", b".5", b"+1", b"-", b"1e", b"0x1", b"NaN", b"[Infinity]", b"-Infinity", b"nul", b"True"],
    *[b"'a'", b'"a', b'"\n"', b'"\x00"', b'"\x1f"', b'"\\x"', b'"\\u12"', b'"\\uD83"', b'"\\"', b'["\\ud83d]'],
    *[b'["\\ud83d",]', b"\xef\xbb\xbf1", b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b"\xfe\xff", b"\xa0[1]"],
    *[b"\x0b1", b"//\n1"],
]


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        split(body)


@pytest.mark.parametrize("nest", [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused_and_shallow_is_not(nest: tuple[bytes, bytes]) -> None:
    opening, closing = nest
    assert split(opening * 50 + b"1" + closing * 50)
    for body in (opening * 100_000 + b"1" + closing * 100_000, opening * 100_000):
        with pytest.raises(InvalidJson):
            split(body)
    with pytest.raises(InvalidJson):
        split(b'["\\ud83d",' + opening * 100_000 + b"1" + closing * 100_000 + b"]")


def test_the_error_says_where() -> None:
    with pytest.raises(InvalidJson, match="byte 4"):
        split(b"[1, x]")
    with pytest.raises(InvalidJson, match="UTF-8 near byte 1"):
        split(b'"\xff"')
    with pytest.raises(InvalidJson, match="nested too deeply"):
        split(b"[" * 100_000)


def test_a_megabyte_of_messages() -> None:
    body = b"[" + b",".join(b'{"n":%d}' % number for number in range(80_000)) + b"]"
    record = json_mode.record(body)
    assert record == body[1:-1]
    assert cut_after(record, 40_000) == record.index(b',{"n":40000}')
    assert cut_after(record, 80_000) == len(record)
    assert cut_after(record, 80_001) is None


def test_a_character_or_an_escape_across_two_slices_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in range(1, 12):
        monkeypatch.setattr(json_mode, "_SLICE", size)
        body = rb'["\ud83d\\ud83d\u0041' + "é😀".encode() + rb'\udc00"]'
        assert json_mode.record(body) == body[1:-1]
        with pytest.raises(InvalidJson):
            json_mode.record(body[:-3] + b'\xff"]')
