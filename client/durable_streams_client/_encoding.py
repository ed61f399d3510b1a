"""What users append, as bytes. Pure."""

import json
import re
from typing import Any

from durable_streams_client.types import Page, is_json

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n,]*")


def encode(data: Any, content_type: str) -> bytes:
    """The body of an append. Raises TypeError, ValueError: it is nothing that a stream of this type holds."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if is_json(content_type):
        return b"[" + message(data) + b"]"  # One message, also if it is an array.
    if isinstance(data, str):
        return data.encode()
    raise TypeError(f"a stream of {content_type} holds bytes or str, not {type(data).__name__}")


def message(data: Any) -> bytes:
    """One JSON message."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def dumped(value: Any, separators: tuple[str, str] | None = None) -> bytes:
    """A JSON value to be read: as it is, or with escapes where it has what UTF-8 cannot say."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=separators).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=separators).encode()


def encode_record(record: Any, content_type: str) -> bytes:
    """One of many that leave together. Raises TypeError, ValueError: it is nothing that a stream of this type holds."""
    if type(record) is bytes:
        data = record
    elif is_json(content_type) and not isinstance(record, bytes | bytearray | memoryview):
        return message(record)
    else:
        data = encode(record, content_type)
    if not data:
        raise ValueError("a record is not empty")
    return data


def messages_of(page: Page) -> list[bytes]:
    """The messages of a page as they were sent, but for line ends between their parts."""
    text = page.data.decode()
    found: list[bytes] = []
    at = 1
    while (at := _SPACE.match(text, at).end()) < len(text) - 1:  # type: ignore[union-attr]
        _, end = _DECODER.raw_decode(text, at)
        each = text[at:end]
        found.append(dumped(json.loads(each), (",", ":")) if "\n" in each or "\r" in each else each.encode())
        at = end
    return found
