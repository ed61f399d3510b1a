"""What a workload did and what was found afterwards: the two things the checker compares.

Time is a counter that every sent request and every received answer moves on, so "before" has one meaning.
"""

import dataclasses
import enum
import zlib
from collections import defaultdict


class Kind(enum.Enum):
    CREATE = "create"
    APPEND = "append"
    BATCH = "producer batch"
    CLOSE = "close"
    FORK = "fork"
    DELETE = "delete"


class Outcome(enum.Enum):
    ACKED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclasses.dataclass(slots=True)
class Op:
    """One operation. A batch that is sent again, with the same sequence number, stays one operation."""

    kind: Kind
    path: str
    worker: int
    sent: int
    records: tuple[str, ...] = ()
    """What it appends, all of it or nothing."""
    outcome: Outcome = Outcome.UNKNOWN
    answered: int | None = None
    offset: str = ""
    """Stream-Next-Offset of the answer; for a fork, the offset it was asked to fork at."""
    source: str = ""
    closes: bool = False
    producer: tuple[str, int, int] | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One stream as read after the restart. `records` is None when it could not be read (404, 410)."""

    status: int
    records: tuple[str, ...] | None = None
    closed: bool = False
    tail: str = ""


class History:
    """Every operation, in the order sent, and the clock."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.by_path: defaultdict[str, list[Op]] = defaultdict(list)
        self.forks: defaultdict[str, list[Op]] = defaultdict(list)
        self._now = 0

    def tick(self) -> int:
        self._now += 1
        return self._now

    def send(self, op: Op) -> Op:
        self.ops.append(op)
        self.by_path[op.path].append(op)
        if op.source:
            self.forks[op.source].append(op)
        return op

    def answer(self, op: Op, outcome: Outcome, offset: str = "", note: str = "") -> None:
        op.outcome, op.answered, op.note = outcome, self.tick(), note
        op.offset = offset or op.offset

    def count(self, outcome: Outcome) -> dict[str, int]:
        found: defaultdict[str, int] = defaultdict(int)
        for op in self.ops:
            if op.outcome is outcome:
                found[op.kind.value] += 1
        return dict(found)


def record(label: str, size: int) -> str:
    """A record whose text proves itself: its label, filler of the size wanted, and a checksum. No line ends in it."""
    body = f"{label}|{'.' * max(0, size - len(label) - 10)}"
    return f"{body}|{zlib.crc32(body.encode()):08x}"


def genuine(text: str) -> bool:
    body, _, check = text.rpartition("|")
    return check == f"{zlib.crc32(body.encode()):08x}"


def label(text: str) -> str:
    return text.partition("|")[0]
