"""JSON mode: one POST body into messages, and messages back into one array (PROTOCOL 9.1).

The bytes of each message are kept as they were sent: numbers keep their digits, duplicate keys stay, and a lone
surrogate escape (which JavaScript's ``JSON.stringify`` really produces when an emoji is cut in two) is accepted.
A record of a JSON stream is its messages joined by commas, so that a page is ``[`` + records joined by ``,`` + ``]``.
"""

import re

import msgspec

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_WHITESPACE = b" \t\r\n"


class InvalidJson(ValueError):
    """The body is not JSON text (RFC 8259); the message says where."""


def split(body: bytes) -> list[bytes]:
    """Flatten exactly one level: the elements of an array, or the one value.

    Returns:
        The messages, each as the bytes that were sent, without the white space around it; empty for ``[]``.

    Raises:
        InvalidJson: not UTF-8, not JSON, or nested too deeply.

    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8 at byte {error.start}") from None
    try:
        return _split(body)
    except msgspec.DecodeError as error:
        # The parser refuses a lone surrogate escape, which RFC 8259 section 8.2 allows. Every surrogate escape is
        # replaced by another escape of the same length: what is valid stays valid, what is not stays invalid, and
        # the messages are cut out of the original at the same places.
        neutral = _SURROGATE.sub(rb"\\u0041", body)
        if neutral == body:
            raise InvalidJson(_said(error)) from None
        try:
            return _cut(body, neutral, _split(neutral))
        except (msgspec.DecodeError, RecursionError) as second:
            raise InvalidJson(_said(second)) from None
    except RecursionError as error:
        raise InvalidJson(_said(error)) from None


def join(messages: list[bytes]) -> bytes:
    """The record of these messages."""
    return b",".join(messages)


def cut_after(record: bytes, count: int) -> int | None:
    """How many bytes of ``record`` hold its first ``count`` messages; None when it has fewer."""
    try:
        messages = split(b"[" + record + b"]")
    except InvalidJson:
        # One level deeper than when it was accepted: it may now be nested too deeply to be cut.
        return None
    return len(join(messages[:count])) if count <= len(messages) else None


def _split(body: bytes) -> list[bytes]:
    if body.lstrip(_WHITESPACE)[:1] == b"[":
        return [bytes(raw) for raw in _ARRAY.decode(body)]
    return [bytes(_VALUE.decode(body))]


def _cut(body: bytes, neutral: bytes, messages: list[bytes]) -> list[bytes]:
    # Between two elements stand only a comma and white space, with which no JSON value begins: the first place where
    # the element's text is found is where it is.
    found: list[bytes] = []
    at = neutral.index(b"[") + 1 if neutral.lstrip(_WHITESPACE)[:1] == b"[" else 0
    for message in messages:
        at = neutral.index(message, at)
        found.append(body[at : at + len(message)])
        at += len(message)
    return found


def _said(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).removeprefix("JSON is malformed: ")
