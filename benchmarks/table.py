"""Medians of rounds, and the table that is printed."""

import statistics
from typing import Any


def medians(results: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        row: {
            name: {key: statistics.median(each[key] for each in rounds if key in each) for key in rounds[0]}
            for name, rounds in servers.items()
        }
        for row, servers in results.items()
    }


def print_table(report: dict[str, Any]) -> None:
    names = list(report["servers"])
    others = [name for name in names if name != "ours"]
    print(f"\n{report['machine']['cpus']} CPUs; medians of {report['options']['rounds']} rounds")
    for name, title in report["servers"].items():
        print(f"  {name}: {title}")
    ratios = [f"ours/{name}" for name in others] if "ours" in names else []
    _line("", names, ratios)
    for row, servers in report["medians"].items():
        if "traced" in row:
            continue
        rates = {name: figures["rate"] for name, figures in servers.items()}
        found = [f"{rates['ours'] / rates[name]:.2f}" if name in rates else "" for name in others] if ratios else []
        _line(row, [f"{rates[name]:,.0f}" if name in rates else "" for name in names], found)
        if any("p99_ms" in figures for figures in servers.values()):
            _line("  p50 / p99, ms", [_latency(servers.get(name, {})) for name in names], [])
        if any(figures.get("failed") for figures in servers.values()):
            _line(
                "  failed, not counted above", [f"{servers.get(name, {}).get('failed', 0):,.0f}" for name in names], []
            )
    _syncs(report, names)


def _syncs(report: dict[str, Any], names: list[str]) -> None:
    print("\nappends for each sync of the disk (n/a: not counted; none: it never synced)")
    _line("", names, [])
    for row, servers in report["medians"].items():
        if "traced" in row:
            cells = [_traced(servers.get(name)) for name in names]
            _line(f"{row.removeprefix('traced: ')}, by strace", cells, [])
        elif any("appends_per_sync" in figures for figures in servers.values()):
            cells = [f"{servers.get(name, {}).get('appends_per_sync', 0):.1f}" for name in names]
            _line(
                f"{row.removeprefix('appends/s, ')}, by its own count",
                [cell if cell != "0.0" else "n/a" for cell in cells],
                [],
            )


def _latency(figures: dict[str, float]) -> str:
    return f"{figures['p50_ms']:.2f} / {figures['p99_ms']:.2f}" if "p50_ms" in figures else ""


def _traced(figures: dict[str, float] | None) -> str:
    if figures is None:
        return "n/a"
    return f"{figures['appends'] / figures['calls']:.1f}" if figures["calls"] else "none"


def _line(row: str, cells: list[str], ratios: list[str]) -> None:
    print(f"{row:48}" + "".join(f"{cell:>16}" for cell in cells) + "".join(f"{ratio:>14}" for ratio in ratios))
