"""Which records leave together. Pure: time is an argument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProducerLimits:
    """Bounds of a producer. Sizes in bytes, times in seconds."""

    batch_bytes: int = 256 * 1024
    """A batch is one append: at most so large, unless one record is larger."""
    batch_records: int = 5_000
    linger_s: float = 0.0
    """How long a record waits for others while a batch could leave. With 0 none waits: a batch is what gathered while
    as many as may be under way were."""
    in_flight: int = 8
    """Batches that left and are not acknowledged."""
    buffered_bytes: int = 8 * 1024 * 1024
    """Records that are not acknowledged, each with 128 bytes of what is known of it; an append waits for room."""
    delivery_timeout_s: float = 120.0
    """A batch that is not acknowledged after so long fails, and with it the producer."""

    def __post_init__(self) -> None:
        """Raise ValueError when a bound is none."""
        for name in ("batch_bytes", "batch_records", "in_flight", "buffered_bytes", "delivery_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.linger_s < 0:
            raise ValueError("linger_s must not be less than 0")


RECORD_COST = 128
"""Bytes that a record takes beside its own, until it is acknowledged."""


class Accumulator:
    """Records that wait to leave, in their order."""

    def __init__(self, limits: ProducerLimits) -> None:
        self._limits = limits
        self._most_bytes, self._most_records = limits.batch_bytes, limits.batch_records
        self._records: list[bytes] = []
        self._bytes = 0
        self._since_s = 0.0

    def __len__(self) -> int:
        return len(self._records)

    def fits(self, size: int) -> bool:
        """Whether a record of ``size`` bytes may be in the batch that gathers."""
        records = self._records
        within = self._bytes + size < self._most_bytes and len(records) < self._most_records
        return within or not records

    def add(self, record: bytes, now_s: float) -> None:
        """One more, which fits."""
        if not self._records:
            self._since_s = now_s
        self._records.append(record)
        self._bytes += len(record) + 1

    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return self._bytes >= self._most_bytes or len(self._records) >= self._most_records

    def waits_s(self, now_s: float) -> float:
        """How long (seconds) it may yet wait for others."""
        return max(0.0, self._since_s + self._limits.linger_s - now_s)

    def take(self) -> list[bytes]:
        """All of them."""
        records, self._records, self._bytes = self._records, [], 0
        return records
