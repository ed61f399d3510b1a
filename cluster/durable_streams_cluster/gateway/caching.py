"""ETag, Cache-Control, If-None-Match and the cursor (PROTOCOL 10). Pure: time and randomness are arguments."""

import re

from durable_streams_cluster.api import Page

CURSOR_EPOCH_MS = 1_728_432_000_000
"""2024-10-09T00:00:00Z, in Unix milliseconds."""
CURSOR_INTERVAL_MS = 20_000
MAX_JITTER_S = 3600

NO_STORE = b"no-store"

_CURSOR = re.compile(r"[0-9]{1,100}")


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


def cache_control(page: Page, wall_ms: int) -> bytes:
    """Data never changes, so a page with data may be kept; an empty one says "nothing yet", which is soon wrong.

    A stream that ends bounds how long a shared cache may answer in its place; reads from a cache renew no TTL.
    """
    if not page.records:
        return b"no-cache"
    lives_s = page.ttl_s
    if page.expires_at_ms is not None:
        lives_s = max(0, (page.expires_at_ms - wall_ms) // 1000)
    if lives_s is None or lives_s >= 360:
        return b"public, max-age=60, stale-while-revalidate=300"
    return b"public, max-age=%d" % min(60, lives_s)


def cursor(asked: str | None, wall_ms: int, jitter: float) -> str:
    """The next cursor: the interval of ``wall_ms``, or beyond the one asked with (PROTOCOL 10.1).

    Args:
        asked: The ``cursor`` parameter as sent; what this server cannot have minted is ignored.
        wall_ms: Unix milliseconds.
        jitter: Random, from 0 to below 1; spreads the clients that are ahead over up to an hour.

    """
    current = _interval(wall_ms)
    if asked is None or _CURSOR.fullmatch(asked) is None or int(asked) < current:
        return str(current)
    seconds = 1 + int(jitter * MAX_JITTER_S)
    return str(int(asked) + max(1, seconds * 1000 // CURSOR_INTERVAL_MS))


def moved_on(cursor: str, wall_ms: int) -> str:
    """The cursor of a connection that got ``cursor`` before: it keeps to the clock, and never goes back."""
    return str(max(int(cursor), _interval(wall_ms)))


def _interval(wall_ms: int) -> int:
    return max(0, (wall_ms - CURSOR_EPOCH_MS) // CURSOR_INTERVAL_MS)
