"""Which stream a URL names. The path is decoded once; what could name two things, or climb, is refused.

``%2F`` is a slash: ``a%2Fb`` and ``a/b`` are the same stream (clients encode ids with ``encodeURIComponent``).
Refused: empty segments, ``.`` and ``..`` however written, control characters, bytes that are not UTF-8, broken
percent-encoding, too long. ``__ds`` as the first segment is reserved for control APIs (PROTOCOL 6).
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from durable_streams_cluster import asked
from durable_streams_cluster.asked import BadRequest

PREFIX = b"/v1/stream/"
ALL = (PREFIX, PREFIX[:-1])
"""Names no stream, but all of them."""

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def stream_path(encoded: bytes, max_bytes: int, field: str = "path") -> str:
    """The stream's path, from what follows ``/v1/stream/`` in the URL.

    Raises:
        BadRequest: it breaks a rule above; ``field`` is named in the error.

    """
    if _BROKEN_ESCAPE.search(encoded):
        raise BadRequest(field, "has a '%' that is not followed by two hexadecimal digits")
    raw = unquote_to_bytes(encoded)
    if len(raw) > max_bytes:
        raise asked.path_too_long(field, max_bytes)
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        raise BadRequest(field, "is not UTF-8") from None
    return asked.stream_path(path, field, max_bytes)


def source_path(value: bytes, roots: Iterable[bytes], max_bytes: int) -> str:
    """The stream named by Stream-Forked-From: the path component of a stream URL of this server (PROTOCOL 4.2).

    Args:
        value: The header.
        roots: Where this application is mounted, as its clients may see it; as of :func:`divide`.
        max_bytes: Of the path.

    Raises:
        BadRequest: it does not name a stream.

    """
    field = "Stream-Forked-From"
    for _, rest in (divide(value, root) for root in roots):
        if rest.startswith(PREFIX):
            return stream_path(rest[len(PREFIX) :], max_bytes, field)
    raise BadRequest(field, "must be the path of a stream on this server, such as /v1/stream/source")


def divide(raw: bytes, root: bytes) -> tuple[bytes, bytes]:
    """Where this application is mounted, as its clients see it, and the path behind that; both percent-encoded.

    Servers and frameworks do not agree on how much of ``root_path`` is in the path: all of it (uvicorn, Starlette),
    only its end, where a proxy took the beginning away (FastAPI's ``root_path``, and a mount below it), or nothing. So
    the most of it counts that leaves a path of ours.

    Args:
        raw: A path, percent-encoded.
        root: ``root_path``, as UTF-8, without percent-encoding.

    """
    root = root.rstrip(b"/")
    begin = 0
    while 0 <= begin < len(root):
        end = _behind(raw, root[begin:])
        if end is not None and ((raw[end:] + b"/").startswith(PREFIX) or raw[end:] in (b"", b"/")):
            return quote(root[:begin]).encode() + raw[:end], raw[end:]
        begin = root.find(b"/", begin + 1)
    return quote(root).encode(), raw


def _behind(raw: bytes, root: bytes) -> int | None:
    """Where ``raw`` goes on behind ``root``, however that is encoded in it; None: it does not begin so."""
    at = len(root)
    if not raw.startswith(root) or raw[at : at + 1] not in (b"", b"/"):
        at = _decoded(raw, root)
    return at if at >= 0 and raw[at : at + 1] in (b"", b"/") else None


def _decoded(raw: bytes, root: bytes) -> int:
    """How long the beginning of ``raw`` is that stands for ``root``; -1: there is none."""
    at = 0
    for byte in root:
        width = 3 if raw[at : at + 1] == b"%" else 1
        if unquote_to_bytes(raw[at : at + width]) != bytes([byte]):
            return -1
        at += width
    return at
