"""Appends as they are stored: each by itself, or several that came together."""

from collections.abc import Iterable
from itertools import accumulate
from random import Random

from durable_streams_cluster.streams.view import Record


def alone(*bodies: bytes, begins: int = 0) -> list[Record]:
    """Each by itself, the first from position ``begins`` on."""
    ends = accumulate(map(len, bodies), initial=begins)
    next(ends)
    return [Record(end, body) for end, body in zip(ends, bodies, strict=True)]


def together(*bodies: bytes, begins: int = 0) -> Record:
    """All in one, the first from position ``begins`` on."""
    *cuts, size = accumulate(map(len, bodies))
    return Record(begins + size, b"".join(bodies) if cuts else bodies[0], tuple(cuts))


def somehow(random: Random, bodies: Iterable[bytes], begins: int = 0) -> list[Record]:
    """Some of them together."""
    found: list[Record] = []
    waiting: list[bytes] = []
    for body in bodies:
        waiting.append(body)
        if random.random() < 0.5:
            found.append(together(*waiting, begins=begins))
            begins, waiting = found[-1].end, []
    return [*found, together(*waiting, begins=begins)] if waiting else found
