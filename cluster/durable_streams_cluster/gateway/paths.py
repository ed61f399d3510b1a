"""Which stream a URL names. The path is decoded once; what could name two things, or climb, is refused.

``%2F`` is a slash: ``a%2Fb`` and ``a/b`` are the same stream (clients encode ids with ``encodeURIComponent``).
Refused: empty segments, ``.`` and ``..`` however written, control characters, bytes that are not UTF-8, broken
percent-encoding, too long. ``__ds`` as the first segment is reserved for control APIs (PROTOCOL 6).
"""

import re
from urllib.parse import unquote_to_bytes

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


def source_path(value: bytes, root: bytes, max_bytes: int) -> str:
    """The stream named by Stream-Forked-From: the path component of a stream URL of this server (PROTOCOL 4.2).

    Raises:
        BadRequest: it does not name a stream.

    """
    field = "Stream-Forked-From"
    value = value.removeprefix(root)
    if not value.startswith(PREFIX):
        raise BadRequest(field, "must be the path of a stream on this server, such as /v1/stream/source")
    return stream_path(value[len(PREFIX) :], max_bytes, field)
