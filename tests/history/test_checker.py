"""The checker: silent about what a right server did, and about each wrong one, or each altered record, it speaks."""

from collections.abc import Callable

import pytest

from tests.history.checker import Bounds, check
from tests.history.records import START, Op, dump, line, load
from tests.history.story import AGAIN, PLAIN, TTL_S, Server, Story, Stream

TRIES = 12
"""A bug shows in one of so many histories."""


@pytest.mark.parametrize("number", range(60))
def test_silent_about_a_right_server(number: int) -> None:
    story = Story(number)
    assert check(story.ops, Bounds(late_s=30)) == []
    assert list(load(dump(story.ops))) == story.ops, "and records survive their form as lines"


class Loses(Server):
    def append(self, op: Op, stream: Stream, now: float) -> None:
        text = stream.text
        super().append(op, stream, now)
        if op.outcome == "acked" and self.random.random() < 0.05:
            stream.text = text


class LosesLate(Server):
    """A new leader that lacks the newest append, some time after it was acknowledged."""

    def read(self, op: Op, stream: Stream, now: float) -> None:
        if self.random.random() < 0.05 and len(stream.ends) > 2 and stream.ends[-2] >= stream.before:
            stream.text = stream.text[: stream.ends[-2]]
            stream.ends.pop()
        super().read(op, stream, now)


class Doubles(Server):
    def append(self, op: Op, stream: Stream, now: float) -> None:
        super().append(op, stream, now)
        if op.outcome == "acked" and self.random.random() < 0.05:
            stream.text += op.body


class Reorders(Server):
    def append(self, op: Op, stream: Stream, now: float) -> None:
        at = stream.ends[-2] if len(stream.ends) > 2 else None
        super().append(op, stream, now)
        if op.outcome == "acked" and op.body and at and at >= stream.before and self.random.random() < 0.2:
            last = stream.text[at : -len(op.body)]
            stream.text = stream.text[:at] + op.body + last


class ReadsStale(Server):
    def read(self, op: Op, stream: Stream, now: float) -> None:
        kept = stream.text
        if self.random.random() < 0.1 and len(stream.ends) > 3 and stream.ends[-3] >= stream.before:
            stream.text = kept[: stream.ends[-3]]
        if len(stream.text) >= int(op.start[17:]):
            super().read(op, stream, now)
            stream.text = kept
        else:
            stream.text = kept
            super().read(op, stream, now)


class StoresWhatItRefuses(Server):
    def append(self, op: Op, stream: Stream, now: float) -> None:
        super().append(op, stream, now)
        if op.outcome == "acked" and self.random.random() < 0.05:
            op.outcome, op.why, op.next = "refused", "not now", ""


class Tears(Server):
    def append(self, op: Op, stream: Stream, now: float) -> None:
        if op.body.count("\n") > 1 and self.random.random() < 0.2:
            whole, op.body = op.body, op.body[: op.body.index("\n") + 1]
            super().append(op, stream, now)
            op.body = whole
        else:
            super().append(op, stream, now)


class DeletesNothing(Server):
    def delete(self, op: Op) -> None:
        if self.random.random() < 0.7:
            super().delete(op)


class DeletesForNobody(Server):
    def read(self, op: Op, stream: Stream, now: float) -> None:
        super().read(op, stream, now)
        if op.path in PLAIN and self.random.random() < 0.02:
            del self.streams[op.path]


class ForgetsGenerations(Server):
    def create(self, op: Op, stream: Stream | None, now: float) -> None:
        self.generations = 0
        super().create(op, stream, now)


class BringsBack(Server):
    old: Stream | None = None

    def delete(self, op: Op) -> None:
        self.old = self.streams[op.path]
        super().delete(op)

    def create(self, op: Op, stream: Stream | None, now: float) -> None:
        super().create(op, stream, now)
        if op.path == AGAIN and not op.existed and self.old is not None and self.random.random() < 0.5:
            self.streams[AGAIN] = self.old
            op.next = self.old.tail


class OpensAgain(Server):
    def read(self, op: Op, stream: Stream, now: float) -> None:
        super().read(op, stream, now)
        if stream.closed and self.random.random() < 0.5:
            stream.closed = False


