"""Compares a history with what was found after a restart. Pure: it knows no server and no clock.

Every acknowledged operation must be there, exactly once; an unknown one wholly or not at all; a refused one not.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.system.kill.history import Found, History, Kind, Op, Outcome, genuine, label

GONE = {404, 410}
CREATES = {Kind.CREATE, Kind.FORK}


def check(history: History, found: Mapping[str, Found]) -> list[str]:
    """Every way in which what was found contradicts the history; nothing when it does not."""
    return [f"{path}: {wrong}" for path in found for wrong in _stream(history, found, path)]


def resolve(history: History, found: Mapping[str, Found]) -> None:
    """Settle what was unknown by what was found: from now on it must stay so. Batches are left to be sent again."""
    for path, state in found.items():
        labels = {label(text) for text in state.records or ()}
        for op in history.by_path[path]:
            if op.outcome is not Outcome.UNKNOWN or (op.kind is Kind.BATCH and state.records is not None):
                continue
            if op.kind is Kind.DELETE:
                there = state.status in GONE
            elif op.records:
                there = label(op.records[0]) in labels
            elif op.kind is Kind.CLOSE:
                there = state.closed
            else:
                there = state.records is not None
            history.answer(op, Outcome.ACKED if there else Outcome.REFUSED, note="settled by what was found")
            op.offset = state.tail if op.closes and there else op.offset


def _stream(history: History, found: Mapping[str, Found], path: str) -> Iterator[str]:
    ops, state = history.by_path[path], found[path]
    made = next(op for op in ops if op.kind in CREATES)
    deletes = [op for op in ops if op.kind is Kind.DELETE and op.outcome is not Outcome.REFUSED]
    deleted = any(op.outcome is Outcome.ACKED for op in deletes)
    if state.records is None:
        yield from _absent(history, path, state, made, deletes)
    elif state.status != 200:
        yield f"answers {state.status}"
    elif made.outcome is Outcome.REFUSED:
        yield "exists, though its creation was refused"
    elif deleted:
        yield "exists, though its deletion was acknowledged"
    else:
        yield from _content(history, found, path, state.records)
        yield from _ending(ops, state, {label(text): position for position, text in enumerate(reversed(state.records))})
    yield from _refusals(ops)


def _absent(history: History, path: str, state: Found, made: Op, deletes: Sequence[Op]) -> Iterator[str]:
    if state.status not in GONE:
        yield f"answers {state.status}"
    elif made.outcome is Outcome.ACKED and not deletes:
        yield f"answers {state.status}, though its creation was acknowledged and nobody deleted it"
    forks = [op for op in history.forks[path] if op.outcome is not Outcome.REFUSED]
    if state.status == 410 and not forks:
        yield "is 410 Gone, though it never had a fork"
    for fork in forks:
        gone = any(op.kind is Kind.DELETE and op.outcome is not Outcome.REFUSED for op in history.by_path[fork.path])
        if state.status == 404 and fork.outcome is Outcome.ACKED and not gone and made.outcome is Outcome.ACKED:
            yield f"is 404, though its fork {fork.path} lives: it should be 410"


def _content(history: History, found: Mapping[str, Found], path: str, texts: tuple[str, ...]) -> Iterator[str]:
    yield from (f"torn or altered record {text[:80]!r}" for text in texts if not genuine(text))
    labels = [label(text) for text in texts]
    place = {name: position for position, name in enumerate(labels)}
    if len(place) != len(labels):
        twice = sorted({name for name in labels if labels.count(name) > 1})
        yield f"{len(twice)} records more than once, such as {twice[:3]}"
        return
    inherited, unknown_there = _inherited(history, path)
    own = [op for op in history.by_path[path] if op.records]
    mine = {label(text) for op in own for text in op.records}
    start = next((position for position, name in enumerate(labels) if name in mine), len(labels))
    yield from _prefix(history, found, path, (labels[:start], inherited, unknown_there))
    if foreign := [name for name in labels[start:] if name not in mine]:
        yield f"records nobody appended, or inherited ones after its own: {foreign[:3]}"
    there = [op for op in own if label(op.records[0]) in place]
    for op in own:
        positions = [place.get(label(text)) for text in op.records]
        first = positions[0]
        whole = first is not None and positions == list(range(first, first + len(positions)))
        if op.outcome is Outcome.REFUSED and any(position is not None for position in positions):
            yield f"{_name(op)} is there, though it was refused ({op.note})"
        elif op.kind is Kind.CREATE and not whole:
            yield f"{_name(op)} made the stream; its records are lost"
        elif op.outcome is Outcome.ACKED and not whole:
            lost = sum(position is None for position in positions)
            yield f"{_name(op)} was acknowledged; of its {len(positions)} records {lost} are lost, or they are apart"
        elif not whole and any(position is not None for position in positions):
            yield f"{_name(op)} is there in part"
    yield from _order(sorted(there, key=lambda op: place[label(op.records[0])]))


def _inherited(history: History, path: str) -> tuple[dict[str, bool], set[str]]:
    """What a fork may hold of its source: every label with whether it must be there, and those it must not hold."""
    made = next(op for op in history.by_path[path] if op.kind in CREATES)
    if made.kind is not Kind.FORK:
        return {}, set()
    may, never = _inherited(history, made.source)
    for op in history.by_path[made.source]:
        known = op.outcome is Outcome.ACKED and op.offset != ""
        for text in op.records:
            if op.outcome is Outcome.REFUSED or (known and op.offset > made.offset):
                never.add(label(text))
            else:
                may[label(text)] = known
    return may, never


def _prefix(
    history: History, found: Mapping[str, Found], path: str, claim: tuple[list[str], dict[str, bool], set[str]]
) -> Iterator[str]:
    prefix, may, never = claim
    if wrong := [name for name in prefix if name in never or name not in may]:
        yield f"inherited what it should not have, or records nobody appended: {wrong[:3]}"
    if lost := [name for name, must in may.items() if must and name not in set(prefix)]:
        yield f"{len(lost)} inherited records are lost, such as {lost[:3]}"
    made = next(op for op in history.by_path[path] if op.kind in CREATES)
    source = found.get(made.source)
    if source is not None and source.records is not None:
        there = [label(text) for text in source.records[: len(prefix)]]
        if there != prefix and not wrong:
            yield f"what it inherited is not the beginning of {made.source}"


def _order(ops: Sequence[Op]) -> Iterator[str]:
    """Operations as they stand in the stream: offsets rise, and none stands before what ended before it began."""
    known = [op for op in ops if op.offset and op.outcome is Outcome.ACKED]
    for before, after in itertools.pairwise(known):
        if before.offset >= after.offset:
            yield f"{_name(before)} at {before.offset} stands before {_name(after)} at {after.offset}"
    latest: Op | None = None
    for op in ops:
        if latest is not None and op.answered is not None and op.answered < latest.sent:
            yield f"{_name(latest)} was sent after {_name(op)} was acknowledged, yet stands before it"
        if latest is None or op.sent > latest.sent:
            latest = op


def _ending(ops: Sequence[Op], state: Found, from_end: Mapping[str, int]) -> Iterator[str]:
    closes = [op for op in ops if op.closes and op.outcome is not Outcome.REFUSED]
    done = [op for op in closes if not op.records or label(op.records[-1]) in from_end]
    if state.closed and closes and not done:
        yield "is closed, though what closed it is not there"
    for op in done:
        if op.records and not state.closed:
            yield f"{_name(op)} is there, without the close that came with it"
        elif op.records and from_end[label(op.records[-1])] != 0:
            yield f"{_name(op)} closed it, yet more stands behind"
    acked = [op for op in closes if op.outcome is Outcome.ACKED]
    if state.closed and not closes:
        yield "is closed, though nobody closed it"
    if acked and not state.closed:
        yield f"is open, though {_name(acked[0])} was acknowledged"
    for op in acked:
        if op.offset and state.closed and op.offset != state.tail:
            yield f"ends at {state.tail}, though it was closed at {op.offset}"
    offsets = [op.offset for op in ops if op.outcome is Outcome.ACKED and op.offset]
    if offsets and max(offsets) > state.tail:
        yield f"ends at {state.tail}, before an acknowledged {max(offsets)}"
    unsettled = any(op.outcome is Outcome.UNKNOWN or not op.offset for op in ops if op.outcome is not Outcome.REFUSED)
    if offsets and not unsettled and max(offsets) != state.tail:
        yield f"ends at {state.tail}, beyond the last acknowledged {max(offsets)}"


def _refusals(ops: Sequence[Op]) -> Iterator[str]:
    """A refusal needs its reason: nobody is told "closed" or "gone" before somebody has asked for that."""
    reasons: dict[str, Callable[[Op], bool]] = {
        "closed": lambda op: op.closes,
        "gone": lambda op: op.kind is Kind.DELETE,
    }
    for op in ops:
        reason = reasons.get(op.note)
        if op.outcome is Outcome.REFUSED and reason is not None:
            begun = any(
                reason(other) and other.sent < (op.answered or 0) and other.outcome is not Outcome.REFUSED
                for other in ops
            )
            if not begun:
                yield f"{_name(op)} was refused as {op.note}, which it was not"


def _name(op: Op) -> str:
    return f"{op.kind.value} {label(op.records[0])}" if op.records else f"{op.kind.value} of worker {op.worker}"
