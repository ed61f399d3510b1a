"""Server-sent events: a reader written from the WHATWG specification (HTML 9.2) gets back exactly what was stored."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from durable_streams_cluster.api import Page
from durable_streams_cluster.gateway import sse
from durable_streams_cluster.streams import json_mode
from durable_streams_cluster.streams.json_mode import InvalidJson
from durable_streams_cluster.streams.offsets import MAX_PART, Offset
from tests.fuzz.draw import Draw
from tests.fuzz.json_text import values
from tests.runs import alone, together

BINARY = ("application/octet-stream", "application/ndjson", "textual/x")
TYPES = ("text/plain", "text/plain; charset=utf-8", "TEXT/html", "application/json", "Application/JSON;a=b", *BINARY)


@dataclass
class Event:
    kind: str
    data: bytes
    last_id: str


def events(stream: bytes) -> Iterator[Event]:
    """The events of a whole stream, by the letter of 9.2.6; fields that ours never sends are a finding."""
    kind, data = "", b""
    for line in re.split(rb"\r\n|\r|\n", stream):
        if not line:
            if data:
                yield Event(kind or "message", data[:-1], "")
            kind, data = "", b""
            continue
        if line.startswith(b":"):
            assert line == b": keep-alive", line
            continue
        name, colon, value = line.partition(b":")
        assert colon, f"a field without a value: {line!r}"
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode()
        else:
            assert name == b"data", f"a field that we never send: {line!r}"
            data += value + b"\n"
    assert not data, "the last event was not ended"


def check_sse(data: bytes) -> None:
    """Pages of one stream's appends, encoded in slices of any size and read back."""
    draw = Draw(data)
    kept, sse.SLICE_BYTES = sse.SLICE_BYTES, 3 * (1 + draw.byte() % 8)
    kind = draw.pick(TYPES)
    try:
        pages = [page for page in (drawn(draw, kind) for _ in range(1 + draw.byte() % 4)) if page is not None]
        check_pages(pages, draw)
    finally:
        sse.SLICE_BYTES = kept


def drawn(draw: Draw, kind: str) -> Page | None:
    bodies = [body for body in draw.several(draw.chunk, 5) if body]
    is_json = kind.lower().startswith("application/json")
    if is_json:
        try:
            bodies = [record for record in map(json_mode.record, bodies) if record]
        except InvalidJson:
            return None
    start, end = (Offset(draw.integer(MAX_PART), draw.integer(MAX_PART)) for _ in range(2))
    closed = draw.flag()
    records = [together(*bodies)] if bodies and draw.flag() else alone(*bodies)
    return Page("1-1", kind, is_json, start, end, records, draw.flag() or closed, closed, None, None, {})


def check_pages(pages: list[Page], draw: Draw) -> None:
    """A reader gets each page's data and where it stands; read on, lines of text are those of the whole stream."""
    text = not any(page.is_json or page.content_type in BINARY for page in pages)
    before = b""
    for page in pages:
        # As ``runtime.service`` does: the page before has ended the line already.
        page.after_cr = text and before[-1:] == b"\r" and page.bodies[:1] != [] and page.bodies[0][:1] == b"\n"
        before = b"".join(page.bodies) or before
    cursor = str(draw.integer(10**18))
    stream = b"".join(sse.event(page, cursor) + (sse.KEEP_ALIVE if draw.flag() else b"") for page in pages)
    found = list(events(stream))
    if text:
        whole = b"".join(event.data for event in found if event.kind == "data")
        assert whole == normalised(b"".join(body for page in pages for body in page.bodies))
    for page in pages:
        sent = b"".join(page.bodies)[page.after_cr :]
        if sent:
            told = found.pop(0)
            assert told.kind == "data"
            check_data(page, sent, told.data)
        control = found.pop(0)
        assert control.kind == "control"
        fields = json.loads(control.data)
        assert fields["streamNextOffset"] == str(page.next)
        assert fields.get("upToDate", False) == page.up_to_date
        assert fields.get("streamClosed", False) == page.closed
        assert fields.get("streamCursor") == (None if page.closed else cursor)
    assert found == []


def check_data(page: Page, sent: bytes, data: bytes) -> None:
    if page.is_json:
        sent = b"[" + b",".join(page.bodies) + b"]"
        assert values(data.replace(b"\n", b"")) == values(sent)
    if page.content_type in BINARY:
        assert base64.b64decode(data, validate=True) == sent
    else:
        assert data == normalised(sent)


def normalised(text: bytes) -> bytes:
    """With the line ends that an event stream has."""
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