class ForgetsProducers(Server):
    def append(self, op: Op, stream: Stream, now: float) -> None:
        if op.producer is not None and self.random.random() < 0.1:
            stream.seqs.clear()
        super().append(op, stream, now)


class ExpiresEarly(Server):
    def apply(self, op: Op, now: float) -> None:
        stream = self.streams.get("ttl")
        if stream is not None and now - stream.touched > TTL_S * 0.5:
            del self.streams["ttl"]
        super().apply(op, now)


class ExpiresNever(Server):
    def apply(self, op: Op, now: float) -> None:
        stream = self.streams.get("ttl")
        if stream is not None:
            stream.touched = now
        super().apply(op, now)


WRONG = (
    *(Loses, LosesLate, Doubles, Reorders, ReadsStale, StoresWhatItRefuses, Tears, DeletesNothing, DeletesForNobody),
    *(ForgetsGenerations, BringsBack, OpensAgain, ForgetsProducers, ExpiresEarly, ExpiresNever),
)


@pytest.mark.parametrize("server", WRONG, ids=lambda server: server.__name__)
def test_speaks_about_a_wrong_server(server: type[Server]) -> None:
    bounds = Bounds(late_s=5)
    assert any(check(Story(seed, server, steps=600).ops, bounds) for seed in range(TRIES))


Choice = Callable[[Op], bool]
ALTERED: dict[str, tuple[Choice, Callable[[list[Op], int], None]]] = {}


def alters(choice: Choice) -> Callable[[Callable[[list[Op], int], None]], Callable[[list[Op], int], None]]:
    def note(change: Callable[[list[Op], int], None]) -> Callable[[list[Op], int], None]:
        ALTERED[change.__name__] = choice, change
        return change

    return note


def full_read(op: Op) -> bool:
    return op.kind == "read" and op.path in PLAIN and op.outcome == "acked" and op.body.count("\n") > 4


def delivery(op: Op) -> bool:
    return op.kind == "live" and op.outcome == "acked" and op.body.count("\n") > 1


@alters(full_read)
def a_byte_of_a_read_is_another(ops: list[Op], at: int) -> None:
    body = ops[at].body
    ops[at].body = body[:5] + "!" + body[6:]


@alters(full_read)
def a_read_lacks_its_first_line(ops: list[Op], at: int) -> None:
    ops[at].body = ops[at].body.partition("\n")[2]


@alters(full_read)
def a_read_has_a_line_twice(ops: list[Op], at: int) -> None:
    ops[at].body += ops[at].body[ops[at].body[:-1].rindex("\n") + 1 :]


@alters(full_read)
def a_read_has_two_lines_the_other_way_round(ops: list[Op], at: int) -> None:
    lines = ops[at].body.splitlines(keepends=True)
    ops[at].body = "".join([*lines[:-2], lines[-1], lines[-2]])


@alters(full_read)
def a_read_finds_nothing(ops: list[Op], at: int) -> None:
    ops[at] = Op(kind="read", path=ops[at].path, sent=ops[at].sent, answered=ops[at].answered, outcome="refused")
    ops[at].why = "gone"


@alters(full_read)
def a_read_is_told_that_it_is_closed(ops: list[Op], at: int) -> None:
    ops[:] = [op for op in ops if not op.closes]
    for op in ops:
        op.closed = op.kind == "read"


@alters(delivery)
def a_delivery_is_missing(ops: list[Op], at: int) -> None:
    if ops[at].last:
        before = [op for op in ops if op.kind == "live" and op.path == ops[at].path][-2]
        before.last = True
    del ops[at]


@alters(delivery)
def a_delivery_comes_twice(ops: list[Op], at: int) -> None:
    ops.insert(at + 1, ops[at])


@alters(delivery)
def a_delivery_is_another(ops: list[Op], at: int) -> None:
    ops[at].body = ops[at].body.replace(".", "!", 1).replace("|", "!", 1)


@alters(lambda op: op.writes and op.kind == "append" and op.outcome == "acked")
def an_acknowledgement_names_another_offset(ops: list[Op], at: int) -> None:
    ops[at].next = f"{ops[at].next[:17]}{int(ops[at].next[17:]) + 7:016d}"


@alters(lambda op: op.writes and op.kind == "append" and op.outcome == "acked" and op.path in PLAIN)
def what_was_acknowledged_was_refused(ops: list[Op], at: int) -> None:
    ops[at].outcome, ops[at].next, ops[at].why = "refused", "", "not now"


