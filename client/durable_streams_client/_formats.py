"""Streams as files: which bytes stand for which records. Pure.

``raw``: the data and nothing else; of a JSON stream, a message a line. ``jsonl``: a JSON value a line; of a JSON stream
its messages; of others an append each, as a string, or as ``{"base64": ...}`` where it is no text. ``delimited``: of
each record its length, in four bytes with the highest first, and the record.
"""

import base64
import binascii
import json
import struct
from collections.abc import Iterator

from durable_streams_client._encoding import messages_of
from durable_streams_client.types import Page

FORMATS = ("raw", "jsonl", "delimited")
MAX_RECORD_BYTES = 64 * 1024 * 1024
"""No append is larger."""
_LENGTH = struct.Struct(">I")


def default_format(*, json_stream: bool) -> str:
    """What a file holds when nobody says."""
    return "jsonl" if json_stream else "raw"


def exported(page: Page, format_: str) -> bytes:
    """The bytes of a page.

    Raises:
        ValueError: appends cannot be told from each other, as over HTTP.

    """
    if page.is_json:
        records = messages_of(page)
        if format_ == "delimited":
            return b"".join(_LENGTH.pack(len(each)) + each for each in records)
        return b"".join(each + b"\n" for each in records)
    if format_ == "raw":
        return page.data
    if not page.stream:
        raise ValueError(
            f"over HTTP nobody can tell appends from each other, as {format_} does: use raw, or --target HOST:GRPC"
        )
    if format_ == "jsonl":
        return b"".join(json.dumps(_value(each), ensure_ascii=False).encode() + b"\n" for each in page.bodies)
    return b"".join(_LENGTH.pack(len(each)) + each for each in page.bodies)


def _value(body: bytes) -> object:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


class Importer:
    """Records of a file, as its bytes come."""

    def __init__(self, format_: str, *, json_stream: bool) -> None:
        self._format = format_
        self._json_stream = json_stream
        self._rest = b""
        self._line = 0

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Those that are whole with these bytes. Raises ValueError."""
        if self._format == "raw" and not self._json_stream:
            if block:
                yield block
            return
        self._rest += block
        if self._format == "delimited":
            yield from self._delimited()
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            yield from self._of_line(line)
        if len(self._rest) > MAX_RECORD_BYTES:
            raise ValueError(f"line {self._line + 1} is longer than {MAX_RECORD_BYTES} bytes")

    def end(self) -> Iterator[bytes]:
        """Those that the end makes whole. Raises ValueError when the last one is not."""
        if self._rest and self._format == "delimited":
            raise ValueError(f"the file ends in the middle of a record, {len(self._rest)} bytes after the one before")
        rest, self._rest = self._rest, b""
        yield from self._of_line(rest)

    def _delimited(self) -> Iterator[bytes]:
        at = 0
        while at + _LENGTH.size <= len(self._rest):
            (size,) = _LENGTH.unpack_from(self._rest, at)
            if size > MAX_RECORD_BYTES:
                raise ValueError(f"a record of {size} bytes: is this a file of length-delimited records?")
            end = at + _LENGTH.size + size
            if end > len(self._rest):
                break
            if size:
                yield self._rest[at + _LENGTH.size : end]
            at = end
        self._rest = self._rest[at:]

    def _of_line(self, line: bytes) -> Iterator[bytes]:
        self._line += 1
        line = line.strip()
        if not line:
            return
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {self._line} is not JSON: {error}") from None
        if self._json_stream:
            yield line
        elif isinstance(value, str):
            yield value.encode()
        elif isinstance(value, dict) and value.keys() == {"base64"}:
            try:
                yield base64.b64decode(value["base64"], validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise ValueError(f"line {self._line}: base64 is not base64") from None
        else:
            raise ValueError(
                f'line {self._line} is neither a string nor {{"base64": ...}}: is it a JSON stream (--json)?'
            )
