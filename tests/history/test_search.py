"""The checker against a search that tries every order: silent where one exists, and mostly not where none does."""

from collections.abc import Sequence
from random import Random

from tests.history.checker import check
from tests.history.records import START, Op, line


def at(position: int) -> str:
    return f"{1:016d}_{position:016d}" if position else START


def explained(ops: Sequence[Op], text: str = "", exists: bool = False) -> bool:
    """Whether the operations, each taking effect at one moment while it was under way, can have had these answers.

    One that is unknown may take effect at any time after it was sent, or never.
    """
    left = [op for op in ops if op.outcome != "unknown"]
    if not left:
        return True
    ends = min(op.answered or 0 for op in left)
    for op in ops:
        if op.sent > ends:
            continue
        rest = [other for other in ops if other is not op]
        if op.outcome == "unknown" and explained(rest, text, exists):
            return True
        after = _effect(op, text, exists)
        if after is not None and explained(rest, *after):
            return True
    return False


def _effect(op: Op, text: str, exists: bool) -> tuple[str, bool] | None:
    if op.kind == "create":
        return (text, True) if not exists else None
    if op.outcome == "refused":
        return (text, exists) if not exists else None
    if not exists:
        return None
    if op.kind == "append":
        grown = text + op.body
        return (grown, True) if op.outcome == "unknown" or op.next == at(len(grown)) else None
    return (text, True) if op.body == text else None


def made_up(random: Random) -> list[Op]:
    """A few operations on one stream with answers that may be true: a right run, in which something was changed."""
    ops: list[Op] = []
    text, exists = "", False
    for number in range(random.randint(3, 6)):
        kind = "create" if number == random.choice((0, 0, 1)) and not exists else random.choice(("append", "read"))
        op = Op(kind=kind, path="s", client=f"c{number}", sent=number - random.uniform(0, 1), outcome="acked")  # type: ignore[arg-type]
        op.answered = number + random.uniform(0, 1)
        if kind == "create":
            exists, op.next = True, START
        elif not exists:
            op.outcome, op.why = "refused", "gone"
            op.body = line(f"x{number}") if kind == "append" else ""
        elif kind == "append":
            op.body = line(f"x{number}")
            text += op.body
            op.next = at(len(text))
        else:
            op.body, op.start, op.next, op.up_to_date = text, START, at(len(text)), True
        if kind == "append" and random.random() < 0.2:
            op.outcome, op.next, op.why, op.answered = "unknown", "", "", None
        ops.append(op)
    return ops


def change(random: Random, ops: list[Op]) -> None:
    """Give some operation another time, or a read another answer."""
    op = random.choice(ops)
    reads = [each for each in ops if each.kind == "read" and each.outcome == "acked"]
    if reads and random.random() < 0.5:
        read = random.choice(reads)
        lines = read.body.splitlines(keepends=True)
        if lines and random.random() < 0.5:
            lines.pop()
        else:
            lines += [each.body for each in ops if each.kind == "append" and each.body not in lines][:1]
        read.body = "".join(lines)
        read.next = at(len(read.body))
    elif op.answered is not None:
        moved = random.uniform(-6, 6)
        op.sent, op.answered = op.sent + moved, op.answered + moved


def test_what_can_be_explained_is_left_alone_and_most_else_is_not() -> None:
    random = Random(5)
    possible = impossible = caught = 0
    for _ in range(1500):
        ops = made_up(random)
        if random.random() < 0.7:
            change(random, ops)
        wrong = check(ops)
        if explained(sorted(ops, key=lambda op: op.sent)):
            possible += 1
            assert wrong == [], ops
        else:
            impossible += 1
            caught += bool(wrong)
    assert possible > 500
    assert impossible > 200
    assert caught > 0.97 * impossible
