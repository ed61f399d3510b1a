"""A page, or a list of streams, as a response (PROTOCOL 5.6, 9.1.5). Pure."""

import json

from durable_streams_cluster.api import Described, From, Page
from durable_streams_cluster.gateway import caching, status
from durable_streams_cluster.gateway.codec import ListRequest, ReadRequest
from durable_streams_cluster.gateway.headers import COMMON, format_time
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
    return Response(200, headers, page.content)


def listing(found: list[Described], request: ListRequest) -> Response:
    """Streams in the order of their paths; ``next`` is what ``after`` must be to go on, and missing at the end."""
    body: dict[str, object] = {"streams": [_row(each) for each in found]}
    if len(found) == request.limit:
        body["next"] = found[-1].path
    headers = [*COMMON, (b"content-type", b"application/json"), (b"cache-control", caching.NO_STORE)]
    return Response(200, headers, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _row(each: Described) -> dict[str, object]:
    row: dict[str, object] = {
        "path": each.path,
        "contentType": each.content_type,
        "firstOffset": str(each.first_offset),
        "nextOffset": str(each.next_offset),
        "closed": each.closed,
    }
    if each.ttl_s is not None:
        row["ttlSeconds"] = each.ttl_s
    if each.expires_at_ms is not None:
        row["expiresAt"] = format_time(each.expires_at_ms)
    return row
