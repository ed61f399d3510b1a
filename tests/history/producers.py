"""Of a history, what producers were told. Pure."""

from collections.abc import Callable, Iterator, Sequence

from tests.history.content import name
from tests.history.records import Op

Between = Callable[[Op, Op], bool]


def check_producers(ops: Sequence[Op], may_be_gone: Between) -> Iterator[str]:
    """Of the operations of one path: each batch is taken when its turn has come, and not before."""
    batches: dict[tuple[str, int], dict[int, list[Op]]] = {}
    for op in ops:
        if op.producer is not None:
            who, epoch, seq = op.producer
            batches.setdefault((who, epoch), {}).setdefault(seq, []).append(op)
    for (who, epoch), by_seq in batches.items():
        newer = [op for (other, e), each in batches.items() if other == who and e > epoch for op in _all(each)]
        for seq, those in by_seq.items():
            for op in those:
                yield from _one(op, by_seq.get(seq - 1, []), newer, may_be_gone)


def _all(by_seq: dict[int, list[Op]]) -> list[Op]:
    return [op for those in by_seq.values() for op in those]


def _one(op: Op, previous: Sequence[Op], newer: Sequence[Op], may_be_gone: Between) -> Iterator[str]:
    assert op.producer is not None
    if op.outcome == "acked":
        if op.duplicate and op.attempts == 1:
            yield f"{name(op)} was sent once, and taken for a duplicate"
        if op.producer[2] > 0 and not any(each.outcome != "refused" and each.sent < _end(op) for each in previous):
            yield f"{name(op)} was taken, though the batch before it was not"
        fenced = [each for each in newer if each.outcome == "acked" and _end(each) < op.sent]
        if fenced and not op.duplicate and not may_be_gone(fenced[0], op):
            yield f"{name(op)} was taken, though {name(fenced[0])} had a newer epoch"
    if op.outcome == "refused" and op.why == "gap":
        for each in previous:
            if each.outcome == "acked" and _end(each) < op.sent and not may_be_gone(each, op):
                yield f"{name(op)} was refused as a gap, though {name(each)} had been acknowledged"
    if op.outcome == "refused" and op.why == "fenced" and not any(each.sent < _end(op) for each in newer):
        yield f"{name(op)} was refused as fenced, by nobody"


def _end(op: Op) -> float:
    return float("inf") if op.answered is None else op.answered
