"""What clients did to streams and were told, as plain records: one JSON object a line, whoever wrote them.

A simulated world and a run of real processes write the same; ``checker.check`` judges both. What the writer owes:

* Time is in seconds of one clock for all clients, and strictly rises from event to event (``Recorder.now``).
* Bodies are text (``text/plain``), so that offsets count their bytes, and each ends with a newline. The first line of
  a body is in no other body (``line``).
* An operation that is sent again, because its outcome was not known, stays one: ``attempts`` counts, ``sent`` is of the
  first. Only producers' appends, and what changes nothing when done twice, may be sent again. Its refusal says nothing
  about the times before: then it stays unknown.
* ``unknown`` is for what may have happened; ``refused`` for what certainly has not, with the reason in ``why``.
* A path that is or was a fork is never used again; a fork is asked for with the offset where it begins.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

START = f"{0:016d}_{0:016d}"
Kind = Literal["create", "append", "delete", "read", "live"]
Outcome = Literal["acked", "refused", "unknown"]
Why = Literal["", "closed", "gone", "exists", "source", "gap", "fenced", "not now", "offset", "other"]
"""gone: no stream there (404, 410). exists: another one is there. source: of a fork, it is not there. gap, fenced: a
producer's. not now: 429, 503, 507. offset: read from where nothing (more) begins."""


class Op(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One operation, or one delivery of a live read."""

    kind: Kind
    path: str
    client: str = ""
    """Who asked. Of ``live``: names the reader, through all its connections."""
    node: str = ""
    """Which was asked first; for people."""
    sent: float
    answered: float | None = None
    outcome: Outcome = "unknown"
    why: Why = ""
    body: str = ""
    """What create or append brings; what read or live got."""
    start: str = ""
    """Of read and live: the offset that was asked from, as ``START`` where the beginning was."""
    next: str = ""
    """Stream-Next-Offset of what was acknowledged."""
    closes: bool = False
    """Create and append: asks to close; an append without a body only closes."""
    closed: bool = False
    """Read and live: was told that the stream is closed, and ends here."""
    up_to_date: bool = False
    """Read: was told that there is no more. Such a read is linearizable."""
    existed: bool = False
    """Create: was told that it was there (200, not 201)."""
    duplicate: bool = False
    """Append of a producer: was told that it was stored before."""
    attempts: int = 1
    producer: tuple[str, int, int] | None = None
    """Id, epoch, sequence."""
    ttl_s: float | None = None
    source: str = ""
    at: str = ""
    """Create: forks ``source`` at this offset."""
    last: bool = False
    """Live: the reader was given all the time it needs, and must have got everything."""

    @property
    def writes(self) -> bool:
        """Whether it brings a body."""
        return bool(self.body) and self.kind in ("create", "append")


def line(label: str, size: int = 0) -> str:
    """A line that proves itself: its label, which nobody else uses, filler up to about ``size``, and a checksum."""
    body = f"{label}|{'.' * max(0, size - len(label) - 11)}"
    return f"{body}|{zlib.crc32(body.encode()):08x}\n"


def offset(text: str) -> tuple[int, int]:
    """Generation and position of an offset."""
    generation, _, position = text.partition("_")
    return int(generation), int(position)


class Recorder:
    """All that was done, and a clock that never shows the same twice."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._last = 0.0

    def now(self, time_s: float) -> float:
        """``time_s``, or a little later if something happened at the same time."""
        self._last = max(time_s, self._last + 1e-6)
        return self._last

    def add(self, op: Op) -> Op:
        """Write down what was begun; its answer is filled in later."""
        self.ops.append(op)
        return op


def dump(ops: Iterable[Op]) -> bytes:
    """As JSON lines."""
    return b"".join(msgspec.json.encode(op) + b"\n" for op in ops)


def load(lines: bytes) -> Iterator[Op]:
    """From JSON lines."""
    return (msgspec.json.decode(each, type=Op) for each in lines.splitlines() if each)
