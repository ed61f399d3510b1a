"""What a benchmark measured, in figures: a table for people, JSON for programs. Pure: times are arguments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from durable_streams_client._admin_text import table

PHASES: Mapping[str, str] = {
    "produce": "records through one Producer, as fast as it takes them, until all are acknowledged",
    "append": "plain appends, --concurrency of them at a time: how long each waits until it is acknowledged",
    "deliver": "one append at a time: how long until whoever follows the stream has it",
    "read": "what produce wrote, from its start, again and again; without produce it is written first",
}
"""What is measured, in this order."""
_HEAD = ("PHASE", "RECORDS", "SECONDS", "RECORDS/S", "MB/S", "P50 MS", "P99 MS", "MAX MS")


@dataclass(frozen=True, slots=True)
class Measured:
    """One phase."""

    phase: str
    records: int
    size: int
    """Bytes of each record."""
    seconds: float
    """From the first one begun to the last one done."""
    latencies_s: Sequence[float] = ()
    """Of each record, in seconds; empty where none is measured."""

    @property
    def records_per_s(self) -> float:
        """Records a second; 0 when it took no time that the clock could tell."""
        return self.records / self.seconds if self.seconds else 0.0

    @property
    def megabytes_per_s(self) -> float:
        """Millions of bytes a second, as ``records_per_s``."""
        return self.records_per_s * self.size / 1e6

    @property
    def milliseconds(self) -> tuple[float, float, float] | None:
        """The latency that half of the records had at most, that 99 % had, and the longest; None: none is measured."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return percentile(ordered, 50) * 1e3, percentile(ordered, 99) * 1e3, ordered[-1] * 1e3


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the least of the values that ``percent`` (1 to 100) of them do not exceed.

    It is one that was measured: none is made up between two.

    Args:
        ordered: the values from the least on, at least one.
        percent: a whole number, so that no fraction is rounded to the next place.

    """
    return ordered[-(-percent * len(ordered) // 100) - 1]


def as_text(measured: Sequence[Measured]) -> str:
    """Return a head and a row for each phase, each with its line end."""
    return "".join(f"{line}\n" for line in table([_HEAD, *map(_row, measured)]))


def as_json(about: Mapping[str, object], measured: Sequence[Measured]) -> str:
    """Return the same for programs, in one line: what was asked for, and ``phases``, with null for no latency."""
    return json.dumps({**about, "phases": [*map(_fields, measured)]}, ensure_ascii=False) + "\n"


def _row(each: Measured) -> Sequence[str]:
    rates = f"{each.seconds:.2f}", f"{each.records_per_s:,.0f}", f"{each.megabytes_per_s:.2f}"
    times = [f"{time:.2f}" for time in each.milliseconds or ()] or ["-"] * 3
    return each.phase, f"{each.records:,}", *rates, *times


def _fields(each: Measured) -> dict[str, object]:
    times = each.milliseconds
    return {
        "phase": each.phase,
        "records": each.records,
        "seconds": round(each.seconds, 6),
        "recordsPerSecond": round(each.records_per_s, 3),
        "megabytesPerSecond": round(each.megabytes_per_s, 6),
        "latencyMs": times and dict(zip(("p50", "p99", "max"), (round(time, 3) for time in times), strict=True)),
    }
