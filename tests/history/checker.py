"""Judges a history: what was acknowledged is there, once, in order, for everybody; what was refused is not. Pure.

Offsets decide the order, so all of it takes about linear time. Each rule claims only what must be so whenever unknown
operations took effect: nothing it says can be a false alarm. Two of them take the clocks of the nodes for granted, and
how far is told by ``Bounds``.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.history.content import Content, Key, name
from tests.history.live import check_live
from tests.history.producers import check_producers
from tests.history.records import START, Op, offset


class Bounds(NamedTuple):
    """What the clocks of the nodes are allowed to do to sliding windows."""

    early: float = 0.02
    """By which part of itself a window may end too early: clocks that run too fast."""
    late_s: float | None = None
    """By how much more than a tenth one may end too late; None: not judged."""


def check(ops: Sequence[Op], bounds: Bounds | None = None) -> list[str]:
    """Every way in which the answers contradict each other; nothing when they do not."""
    ops = sorted(ops, key=lambda op: op.sent)
    content = Content(ops)
    wrong = list(content.wrong)
    paths: dict[str, list[Op]] = {}
    for op in ops:
        paths.setdefault(op.path, []).append(op)
    wrong += _order(content, ops)
    wrong += _future(content, ops)
    for those in paths.values():
        path = Path(those, bounds or Bounds())
        for rule in (_existence, _freshness, _comes_back, _closed, _reasons, _late):
            wrong += rule(path)
        wrong += check_producers(those, path.may_be_gone)
    wrong += _sources(ops, paths, bounds or Bounds())
    wrong += check_live(content, paths)
    return wrong


class Path:
    """The operations on one path, by when they were sent."""

    def __init__(self, ops: Sequence[Op], bounds: Bounds) -> None:
        self.ops = ops
        self.bounds = bounds
        self.acked = [op for op in ops if op.outcome == "acked" and op.kind != "live"]
        self.deletes = [op for op in ops if op.kind == "delete" and op.outcome != "refused"]
        self.creates = [op for op in ops if op.kind == "create" and op.outcome != "refused"]
        self.closes = [op for op in ops if op.closes and op.outcome != "refused"]
        windows = [op.ttl_s for op in self.creates if op.ttl_s is not None]
        self.shortest = min(windows, default=None)
        self._windows = [op for op in self.acked if _begins_a_window(op)]
        self._touches = _Newest(self._windows, _sent)

    def may_be_gone(self, since: Op, until: Op) -> bool:
        """Whether the stream that was there at ``since`` may have ended before ``until`` was answered."""
        if any(_may_lie_between(since, op, until) for op in self.deletes):
            return True
        if self.shortest is None:
            return False
        if not self._windows or since.sent < self._windows[0].sent:
            return True  # It is not known how it was used at first.
        # Longer than a window between two uses that follow each other, or since the last.
        window = self.shortest * (1 - self.bounds.early)
        touch = self._touches.before(until.sent)
        if touch is None or _end(until) - touch.sent >= window:
            return True
        return any(
            _end(after) - before.sent >= window and before.sent < _end(until) and _end(after) > since.sent
            for before, after in pairwise(self._windows)
        )

    def may_be_made(self, since: Op | None, until: Op) -> bool:
        """Whether a stream may have been made after ``since`` and before ``until`` was answered."""
        return any(op.sent < _end(until) and (since is None or _ends(op) > since.sent) for op in self.creates)


def _begins_a_window(op: Op) -> bool:
    return op.kind == "read" or (op.kind == "create" and not op.existed) or (op.writes and not op.duplicate)


def _end(op: Op) -> float:
    return float("inf") if op.answered is None else op.answered


def _ends(op: Op) -> float:
    """When it took effect at the latest: of what was sent again, the first may arrive after the last."""
    settled = op.outcome != "unknown" and (op.attempts == 1 or op.producer is not None)
    return op.answered if settled and op.answered is not None else float("inf")


def _may_lie_between(since: Op, op: Op, until: Op) -> bool:
    return op is not until and op.sent < _end(until) and _ends(op) > since.sent


class _Newest:
    """Of operations that had been answered before some time, the one that is greatest in something."""

    def __init__(self, ops: Sequence[Op], key: Callable[[Op], float | tuple[int, int]]) -> None:
        answered = sorted((op for op in ops if op.answered is not None), key=_end)
        self._times = [_end(op) for op in answered]
        self._greatest: list[Op] = []
        for op in answered:
            last = self._greatest[-1] if self._greatest else None
            self._greatest.append(op if last is None or key(op) > key(last) else last)

    def before(self, time: float) -> Op | None:
        at = bisect_left(self._times, time)
        return self._greatest[at - 1] if at else None


def _sent(op: Op) -> float:
    return op.sent


def _reached(op: Op) -> tuple[int, int]:
    return offset(op.next)


def _order(content: Content, ops: Sequence[Op]) -> Iterator[str]:
    """No append stands before one that had been acknowledged before it was sent; and each where it was told."""
    by_path: dict[str, list[tuple[int, int, Op]]] = {}
    closes: dict[Key, tuple[int, Op]] = {}
    for op in ops:
        if op.closes and op.outcome == "acked" and op.kind == "append" and op.next != START:
            generation, end = offset(op.next)
            closes[content.key_of(op.path, generation)] = end, op
    for op, key, end in content.placed:
        ended = closes.get(key)
        if ended is not None and end > ended[0]:
            yield f"{name(op)} stands at {end}, behind the end at {ended[0]} that {name(ended[1])} made"
        by_path.setdefault(key[0], []).append((key[1], end, op))
        if op.outcome != "acked" or not op.next:
            continue
        generation, told = offset(op.next)
        # Another attempt came to the stream before, which was made anew since: what was told is of the next one.
        elsewhere = op.attempts > 1 and content.key_of(op.path, generation) != key
        if told != end and not elsewhere:
            yield f"{name(op)} was acknowledged at {op.next} and stands at {end}"
    for those in by_path.values():
        latest: Op | None = None
        for _, _, op in sorted(those, key=lambda each: each[:2]):
            if latest is not None and op.outcome == "acked" and _end(op) < latest.sent:
                yield f"{name(latest)} was sent after {name(op)} was acknowledged, yet stands before it"
            if latest is None or op.sent > latest.sent:
                latest = op


def _future(content: Content, ops: Sequence[Op]) -> Iterator[str]:
    """Nobody reads what was sent only after the read was answered."""
    shown: dict[Key, list[tuple[int, float, Op]]] = {}
    for op in ops:
        if op.kind in ("read", "live") and op.outcome == "acked" and op.body and op.answered is not None:
            generation, end = offset(op.next)
            shown.setdefault(content.key_of(op.path, generation), []).append((end, op.answered, op))
    for those in shown.values():
        those.sort(key=lambda each: each[0])
    first: dict[Key, tuple[float, Op]] = {}
    for op, key, end in sorted(content.placed, key=lambda placed: -placed.end):
        reads = shown.get(key, [])
        while reads and reads[-1][0] >= end:
            _, answered, read = reads.pop()
            if key not in first or answered < first[key][0]:
                first[key] = answered, read
        if key in first and first[key][0] < op.sent:
            yield f"{name(first[key][1])} was answered before {name(op)} was sent, and has it"


def _existence(path: Path) -> Iterator[str]:
    """Nobody is told that a stream is gone, or there, unless it can be."""
    alive = _Newest([op for op in path.acked if op.kind != "delete"], _sent)
    refused = [op for op in path.ops if op.outcome == "refused" and op.why == "gone" and op.kind != "live"]
    gone = _Newest([op for op in path.ops if op.kind == "delete" and op.outcome == "acked"] + refused, _sent)
    for op in refused:
        since = alive.before(op.sent)
        if since is not None and not path.may_be_gone(since, op):
            yield f"{name(op)} found nothing, though {name(since)} found it and nobody deleted it"
    for op in path.acked:
        if op.kind == "create" and not op.existed and op.attempts == 1:
            since = alive.before(op.sent)
            if since is not None and not path.may_be_gone(since, op):
                yield f"{name(op)} made it anew, though {name(since)} found it and nobody deleted it"
            continue
        before = gone.before(op.sent)
        if op.kind != "create" and not path.may_be_made(before, op):
            yield f"{name(op)} found it, though after {name(before) if before else 'the beginning'} nobody made it"


def _freshness(path: Path) -> Iterator[str]:
    """A read that was told it has all has all that anybody was told of before it was sent."""
    told = [op for op in path.ops if op.outcome == "acked" and op.next and op.kind != "create"]
    told += [op for op in path.acked if op.kind == "create" and op.body]
    reached = _Newest(told, _reached)
    for op in path.acked:
        if op.kind != "read" or not op.up_to_date:
            continue
        before = reached.before(op.sent)
        if before is not None and offset(op.next) < offset(before.next) and not path.may_be_gone(before, op):
            yield f"{name(op)} was told that there is no more, though {name(before)} had been answered"


def _comes_back(path: Path) -> Iterator[str]:
    """What was deleted stays so: what comes later has a later generation."""
    spans: dict[int, tuple[Op, Op]] = {}
    for op in path.acked:
        generation = offset(op.next)[0] if op.next and op.kind != "delete" else 0
        if generation:
            first, last = spans.get(generation, (op, op))
            spans[generation] = (first if _end(first) <= _end(op) else op, last if last.sent >= op.sent else op)
    for first, last in spans.values():
        for delete in path.deletes:
            if delete.outcome == "acked" and _end(first) < delete.sent and _end(delete) < last.sent:
                yield f"{name(last)} met what {name(first)} did, which was deleted by {name(delete)}"


def _closed(path: Path) -> Iterator[str]:
    """A closed stream stays closed, and ends where it did."""
    for close in path.closes:
        if close.outcome != "acked":
            continue
        for op in path.acked:
            if op.sent < _end(close) or path.may_be_gone(close, op):
                continue
            if op.kind == "read" and op.up_to_date and not op.closed:
                yield f"{name(op)} was not told that it is closed, though {name(close)} had been acknowledged"
            if op.kind == "read" and op.up_to_date and op.next != close.next:
                yield f"{name(op)} has the end elsewhere than {name(close)}"
            if op.kind == "append" and (op.body or op.next != close.next) and not op.duplicate and op.attempts == 1:
                yield f"{name(op)} was acknowledged after {name(close)}"
    for op in path.acked:
        if op.kind == "read" and op.closed and not any(close.sent < _end(op) for close in path.closes):
            yield f"{name(op)} was told that it is closed, which nobody asked for"


def _reasons(path: Path) -> Iterator[str]:
    """Nobody is refused as "closed" before somebody asked for that."""
    for op in path.ops:
        if op.outcome == "refused" and op.why == "closed" and not any(c.sent < _end(op) for c in path.closes):
            yield f"{name(op)} was refused as closed, which nobody asked for"


def _late(path: Path) -> Iterator[str]:
    """A window that nobody renewed ends, some time."""
    late_s = path.bounds.late_s
    windows = [op.ttl_s for op in path.creates]
    if late_s is None or not windows or None in windows:
        return
    bound = max(each for each in windows if each is not None) * 1.1 + late_s
    touch: float | None = None
    for op in path.ops:
        if op.outcome == "refused":
            continue
        alive = op.outcome == "acked" and op.kind != "live" and not (op.kind == "create" and not op.existed)
        if alive and touch is not None and op.sent - touch > bound:
            yield f"{name(op)} found it, though nobody had used it for {op.sent - touch:.1f} s"
        touch = max(touch or 0.0, _ends(op))


def _sources(ops: Sequence[Op], paths: Mapping[str, Sequence[Op]], bounds: Bounds) -> Iterator[str]:
    """No fork is refused for want of a source that is there."""
    for op in ops:
        if op.outcome == "refused" and op.why == "source" and op.source in paths:
            path = Path(paths[op.source], bounds)
            since = _Newest([each for each in path.acked if each.kind != "delete"], _sent).before(op.sent)
            if since is not None and not path.may_be_gone(since, op):
                yield f"{name(op)} found no source, though {name(since)} found it and nobody deleted it"
