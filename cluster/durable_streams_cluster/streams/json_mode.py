"""JSON mode: one POST body into a record of messages, and a record cut between two of them (PROTOCOL 9.1).

The bytes of each message are kept as they were sent: numbers keep their digits, duplicate keys stay, and a lone
surrogate escape (which JavaScript's ``JSON.stringify`` really produces when an emoji is cut in two) is accepted.
A record of a JSON stream is its messages with a comma between each two, so that a page is ``[`` + records joined by
``,`` + ``]``. Nothing is made per message: 16 MiB of small numbers would be eight million objects.
"""

import codecs
import re

import msgspec

_JSON = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_WHITESPACE = b" \t\r\n"
_SLICE = 256 * 1024
# A string, or something that opens, closes or separates. Numbers and names are passed over.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},]', re.DOTALL)


class InvalidJson(ValueError):
    """The body is not JSON text (RFC 8259); the message says where."""


def record(body: bytes) -> bytes:
    """The record of a body: exactly one level of array is flattened.

    Returns:
        What stands between the brackets of an array, or the one value; without white space around it. Empty for ``[]``.

    Raises:
        InvalidJson: not UTF-8, not JSON, or nested too deeply.

    """
    _check_utf8(body)
    try:
        _JSON.decode(body)
    except msgspec.DecodeError as error:
        # The parser refuses a lone surrogate escape, which RFC 8259 section 8.2 allows. With every surrogate escape
        # replaced by another escape of the same length, what is valid stays valid, and what is not stays invalid.
        neutral = _without_surrogates(body)
        if neutral == body:
            raise InvalidJson(_said(error)) from None
        try:
            _JSON.decode(neutral)
        except (msgspec.DecodeError, RecursionError) as second:
            raise InvalidJson(_said(second)) from None
    except RecursionError as error:
        raise InvalidJson(_said(error)) from None
    value = body.strip(_WHITESPACE)
    return value[1:-1].strip(_WHITESPACE) if value[:1] == b"[" else value


def cut_after(stored: bytes, count: int) -> int | None:
    """How many bytes of a record hold its first ``count`` messages; None when it has fewer."""
    if count == 0:
        return 0
    depth, seen = 0, 0
    for token in _TOKEN.finditer(stored):
        match stored[token.start()]:
            case 0x2C if depth == 0:  # ,
                seen += 1
                if seen == count:
                    return token.start()
            case 0x5B | 0x7B:  # [ {
                depth += 1
            case 0x5D | 0x7D:  # ] }
                depth -= 1
            case _:
                pass
    return len(stored) if stored and seen + 1 == count else None


def _check_utf8(body: bytes) -> None:
    # In slices: decoded whole, 16 MiB could take four times as much, and nothing else would run meanwhile.
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    for at in range(0, len(body), _SLICE):
        try:
            decoder.decode(view[at : at + _SLICE], final=at + _SLICE >= len(body))
        except UnicodeDecodeError as error:
            raise InvalidJson(f"not UTF-8 near byte {at + error.start}") from None


def _without_surrogates(body: bytes) -> bytes:
    """``body`` with each surrogate escape replaced; cut before backslashes, so that no escape is in two slices."""
    pieces = []
    at = 0
    while at < len(body):
        end = body.find(b"\\", at + _SLICE)
        end = len(body) if end < 0 else end
        pieces.append(_SURROGATE.sub(rb"\\u0041", body[at:end]))
        at = end
    return b"".join(pieces)


def _said(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).removeprefix("JSON is malformed: ")
