"""JSON mode against Python's ``json``: the same texts are accepted, and a record is the same messages."""

import json
import re
from typing import Any, NoReturn

from durable_streams_cluster.streams import json_mode
from durable_streams_cluster.streams.json_mode import InvalidJson
from tests.fuzz.draw import Draw
from tests.fuzz.refusals import told

DEEP = 200
"""Nesting that must be accepted; the parser may refuse what is deeper."""

PIECES = (
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b" ", b"\n", b"\t", b"\r", b"\\", b"\\u", b"\\ud83d", b"\\udE00"),
    *(b"\\u00e9", b'\\"', b"\\\\", b"\\n", b"\\/", b"0", b"1", b"-", b"-1", b".5", b"1e5", b"E+9", b"1e400", b"00"),
    *(b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity", b"12345678901234567890", b'"a"', b'"a":', b"a"),
    *(b"[]", b"{}", b"[[", b"]]", b'{"a":1}', b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(b"\xff", b"\x00", b"\x1f", b"\x7f", b"/", b"'", b"[1,2]", b"[" * 50, b"]" * 50, b"\xe2\x80\xa8", b"\xc0\x80"),
)


def values(body: bytes) -> Any:
    """Numbers as written, objects as pairs, so that neither digits nor repeated names are lost. Raises ValueError."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    text = body.decode()
    if text.startswith("\ufeff"):
        raise ValueError("a byte order mark")
    return json.loads(
        text,
        parse_constant=refuse,
        parse_int=_number,
        parse_float=_number,
        object_pairs_hook=lambda pairs: ("{", pairs),
    )


def _number(digits: str) -> tuple[str, str]:
    return ("number", digits)


def depth(body: bytes) -> int:
    """The deepest nesting, or more."""
    found = deepest = 0
    for each in re.findall(rb"[\[\]{}]", body):
        found += 1 if each in b"[{" else -1
        deepest = max(deepest, found)
    return deepest


def check_pieces(data: bytes) -> None:
    """Each byte of the input stands for a piece of JSON: most inputs are nearly valid."""
    check_json(b"".join(PIECES[byte % len(PIECES)] for byte in data))


LARGE = 256 * 1024


def check_repeated(data: bytes) -> None:
    """A large body of one thing over and over: whatever it is, it takes time in proportion to its size.

    The fuzzer ends what takes much longer; with the square of this size nothing would be done in time.
    """
    draw = Draw(data)
    before, over, after = (b"".join(draw.several(lambda: draw.pick(PIECES), most)) for most in (6, 5, 6))
    body = before + over * (LARGE // max(1, len(over))) + after
    try:
        record = json_mode.record(body)
    except InvalidJson as error:
        told(error, most=1_000)
        return
    for count in (1, 2, LARGE // 8, LARGE):
        end = json_mode.cut_after(record, count)
        assert end is None or end <= len(record)


def refused(body: bytes) -> InvalidJson | None:
    try:
        json_mode.record(body)
    except InvalidJson as error:
        return error
    return None


def check_json(body: bytes) -> None:
    try:
        value = values(body)
    except RecursionError:
        refused(body)  # or taken: Python's parser is out of its depth, and cannot tell
        return
    except ValueError:
        assert refused(body), f"accepted, and is not JSON: {body!r}"
        return
    if error := refused(body):
        told(error, "nested too deeply")
        assert depth(body) > DEEP
        return
    record = json_mode.record(body)
    messages = value if isinstance(value, list) else [value]
    assert values(b"[" + record + b"]") == messages, "the record is the messages"
    assert record == record.strip(b" \t\r\n")
    check_cuts(record, messages)


def check_cuts(record: bytes, messages: list[Any]) -> None:
    count = len(messages)
    for kept in range(count + 1) if count <= 20 else (0, 1, 2, count // 2, count - 1, count):
        end = json_mode.cut_after(record, kept)
        assert end is not None
        assert values(b"[" + record[:end] + b"]") == messages[:kept]
        if 0 < kept < count:
            assert record[end : end + 1] == b","
            assert values(b"[" + record[end + 1 :] + b"]") == messages[kept:]
    assert json_mode.cut_after(record, count + 1) is None
    assert json_mode.cut_after(record, 2**53) is None
