"""A strict reader of the responses on one connection: what it does not know by name is a finding."""

import re
from dataclasses import dataclass, field

NAMES = frozenset(
    b"access-control-allow-headers access-control-allow-methods access-control-allow-origin access-control-max-age "
    b"access-control-expose-headers allow cache-control connection content-length content-security-policy content-type "
    b"cross-origin-resource-policy date etag location producer-epoch producer-expected-seq producer-received-seq "
    b"producer-seq retry-after stream-closed stream-cursor stream-expires-at stream-first-offset stream-next-offset "
    b"stream-sse-data-encoding stream-ttl stream-up-to-date transfer-encoding x-accel-buffering "
    b"x-content-type-options".split()
)
"""Every header that this server sends; another one came in with somebody's bytes."""

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z' -]*")
_VALUE = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


@dataclass
class Response:
    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""
    complete: bool = True
    until_close: bool = False
    bodiless: bool = False
    interim: list[int] = field(default_factory=list)


def read(sent: bytes, methods: list[str]) -> list[Response]:
    """The responses in ``sent``; ``methods`` are those of the requests that were run, one for each response.

    One more may follow: the refusal of what came after them; when that was a HEAD, it has no content. The last one may
    be cut off.
    """
    found: list[Response] = []
    rest = sent
    while rest:
        method = methods[len(found)] if len(found) < len(methods) else "HEAD" if rest.endswith(b"\r\n\r\n") else ""
        response, rest = _one(rest, method)
        found.append(response)
        assert len(found) <= len(methods) + 1, "more responses than requests"
    return found


def _one(data: bytes, method: str) -> tuple[Response, bytes]:
    interim: list[int] = []
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(first)
        assert match, f"no status line: {first!r}"
        status = int(match[1])
        assert end, "a head leaves whole"
        if status >= 200:
            break
        assert (status, lines) == (100, []), "the only interim response is 100, with nothing to say"
        interim.append(status)
        data = rest
        if not data:
            return Response(100, {}, complete=False, interim=interim), b""
    response = Response(status, _headers(lines), interim=interim)
    return response, _body(response, rest, method)


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b": ")
        assert colon
        assert name in NAMES, f"a header that this server does not send: {line!r}"
        assert name not in found, f"sent twice: {line!r}"
        assert _VALUE.fullmatch(value), line
        found[name] = value
    return found


def _body(response: Response, rest: bytes, method: str) -> bytes:
    """Take the body off ``rest`` (RFC 9112 6.3); returns what follows it."""
    headers = response.headers
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    assert length is None or coding is None, "two framings"
    if response.status in (204, 304):
        assert coding is None
        assert length is None, "a response without content has no length"
        return rest
    if method == "HEAD":
        response.bodiless = True
        return rest
    if length is not None:
        size = int(length)
        response.body, response.complete = rest[:size], len(rest) >= size
        return rest[size:]
    if coding is None:
        response.body, response.until_close = rest, True
        return b""
    assert coding == b"chunked"
    return _chunks(response, rest)


def _chunks(response: Response, rest: bytes) -> bytes:
    while True:
        line, end, after = rest.partition(b"\r\n")
        if not end:
            response.complete = False
            assert re.fullmatch(rb"[0-9a-f]*\r?", line)
            return b""
        assert re.fullmatch(rb"0|[1-9a-f][0-9a-f]*", line), f"no chunk size: {line!r}"
        size = int(line, 16)
        response.body += after[:size]
        if len(after) < size + 2:
            response.complete = False
            return b""
        assert after[size : size + 2] == b"\r\n", "a chunk ends"
        rest = after[size + 2 :]
        if size == 0:
            return rest
