"""The checker of the kill test: silent about a history that was kept, and about each way of breaking one it speaks."""

from collections.abc import Callable, Iterable

import pytest

from tests.system.kill.checker import check, resolve
from tests.system.kill.history import Found, History, Kind, Op, Outcome, record

State = dict[str, Found]


def at(position: int) -> str:
    return f"{1:016d}_{position:016d}"


def text(name: str) -> str:
    return record(name, 40)


class Story:
    """A history of every kind of operation, and what a server that kept it would show."""

    def __init__(self) -> None:
        self.history = History()
        self.ops: dict[str, Op] = {}
        self.do("create", Kind.CREATE, "a", at(0))
        self.do("a1", Kind.APPEND, "a", at(1), ["a1"])
        self.do("a2", Kind.BATCH, "a", at(3), ["a2", "a3"], producer=("w", 0, 0))
        self.do("fork", Kind.FORK, "f", at(3), source="a")
        self.do("a4", Kind.APPEND, "a", at(4), ["a4"])
        self.do("unknown batch", Kind.BATCH, "a", "", ["a5", "a6"], Outcome.UNKNOWN, producer=("w", 0, 1))
        self.do("f1", Kind.APPEND, "f", at(5), ["f1"])
        self.do("fork of the fork", Kind.FORK, "g", at(5), source="f")
        self.do("create b", Kind.CREATE, "b", at(1), ["b1"])
        self.do("close b", Kind.CLOSE, "b", at(2), ["b2"], closes=True)
        self.do("too late", Kind.APPEND, "b", "", ["b3"], Outcome.REFUSED, note="closed")
        self.do("create c", Kind.CREATE, "c", at(0))
        self.do("fork c", Kind.FORK, "h", at(0), source="c")
        self.do("delete c", Kind.DELETE, "c", "")
        self.do("create d", Kind.CREATE, "d", at(0))
        self.do("delete d", Kind.DELETE, "d", "")
        self.do("unknown create", Kind.CREATE, "e", "", ["e1"], Outcome.UNKNOWN)
        self.do("unknown delete", Kind.CREATE, "i", at(1), ["i1"])
        self.do("perhaps deleted", Kind.DELETE, "i", "", [], Outcome.UNKNOWN)
        self.found: State = {
            "a": self.read(at(4), ["a1", "a2", "a3", "a4"]),
            "f": self.read(at(5), ["a1", "a2", "a3", "f1"]),
            "g": self.read(at(5), ["a1", "a2", "a3", "f1"]),
            "b": self.read(at(2), ["b1", "b2"], closed=True),
            "c": Found(410),
            "h": self.read(at(0), []),
            "d": Found(404),
            "e": Found(404),
            "i": self.read(at(1), ["i1"]),
        }

    def do(
        self,
        name: str,
        kind: Kind,
        path: str,
        offset: str,
        names: Iterable[str] = (),
        outcome: Outcome = Outcome.ACKED,
        note: str = "",
        **more: object,
    ) -> None:
        history = self.history
        op = history.send(Op(kind, path, 0, history.tick(), tuple(map(text, names)), **more))
        op.offset = offset if kind is Kind.FORK else ""
        if outcome is not Outcome.UNKNOWN:
            history.answer(op, outcome, offset, note)
        self.ops[name] = op

    @staticmethod
    def read(tail: str, names: Iterable[str], *, closed: bool = False) -> Found:
        return Found(200, tuple(map(text, names)), closed, tail)

    def wrong(self) -> list[str]:
        return check(self.history, self.found)


def test_a_kept_history_is_in_order() -> None:
    assert Story().wrong() == []


