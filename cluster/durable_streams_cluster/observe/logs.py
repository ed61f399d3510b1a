"""One line a record, for people or for machines; set up once, by ``cli``.

A log line carries what clients sent (paths, headers), so no value may forge a second line or move a terminal's cursor:
every control character leaves escaped, in both formats. Facts go in ``extra={"fields": {...}}``, not into the sentence.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

# Control characters, line separators, bidirectional overrides, and lone surrogates, which no UTF-8 stream can write.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def configure(style: str, level: str, stream: TextIO | None = None) -> None:
    """Send every record of the process to ``stream`` (standard error) as ``text`` or ``json`` lines."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.raiseExceptions = False  # A full disk or closed pipe behind stderr must not raise into the node.
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def escape(text: str) -> str:
    r"""Return ``text`` with everything that a terminal or a line reader would obey written as ``\n``, ``\x1b``, ..."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, ASCII only: ``time``, ``level``, ``logger``, ``message``, fields, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, value)  # A field cannot pose as one of ours.
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """``12:00:00.000Z INFO logger: message key=value``; a traceback follows as indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        words = [_time(record), f"{record.levelname:<7}", f"{record.name.removeprefix('durable_streams_cluster.')}:"]
        words.append(escape(record.getMessage()))
        words += [f"{escape(str(name))}={escape(str(value))}" for name, value in _fields(record).items()]
        line = " ".join(words)
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {escape(row)}" for row in trace.split("\n"))
        return line
