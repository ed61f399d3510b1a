"""What is measured: rows of the table, each with who takes part, and what is wanted of ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Figures = dict[str, float]
"""What one take found; ``rate`` is what rows are compared by."""
Take = Callable[[float], Figures]
"""Measures for about so many seconds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    number: str
    """As the table of targets has it, and what tells lines of one number apart."""
    title: str
    unit: str
    takes: Mapping[str, Take]
    """By name of who takes part; ``ours`` is what is judged."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """Ours is wanted to be so many times as much as theirs."""
    least: float | None = None
    """And so much."""
    most: float | None = None
    """Or, of what had better be little, no more than this."""
    once: bool = False
    """Taken in the first round alone: it takes long."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one target came to."""

    target: str
    reached: float
    wanted: float
    met: bool
    at_half: bool
    """At least half of it is reached."""


def verdicts(row: Row, medians: Mapping[str, Figures]) -> list[Verdict]:
    """Of each target of a row whose sides were measured."""
    if "ours" not in medians:
        return []
    ours = medians["ours"]["rate"]
    found = []
    for name, wanted in row.ratios.items():
        if name in medians and medians[name]["rate"]:
            ratio = ours / medians[name]["rate"]
            found.append(Verdict(f">= {wanted:g} x {name}", ratio, wanted, ratio >= wanted, ratio >= wanted / 2))
    if row.least is not None:
        found.append(
            Verdict(f">= {row.least:,g} {row.unit}", ours, row.least, ours >= row.least, ours >= row.least / 2)
        )
    if row.most is not None:
        found.append(Verdict(f"<= {row.most:,g} {row.unit}", ours, row.most, ours <= row.most, ours <= row.most * 2))
    return found
