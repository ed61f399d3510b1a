"""Server-sent events out of pages (PROTOCOL 5.8). Pure.

A page becomes one ``data`` event and one ``control`` event in one piece of bytes: they leave in one write, because a
connection that ended between them would leave the client with data at the old offset, to be read again.
"""

from base64 import b64encode
from collections.abc import Iterator

from durable_streams_cluster.api import Page
from durable_streams_cluster.streams.meta import media_type

KEEP_ALIVE = b": keep-alive\n\n"

SLICE_BYTES = 192 * 1024
"""Encoded at a time; a multiple of 3, so that base64 has no padding in the middle."""


def is_binary(content_type: str) -> bool:
    """Whether data events carry base64: everything but ``text/*`` and ``application/json``."""
    kind = media_type(content_type)
    return not kind.startswith("text/") and kind != "application/json"


def encode(page: Page) -> Iterator[None]:
    """Make the page's ``data`` event, once for all its readers, in slices: the caller may let others run in between.

    CR, LF and CRLF all end a line of an event stream (WHATWG HTML 9.2.5), so each line gets its own field. A parser
    drops one space after the colon: a line that begins with a space gets one more to lose. A CRLF that two appends
    share is one line end: the page before has ended the line, and a page that is nothing else has no event.
    """
    payload = page.content
    if page.after_cr:
        payload = payload[1:]
    parts = [b"event: data\ndata:"] if payload else []
    binary = is_binary(page.content_type)
    at, begins_line = 0, True
    while at < len(payload):
        end = at + SLICE_BYTES
        if not binary and payload[end - 1 : end + 1] == b"\r\n":
            end += 1
        piece = payload[at:end]
        if binary:
            parts.append(b64encode(piece))
        else:
            lines = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            parts.append(b" " if begins_line and lines[:1] == b" " else b"")
            parts.append(lines.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  "))
            begins_line = lines[-1:] == b"\n"
        at = end
        yield
    if parts:
        parts.append(b"\n\n")
    page.encoded["sse"] = b"".join(parts)


def control_event(page: Page, cursor: str) -> bytes:
    """Where the reader stands now; no cursor once the stream is closed, for nobody comes back."""
    fields = f'"streamNextOffset":"{page.next}"'
    if page.closed:
        fields += ',"streamClosed":true,"upToDate":true'
    else:
        fields += f',"streamCursor":"{cursor}"'
        if page.up_to_date:
            fields += ',"upToDate":true'
    return f"event: control\ndata:{{{fields}}}\n\n".encode()


def event(page: Page, cursor: str) -> bytes:
    """Data, if there is any, and control, in one piece."""
    control = control_event(page, cursor)
    if not page.records:
        return control
    if "sse" not in page.encoded:
        for _ in encode(page):
            pass
    return page.encoded["sse"] + control
