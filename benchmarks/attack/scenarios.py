"""The attacks, by name: groups of hostile connections, and what the writer of the hot stream does meanwhile."""

from typing import Any

PAGES, PAGE_APPENDS, PAGE_BYTES = "attack/pages", 24_000, 1_000
SMALL, SMALL_APPENDS, SMALL_BYTES = "attack/small", 60_000, 100
LARGE, LARGE_APPENDS, LARGE_BYTES = "attack/large", 5, 16 * 1024 * 1024
HOT, CALM = "attack/hot", "attack/calm"
START = "-1"

Group = dict[str, Any]


def offsets(generation: str, size: int, appends: int, count: int) -> list[str]:
    """So many different places in a stream of equal appends, in its first two thirds."""
    step = max(1, appends * 2 // 3 // count)
    return [START, *(f"{generation}_{size * step * number:016d}" for number in range(1, count))]


def readers(name: str, count: int, targets: list[list[str]], every_s: float = 0.0) -> Group:
    return {"kind": "reader", "name": name, "count": count, "targets": targets, "every_s": every_s}


def everywhere(path: str, places: list[str]) -> list[list[str]]:
    """Catch-up and SSE in turn, each at another place."""
    modes = ("", "&live=sse")
    return [[path, f"offset={place}{modes[number % 2]}"] for number, place in enumerate(places)]


def half_open(count: int) -> list[Group]:
    kinds = {"request-line": 0.2, "headers": 0.3, "many-headers": 0.1, "no-body": 0.2, "dribble": 0.2}
    return [{"kind": kind, "count": round(count * part), "every_s": 2.0} for kind, part in kinds.items()]


def all_scenarios(count: int, generation: str) -> dict[str, list[Group]]:
    """``count`` is the number of readers: 500 in the acceptance."""
    same = [[PAGES, "offset=-1"], [PAGES, "offset=-1&live=sse"], [PAGES, "offset=-1&live=long-poll"]]
    hot = [[HOT, "offset=now&live=sse"]]
    pages = everywhere(PAGES, offsets(generation, PAGE_BYTES, PAGE_APPENDS, count))
    small = everywhere(SMALL, offsets(generation, SMALL_BYTES, SMALL_APPENDS, count))
    large = everywhere(LARGE, offsets(generation, LARGE_BYTES, LARGE_APPENDS, LARGE_APPENDS)) * 2
    heads = [{"kind": "huge-head", "count": 8}]
    return {
        "nobody": [],
        "hot-100B": [readers("hot-100B", count, hot)],
        "hot-10kB": [readers("hot-10kB", count, hot)],
        "same-page": [readers("same-page", count, same)],
        "pages": [readers("pages", count, pages)],
        "small-pages": [readers("small-pages", count, small)],
        "16MiB": [readers("16MiB", count, large)],
        "slow": [readers("slow", count, pages, every_s=3.0)],
        "half-open": half_open(2 * count),
        "fat-bodies": [{"kind": "fat-body", "count": 50}],
        "pipelined": [{"kind": "pipelined", "count": 2 * count}],
        "headers": heads,
        "acceptance": [readers("hot", count, hot), *half_open(2 * count), *heads],
        "all": [
            readers("hot", count // 4, hot),
            readers("same-page", count // 4, same),
            readers("pages", count // 4, pages),
            readers("slow", count - 3 * (count // 4), pages, every_s=3.0),
            *half_open(2 * count),
            *heads,
        ],
    }


WRITES = {"hot-100B": (100, 20), "hot-10kB": (10_000, 20), "acceptance": (10_000, 20), "all": (10_000, 20)}
"""Bytes and appends a second of the hot stream's writer; else one of 100 bytes a second, so that it stays warm."""