A = ["a1", "a2", "a3", "a4"]
KEPT: dict[str, State] = {
    "the unknown batch is there": {"a": Story.read(at(6), [*A, "a5", "a6"])},
    "the unknown creation is there": {"e": Story.read(at(1), ["e1"])},
    "the unknown deletion happened": {"i": Found(404)},
}
BROKEN: dict[str, State] = {
    "an append is lost": {"a": Story.read(at(3), A[:3])},
    "an append in the middle is lost": {"a": Story.read(at(4), A[1:])},
    "part of a batch is lost": {"a": Story.read(at(4), ["a1", "a2", "a4"])},
    "all is lost": {"a": Story.read(at(0), [])},
    "an append is there twice": {"a": Story.read(at(5), [*A, "a4"])},
    "a batch is there twice": {"a": Story.read(at(6), [*A, "a2", "a3"])},
    "two appends changed places": {"a": Story.read(at(4), ["a2", "a3", "a1", "a4"])},
    "a batch is torn apart": {"a": Story.read(at(4), ["a2", "a1", "a3", "a4"])},
    "a batch is turned round": {"a": Story.read(at(4), ["a1", "a3", "a2", "a4"])},
    "an unknown batch is there in part": {"a": Story.read(at(5), [*A, "a5"])},
    "an unknown batch stands before what ended before it began": {"a": Story.read(at(6), ["a1", "a5", "a6", *A[1:]])},
    "a record from nowhere": {"a": Story.read(at(5), [*A, "z1"])},
    "a record of another stream": {"a": Story.read(at(5), [*A, "b1"])},
    "a torn record": {"a": Found(200, (*map(text, A[:3]), text("a4")[:-3]), False, at(4))},
    "an altered record": {"a": Found(200, (*map(text, A[:3]), text("a4").replace(".", "!", 1)), False, at(4))},
    "the tail went back": {"a": Story.read(at(3), A)},
    "the tail is beyond the end": {"f": Story.read(at(6), ["a1", "a2", "a3", "f1"])},
    "a stream is lost": {"a": Found(404)},
    "a stream fails to be read": {"a": Found(500)},
    "two answers disagree": {"a": Found(-404)},
    "a close is lost": {"b": Story.read(at(2), ["b1", "b2"])},
    "a close and its record are lost": {"b": Story.read(at(1), ["b1"])},
    "more stands behind a close": {"b": Story.read(at(3), ["b1", "b2", "b3"], closed=True)},
    "a closed stream ends elsewhere": {"b": Story.read(at(3), ["b1", "b2"], closed=True)},
    "closed by nobody": {"a": Story.read(at(4), A, closed=True)},
    "what was refused is there": {"b": Story.read(at(2), ["b1", "b3", "b2"], closed=True)},
    "a deleted stream came back": {"d": Story.read(at(0), [])},
    "a deleted stream with forks came back": {"c": Story.read(at(0), [])},
    "a deleted stream forgot its fork": {"c": Found(404)},
    "gone, without a fork ever": {"d": Found(410)},
    "a fork is lost": {"f": Found(404)},
    "a fork lost what it inherited": {"f": Story.read(at(5), ["f1"])},
    "a fork lost some of what it inherited": {"f": Story.read(at(5), ["a1", "f1"])},
    "a fork inherited too much": {"f": Story.read(at(5), [*A, "f1"])},
    "a fork has its own before what it inherited": {"f": Story.read(at(5), ["a1", "f1", "a2", "a3"])},
    "a fork's own append is lost": {"f": Story.read(at(3), ["a1", "a2", "a3"])},
    "a fork of a fork lost something": {"g": Story.read(at(5), ["a2", "a3", "f1"])},
    "a fork of a fork changed the order": {"g": Story.read(at(5), ["a2", "a3", "a1", "f1"])},
    "an unknown creation kept the stream and lost its record": {"e": Story.read(at(0), [])},
    "an unknown deletion lost the records only": {"i": Story.read(at(0), [])},
}


@pytest.mark.parametrize("name", KEPT)
def test_silent(name: str) -> None:
    story = Story()
    story.found |= KEPT[name]
    assert story.wrong() == []


@pytest.mark.parametrize("name", BROKEN)
def test_speaks(name: str) -> None:
    story = Story()
    story.found |= BROKEN[name]
    wrong = story.wrong()
    assert wrong
    assert all(line.startswith(tuple(f"{path}: " for path in (*BROKEN[name], "f", "g"))) for line in wrong)


def outcome(name: str, value: Outcome) -> Callable[[Story], None]:
    return lambda story: setattr(story.ops[name], "outcome", value)


TWISTED: dict[str, Callable[[Story], None]] = {
    "a refused append is there": outcome("a4", Outcome.REFUSED),
    "a refused stream is there": outcome("create b", Outcome.REFUSED),
    "two acknowledgements give one offset": lambda story: setattr(story.ops["a4"], "offset", at(3)),
    "acknowledgements give offsets in another order": lambda story: setattr(story.ops["a1"], "offset", at(4)),
    "refused as closed, closed by nobody": lambda story: setattr(story.ops["close b"], "closes", False),
    "refused as closed before the close": lambda story: setattr(story.ops["close b"], "sent", 1_000),
}


@pytest.mark.parametrize("name", TWISTED)
def test_speaks_about_answers(name: str) -> None:
    story = Story()
    TWISTED[name](story)
    assert story.wrong()


def test_what_was_settled_stays_settled() -> None:
    story = Story()
    resolve(story.history, story.found)
    assert story.ops["unknown create"].outcome is Outcome.REFUSED
    assert story.ops["perhaps deleted"].outcome is Outcome.REFUSED
    assert story.ops["unknown batch"].outcome is Outcome.UNKNOWN, "batches are sent again instead"
    assert story.wrong() == []
    story.found["e"] = Story.read(at(1), ["e1"])
    assert story.wrong() == ["e: exists, though its creation was refused"]


def test_what_was_there_stays_there() -> None:
    story = Story()
    story.found["e"] = Story.read(at(1), ["e1"])
    story.found["i"] = Found(404)
    resolve(story.history, story.found)
    assert story.wrong() == []
    story.found["e"] = Found(404)
    assert story.wrong() == ["e: answers 404, though its creation was acknowledged and nobody deleted it"]
    story.found["i"] = Story.read(at(1), ["i1"])
    assert len(story.wrong()) == 2
