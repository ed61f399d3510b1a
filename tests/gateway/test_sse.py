"""Server-sent events, read back by a parser written from the WHATWG specification (HTML 9.2.5, 9.2.6)."""

import base64
import json
import re
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.api import Page
from durable_streams_cluster.gateway import sse
from durable_streams_cluster.streams.offsets import START, Offset
from tests.runs import together

TRICKY = st.lists(
    st.sampled_from(
        ["a", " ", "\n", ":", "data:", "event: control", "\ufeff", "\0", "é", "😀", "id: 1", "\n\n", "\t", "{"]
    )
).map("".join)
TEXT = TRICKY | st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))
NEXT = Offset(1, 3)


def parse(stream: bytes) -> list[tuple[str, str]]:
    """The events of a whole event stream, as type and data."""
    text = stream.decode(errors="replace").removeprefix("\ufeff")
    events, kind, data = [], "", ""
    for line in re.split("\r\n|\r|\n", text):
        if not line:
            if data:
                events.append((kind or "message", data.removesuffix("\n")))
            kind, data = "", ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data += value + "\n"
    return events


def page(content_type: str, bodies: list[bytes], *, closed: bool = False, up_to_date: bool = True) -> Page:
    is_json = content_type == "application/json"
    records = [together(*bodies)] if bodies else []
    return Page("1-1", content_type, is_json, START, NEXT, records, up_to_date, closed, None, None, {})


@given(TEXT.filter(bool))
def test_text_with_line_feeds_arrives_byte_for_byte(text: str) -> None:
    (kind, data), (control, _) = parse(sse.event(page("text/plain", [text.encode()]), "7"))
    assert (kind, control) == ("data", "control")
    assert data == text


@given(st.text("a\r\n :", min_size=1))
def test_other_line_ends_arrive_as_line_feeds_and_forge_nothing(text: str) -> None:
    (_, data), (control, _) = parse(sse.event(page("text/html", [text.encode()]), "7"))
    assert control == "control"
    assert data == text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=3))
def test_bytes_arrive_as_base64_of_all_of_them(bodies: list[bytes]) -> None:
    (_, data), _ = parse(sse.event(page("application/octet-stream", bodies), "7"))
    assert b64decode(data.replace("\n", ""), validate=True) == b"".join(bodies)


@given(st.lists(st.recursive(st.text() | st.integers(), lambda x: st.lists(x, max_size=3)), min_size=1, max_size=4))
def test_json_arrives_as_one_array(messages: list[object]) -> None:
    bodies = [json.dumps(message, indent=1).replace("\n", "\r\n").encode() for message in messages]
    (_, data), _ = parse(sse.event(page("application/json", bodies), "7"))
    assert json.loads(data) == messages


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=4))
def test_events_that_follow_each_other_stay_apart(texts: list[str]) -> None:
    stream = sse.KEEP_ALIVE.join(sse.event(page("text/plain", [text.encode()]), "7") for text in texts)
    events = parse(stream)
    assert [data for kind, data in events if kind == "data"] == texts
    assert len(events) == 2 * len(texts)


@pytest.mark.parametrize(
    ("closed", "up_to_date", "expected"),
    [
        (False, False, {"streamNextOffset": str(NEXT), "streamCursor": "7"}),
        (False, True, {"streamNextOffset": str(NEXT), "streamCursor": "7", "upToDate": True}),
        (True, True, {"streamNextOffset": str(NEXT), "streamClosed": True, "upToDate": True}),
    ],
)
def test_the_control_event(closed: bool, up_to_date: bool, expected: dict[str, object]) -> None:
    events = parse(sse.event(page("text/plain", [], closed=closed, up_to_date=up_to_date), "7"))
    assert [(kind, json.loads(data)) for kind, data in events] == [("control", expected)]


def test_the_event_of_a_page_is_made_once() -> None:
    shared = page("text/plain", [b"x"])
    sse.event(shared, "7")
    made = shared.encoded["sse"]
    sse.event(shared, "8")
    assert shared.encoded["sse"] is made


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream"])
@pytest.mark.parametrize("at", [sse.SLICE_BYTES - 2, sse.SLICE_BYTES - 1, sse.SLICE_BYTES])
@pytest.mark.parametrize("middle", [b"\r\n b", b"\n\n b", b"\r\r", b" b"])
def test_slices_do_not_show(content_type: str, at: int, middle: bytes) -> None:
    payload = b"a" * at + middle + b"c" * sse.SLICE_BYTES
    data = parse(sse.event(page(content_type, [payload]), "7"))[0][1]
    if content_type == "text/plain":
        assert data.encode() == payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    else:
        assert base64.b64decode(data) == payload


@pytest.mark.parametrize(
    ("content_type", "binary"),
    [
        ("text/plain", False),
        ("TEXT/Html; charset=latin-1", False),
        ("application/json", False),
        ("Application/JSON;charset=utf-8", False),
        ("application/ndjson", True),
        ("application/json-seq", True),
        ("application/vnd.api+json", True),
        ("application/octet-stream", True),
        ("image/svg+xml", True),
        ("textual/x", True),
    ],
)
def test_what_is_sent_as_base64(content_type: str, binary: bool) -> None:
    assert sse.is_binary(content_type) is binary
