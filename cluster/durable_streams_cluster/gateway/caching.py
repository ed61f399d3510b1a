"""ETag, Cache-Control, If-None-Match and the cursor (PROTOCOL 10). Pure: time and randomness are arguments."""

import re

from durable_streams_cluster.api import Page

CURSOR_EPOCH_MS = 1_728_432_000_000
"""2024-10-09T00:00:00Z, in Unix milliseconds."""
CURSOR_INTERVAL_MS = 20_000
MAX_JITTER_S = 3600

NO_STORE = b"no-store"

_CURSOR = re.compile(r"[0-9]{1,15}", re.ASCII)


def etag(page: Page) -> bytes:
    """Varies with the stream, the start, the end and the closure: a 304 never hides new data or the end."""
    closed = ":c" if page.closed else ""
    return f'"{page.stream}:{page.start}:{page.next}{closed}"'.encode()


def matches(if_none_match: bytes | None, tag: bytes) -> bool:
    """Weak comparison of If-None-Match (RFC 9110 section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == b"*":
        return True
    return any(each.strip().removeprefix(b"W/") == tag for each in if_none_match.split(b","))


def cache_control(page: Page) -> bytes:
    """Data never changes, so a page with data may be kept; an empty one says "nothing yet", which is soon wrong.

    A stream with a TTL bounds how long a shared cache may answer in its place: reads from a cache renew nothing.
    """
    if not page.bodies:
        return b"no-cache"
    if page.ttl_s is None or page.ttl_s >= 60:
        return b"public, max-age=60, stale-while-revalidate=300"
    return b"public, max-age=%d" % page.ttl_s


def cursor(asked: str | None, wall_ms: int, jitter: float) -> str:
    """The next cursor: the interval of ``wall_ms``, or beyond the one asked with (PROTOCOL 10.1).

    Args:
        asked: The ``cursor`` parameter as sent; what this server cannot have minted is ignored.
        wall_ms: Unix milliseconds.
        jitter: Random, from 0 to below 1; spreads the clients that are ahead over up to an hour.

    """
    current = max(0, (wall_ms - CURSOR_EPOCH_MS) // CURSOR_INTERVAL_MS)
    if asked is None or _CURSOR.fullmatch(asked) is None or int(asked) < current:
        return str(current)
    seconds = 1 + int(jitter * MAX_JITTER_S)
    return str(int(asked) + max(1, seconds * 1000 // CURSOR_INTERVAL_MS))
