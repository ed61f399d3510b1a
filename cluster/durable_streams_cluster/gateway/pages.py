"""A page as a response (PROTOCOL 5.6, 9.1.5). Pure."""

from durable_streams_cluster.api import From, Page
from durable_streams_cluster.gateway import caching, status
from durable_streams_cluster.gateway.codec import ReadRequest
from durable_streams_cluster.gateway.headers import COMMON
from durable_streams_cluster.gateway.status import Response


def response(page: Page, request: ReadRequest, wall_ms: int, cursor: str | None = None) -> Response:
    """A page as a response (PROTOCOL 5.6); with a cursor when it answers a long-poll."""
    from_now = request.at is From.NOW
    headers = [*COMMON, status.next_offset(page.next)]
    if page.up_to_date:
        headers.append(status.UP_TO_DATE)
    if page.closed:
        headers.append(status.CLOSED)
    if cursor is not None:
        headers.append((b"stream-cursor", cursor.encode()))
    if from_now:
        headers.append((b"cache-control", caching.NO_STORE))
    else:
        tag = caching.etag(page)
        headers += [(b"etag", tag), (b"cache-control", caching.cache_control(page, wall_ms))]
        if caching.matches(request.if_none_match, tag):
            return Response(304, headers)
    headers.append((b"content-type", page.content_type.encode()))
    if page.is_json:
        return Response(200, headers, b"[" + b",".join(page.bodies) + b"]")
    return Response(200, headers, page.bodies[0] if len(page.bodies) == 1 else b"".join(page.bodies))
