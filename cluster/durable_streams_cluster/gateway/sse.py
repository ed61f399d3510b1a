"""Server-sent events out of pages (PROTOCOL 5.8). Pure.

A page becomes one ``data`` event and one ``control`` event in one piece of bytes: they leave in one write, because a
connection that ended between them would leave the client with data at the old offset, to be read again.
"""

from base64 import b64encode

from durable_streams_cluster.api import Page
from durable_streams_cluster.streams.meta import media_type

KEEP_ALIVE = b": keep-alive\n\n"


def is_binary(content_type: str) -> bool:
    """Whether data events carry base64: everything but ``text/*`` and ``application/json``."""
    kind = media_type(content_type)
    return not kind.startswith("text/") and kind != "application/json"


def data_event(page: Page) -> bytes:
    """The page's bytes as one ``data`` event; made once for all readers of the page."""
    made = page.encoded.get("sse")
    if made is None:
        if page.is_json:
            payload = b"[" + b",".join(page.bodies) + b"]"
        else:
            payload = b"".join(page.bodies)
            if is_binary(page.content_type):
                payload = b64encode(payload)
        # CR, LF and CRLF all end a line of an event stream (WHATWG HTML 9.2.5), so each line gets its own field. A
        # parser drops one space after the colon: a line that begins with a space gets one more to lose.
        lines = b"\n" + payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        made = b"event: data" + lines.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ") + b"\n\n"
        page.encoded["sse"] = made
    return made


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
    return data_event(page) + control if page.bodies else control
