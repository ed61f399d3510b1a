"""Heads of requests: what a target and a Host may be, and heads that come again.

A client sends nearly the same head with each request on a connection: an append differs from the one before in its
length, and perhaps in its producer's number. ``Head`` knows such a head when it comes again, byte for byte but for
those numbers, and so takes the same meaning from it as the parser did. To receive a small append, up to its command,
took 7.6 us of Python; with a head that is known, and was decoded before (``direct.Direct.memo``), it takes 3.6.
"""

import re
from collections.abc import Iterable
from typing import Any, Self

import httptools

Scope = dict[str, Any]
"""Of ASGI."""

MAX_BYTES = 2048
"""A longer head is parsed each time."""
MAX_MISSES = 3
"""After so many requests in a row whose head was not the one before, a connection takes no more heads apart."""
_MAX_DIGITS = 16
_END = b"\r\n\r\n"
_VARYING = (b"content-length", b"producer-seq")
"""What a client counts up, or measures anew, for each append."""
_HOST = re.compile(rb"[A-Za-z0-9.\-:\[\]_%~]*")


def is_host(value: bytes) -> bool:
    """Whether this may be a Host; empty is allowed (RFC 9112 3.2)."""
    return _HOST.fullmatch(value) is not None


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target; raises ``httptools.HttpParserInvalidURLError``."""
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    url = httptools.parse_url(target)  # http://host/path, and refuses nonsense
    return url.path or b"/", url.query or b""


def without_upgrade(line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole head, without its offer to change protocol."""
    head = [line, b"\r\n"]
    for name, value in headers:
        if name == b"connection":
            kept = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
            head.append(b"connection: %s\r\n" % b",".join(kept))
        elif name != b"upgrade":
            head.append(b"%s: %s\r\n" % (name, value))
    return b"".join([*head, b"\r\n"])


class Head:
    """A head that was read, taken apart at its numbers."""

    __slots__ = ("_headers", "_length", "_pieces", "_places", "_rest", "_scope", "memo", "method")

    def __init__(self, scope: Scope, places: list[int], pieces: list[bytes], rest: bytes) -> None:
        """``places``: of the numbers among the headers; ``pieces``: what is before each; ``rest``: behind the last."""
        headers = list(scope["headers"])
        self.memo: Any = None
        """See ``direct.Direct``."""
        self.method: str = scope["method"]
        self._scope = scope.copy()
        self._headers = headers
        self._places = places
        self._pieces = pieces
        self._rest = rest
        self._length = next((nth for nth, place in enumerate(places) if headers[place][0] == b"content-length"), None)

    @classmethod
    def of(cls, read: bytes, scope: Scope, body_size: int) -> Self | None:
        """Take the head of a request apart.

        Args:
            read: Bytes that end with the last of a request, and of which the parser made one request.
            scope: What it made of the head.
            body_size: Bytes of its body.

        Returns:
            None when ``read`` is more, or less, than this one request, or its head is not of the usual form.

        """
        size = read.find(_END) + len(_END)
        line = b"%s %s HTTP/1.1\r\n" % (scope["method"].encode(), _target(scope))
        # What is behind a head is its body and nothing else, and before it nothing: the next read begins with a head.
        if size + body_size != len(read) or size > MAX_BYTES or not read.startswith(line):
            return None
        headers = list(scope["headers"])
        names = [name for name, _ in headers]
        if b"transfer-encoding" in names or (body_size and b"content-length" not in names):
            return None
        found = []
        lowered = read[:size].lower()
        for name in _VARYING:
            if name in names:
                place = names.index(name)
                value = headers[place][1]
                begins = lowered.find(b"\r\n%s: %s\r\n" % (name, value)) + len(name) + 4
                if begins >= len(name) + 4 and value.isdigit():
                    found.append((begins, place, begins + len(value)))
                elif name == b"content-length":
                    return None
        found.sort()
        pieces = []
        ended = 0
        for begins, _, ends in found:
            pieces.append(read[ended:begins])
            ended = ends
        return cls(scope, [place for _, place, _ in found], pieces, read[ended:size])

    def again(self, read: bytes) -> "tuple[Again, bytes] | None":
        """``read``, if that is one whole request with this head: its head, and its body."""
        at = length = 0
        numbers = []
        for nth, piece in enumerate(self._pieces):
            if not read.startswith(piece, at):
                return None
            begins = at + len(piece)
            at = read.find(b"\r", begins, begins + _MAX_DIGITS + 1)
            digits = read[begins:at]
            if at < 0 or not digits.isdigit():
                return None
            numbers.append(digits)
            if nth == self._length:
                length = int(digits)
        if not read.startswith(self._rest, at):
            return None
        at += len(self._rest)
        return (Again(self, numbers), read[at:]) if length == len(read) - at else None

    def scope(self, numbers: list[bytes]) -> Scope:
        """The scope of a request with this head and these numbers; it is the caller's."""
        headers = self._headers.copy()
        for place, digits in zip(self._places, numbers, strict=True):
            headers[place] = (headers[place][0], digits)
        scope = self._scope.copy()
        scope["headers"] = headers
        scope["state"] = {}
        return scope


class Again:
    """A head that came again."""

    __slots__ = ("_numbers", "head")

    def __init__(self, head: Head, numbers: list[bytes]) -> None:
        self.head = head
        self._numbers = numbers

    def scope(self) -> Scope:
        """A new one. It is made for those who ask: for most small appends nobody does."""
        return self.head.scope(self._numbers)


class Recall:
    """What a connection knows of the head of its last request.

    It knows one only while the parser stands behind a request and has not seen a byte of the next: else what looks like
    a head could be, to the parser, part of a value or of a body. What is known is forgotten whenever it gets a byte.

    Counter-example for ``between``: a read ends inside the value of a header, and the next one begins with what could
    be the line of the same request. It is one request to the parser, with the headers of both; taken for a whole one,
    it would give the hidden headers of the first read to whoever sends the second one's bytes later.
    """

    __slots__ = ("_head", "_learns", "_misses", "between")

    def __init__(self) -> None:
        self._head: Head | None = None
        self._misses = 0
        self._learns = False
        """The parser stood between two requests as the present read began."""
        self.between = True
        """It stands there now."""

    def again(self, read: bytes) -> tuple[Again, bytes] | None:
        """Head and body of ``read``, if that is one whole request with the head of the last one."""
        if self._head is None:
            return None
        found = self._head.again(read)
        self._misses = 0 if found is not None else self._misses + 1
        return found

    def begin_read(self) -> None:
        """The parser is going to get all of a read."""
        self._learns = self.between and self._misses < MAX_MISSES

    def forget(self) -> None:
        """The parser is going to get bytes."""
        self._head = None

    def learn(self, read: bytes, scope: Scope, body_size: int) -> None:
        """The parser got ``read`` and made a request of it; see ``Head.of``."""
        if self._learns:
            self._head = Head.of(read, scope, body_size)

    def note(self, memo: Any) -> None:
        """What the application made of the last head."""
        if self._head is not None:
            self._head.memo = memo


def _target(scope: Scope) -> bytes:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path