@alters(lambda op: op.writes and op.kind == "append" and op.outcome == "acked" and op.path in PLAIN)
def an_append_answered_after_the_next_was_sent_was_not(ops: list[Op], at: int) -> None:
    same = [op for op in ops if op.path == ops[at].path and op.writes and op.outcome == "acked"]
    last = max(same, key=lambda op: op.next)
    last.sent, last.answered = -2.0, -1.5
    ops.sort(key=lambda op: op.sent)
    for op in same:
        if op is not last:
            op.sent = max(op.sent, -1.0)


@alters(lambda op: op.producer is not None and op.outcome == "acked")
def a_batch_is_taken_for_a_duplicate(ops: list[Op], at: int) -> None:
    ops[at].duplicate = True


@alters(lambda op: op.producer is not None and op.outcome == "acked" and op.producer[2] > 0)
def a_batch_is_refused_as_a_gap(ops: list[Op], at: int) -> None:
    ops[at].outcome, ops[at].why, ops[at].next = "refused", "gap", ""


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("name", ALTERED)
def test_speaks_about_an_altered_record(name: str, number: int) -> None:
    choice, change = ALTERED[name]
    ops = Story(number).ops
    places = [at for at, op in enumerate(ops) if choice(op)]
    change(ops, places[len(places) // 2])
    assert check(ops)


def test_a_reader_that_lacks_the_end_is_incomplete() -> None:
    story = Story(3)
    last = next(op for op in reversed(story.ops) if op.kind == "live" and op.body)
    last.next, last.body, last.last = last.start, "", True
    story.ops[:] = [op for op in story.ops if op is last or op.kind != "live" or op.path != last.path]
    last.start = last.next = START
    assert check(story.ops)


def batch(next_offset: str, attempts: int) -> list[Op]:
    """A producer's append, and two reads that find it in one stream and in the next one of that path."""
    body = line("x1")
    ops = [Op(kind="create", path="s", sent=0, answered=1, outcome="acked", next=START)]
    ops.append(Op(kind="append", path="s", sent=2, answered=9, outcome="acked", body=body, producer=("p", 0, 0)))
    ops[-1].next, ops[-1].attempts = f"{1:016d}_{len(body):016d}", attempts
    ops.append(Op(kind="delete", path="s", sent=10, answered=11, outcome="acked"))
    ops.append(Op(kind="create", path="s", sent=12, answered=13, outcome="acked", next=START))
    ops.append(
        Op(kind="read", path="s", sent=14, answered=15, outcome="acked", start=START, next=next_offset, body=body)
    )
    return ops


def test_an_append_sent_twice_may_meet_two_streams_and_one_sent_once_may_not() -> None:
    again = f"{2:016d}_{len(line('x1')):016d}"
    assert check(batch(again, attempts=2)) == []
    assert check(batch(again, attempts=1))


def test_where_an_append_stands_is_compared_with_what_was_told_of_that_stream() -> None:
    """Its first attempt came to one stream, unanswered; that expired, and the second came to the next."""

    def story(attempts: int, generation: int) -> list[Op]:
        before, body = line("x0"), line("x1")
        told = f"{generation:016d}_{len(body):016d}"
        ops = [Op(kind="create", path="s", sent=0, answered=1, outcome="acked", next=START)]
        ops.append(Op(kind="append", path="s", sent=1, answered=2, outcome="acked", body=before))
        ops[-1].next = f"{1:016d}_{len(before):016d}"
        ops.append(Op(kind="append", path="s", sent=3, answered=20, outcome="acked", body=body, producer=("p", 0, 0)))
        ops[-1].next, ops[-1].attempts = told, attempts
        found = f"{1:016d}_{len(before + body):016d}"
        ops.append(Op(kind="read", path="s", sent=5, answered=6, outcome="acked", start=START, next=found))
        ops[-1].body = before + body
        ops.append(Op(kind="delete", path="s", sent=10, answered=11, outcome="acked"))
        ops.append(Op(kind="create", path="s", sent=12, answered=13, outcome="acked", next=START))
        return ops

    assert check(story(attempts=2, generation=2)) == []
    assert check(story(attempts=1, generation=2))
    assert check(story(attempts=2, generation=1))
