"""The table of what was measured, as Markdown; and plots of it."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Figures, Row, Verdict

Rounds = Mapping[str, Mapping[str, Sequence[Figures]]]
"""Takes by row and by who took them."""
TITLES = {
    "ours": "ours",
    "memory": "reference, in memory",
    "files": "reference, on files",
    "redis": "Redis, appendfsync always",
    "etcd": "etcd, 3 nodes",
    "nats": "NATS R3, no fsync",
    "to the leader": "ours, to the leader",
}


def medians(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    """Of each figure over the rounds, by who."""
    return {
        name: {key: statistics.median(each[key] for each in takes if key in each) for key in takes[0]}
        for name, takes in rounds.items()
    }


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def markdown(rows: Sequence[Row], found: Rounds, verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """One line a row: what ours came to, what each of the others did, and each target with what was reached."""
    lines = ["| row | | ours | others | target: reached |", "|---|---|---|---|---|"]
    for row in rows:
        if row.number not in found:
            continue
        middle = medians(found[row.number])
        ours = _cell(row, middle.get("ours"))
        others = "; ".join(f"{TITLES[name]} {shown(each['rate'])}" for name, each in middle.items() if name != "ours")
        reached = "; ".join(_verdict(each) for each in verdicts[row.number]) or "-"
        lines.append(f"| {row.number} | {row.title} | {ours} {row.unit} | {others or '-'} | {reached} |")
    return "\n".join(lines)


def _cell(row: Row, ours: Figures | None) -> str:
    if ours is None:
        return "-"
    more = []
    if "p99_ms" in ours and row.unit != "ms":
        more.append(f"p50 {ours['p50_ms']:.1f} ms, p99 {ours['p99_ms']:.1f} ms")
    if "appends_per_sync" in ours:
        more.append(f"{ours['appends_per_sync']:.1f} a sync")
    if "grew_mib" in ours:
        more.append(f"+{ours['grew_mib']:.0f} MiB")
    return shown(ours["rate"]) + (f" ({', '.join(more)})" if more else "")


def _verdict(verdict: Verdict) -> str:
    mark = "met" if verdict.met else ("missed" if verdict.at_half else "under half")
    return f"{verdict.target}: {shown(verdict.reached)}, {mark}"


def plots(rows: Sequence[Row], found: Rounds, folder: Path) -> list[Path]:
    """Bars of each unit's rows, by who; empty without matplotlib."""
    try:
        import matplotlib  # noqa: PLC0415

        matplotlib.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError:
        return []
    made = []
    for unit in dict.fromkeys(row.unit for row in rows):
        kept = [row for row in rows if row.unit == unit and row.number in found]
        names = list(dict.fromkeys(name for row in kept for name in found[row.number]))
        if not kept:
            continue
        figure, axes = pyplot.subplots(figsize=(2 + 1.6 * len(kept), 4))
        _bars(axes, kept, names, found)
        axes.set_ylabel(unit)
        figure.tight_layout()
        made.append(folder / f"{unit.replace('/', '-').replace('%', 'percent')}.svg")
        figure.savefig(made[-1])
        pyplot.close(figure)
    return made


def _bars(axes: Any, rows: Sequence[Row], names: Sequence[str], found: Rounds) -> None:
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        at = [number for number, row in enumerate(rows) if name in found[row.number]]
        rates = [medians(found[rows[number].number])[name]["rate"] for number in at]
        axes.bar([number + place * width for number in at], rates, width, label=TITLES[name])
    axes.set_xticks([number + 0.4 - width / 2 for number in range(len(rows))])
    axes.set_xticklabels([f"{row.number}\n{row.title[:24]}" for row in rows], fontsize=7)
    axes.legend(fontsize=7)
