"""Random commands to the machine and to a model that copies: a fork is a copy, a page is a slice of a list."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.outcomes import (
    Appended,
    Created,
    Deleted,
    ForkRefused,
    ForkSourceDeleted,
    ForkSourceMissing,
    NotFound,
    Renewed,
    SoftDeleted,
    StreamClosed,
)
from durable_streams_cluster.streams.reading import Place
from tests.streams.harness import Machine

PATHS = st.sampled_from(["a", "b", "c", "d", "e"])
BODIES = st.binary(min_size=1, max_size=5)
PICK = st.integers(0, 1_000)


@dataclass
class Model:
    """One stream: every byte, and which offset stands after how many bytes."""

    data: bytes = b""
    offsets: dict[int, Offset] = field(default_factory=lambda: {0: START})
    head: int = 0
    closed: bool = False
    deleted: bool = False
    source: "Model | None" = None
    forks: int = 0

    @property
    def tail(self) -> Offset:
        return self.offsets[len(self.data)]


class Streams(RuleBasedStateMachine):
    """Every rule checks the answer; the invariant reads every stream from every offset it ever gave out."""

    @initialize(turn_length=st.sampled_from([1, 2, 7, None]))
    def begin(self, turn_length: int | None) -> None:
        self.machine = Machine(turn_length)
        self.streams: dict[str, Model] = {}
        self.gone: dict[str, set[Offset]] = {}
        """Offsets of streams that were at a path before."""

    def stored(self, model: Model, body: bytes, offset: Offset) -> None:
        if body:
            assert str(offset) > str(model.tail), "offsets grow as text (PROTOCOL 8)"
            model.data += body
            model.offsets[len(model.data)] = offset
        assert offset == model.tail

    @rule(path=PATHS, body=BODIES | st.just(b""), closed=st.booleans())
    def create(self, path: str, body: bytes, closed: bool) -> None:
        outcome = self.machine.apply(c.Create(path, "text/plain", None, None, closed, body, None))
        known = self.streams.get(path)
        if known is None:
            assert isinstance(outcome, Created)
            assert not outcome.existed
            model = self.streams[path] = Model(closed=closed)
            self.stored(model, body, outcome.next_offset)
            assert all(str(outcome.next_offset) > str(old) for old in self.gone.get(path, ()) if body)
        elif known.deleted:
            assert outcome == SoftDeleted()
        elif isinstance(outcome, Created):
            assert outcome.existed
            assert (known.closed, known.source) == (closed, None)
            assert outcome.next_offset == known.tail

    @rule(path=PATHS, body=BODIES | st.just(b""), close=st.booleans())
    def append(self, path: str, body: bytes, close: bool) -> None:
        outcome = self.machine.apply(c.Append(path, "text/plain", body, close or not body, None, None))
        known = self.streams.get(path)
        if known is None:
            assert outcome == NotFound()
        elif known.deleted:
            assert outcome == SoftDeleted()
        elif known.closed and body:
            assert outcome == StreamClosed(known.tail)
        else:
            assert isinstance(outcome, Appended)
            self.stored(known, body, outcome.next_offset)
            known.closed = known.closed or close or not body
            assert outcome.closed == known.closed

    @rule(path=PATHS, bodies=st.lists(BODIES, min_size=1, max_size=4))
    def append_together(self, path: str, bodies: list[bytes]) -> None:
        outcomes = self.machine.apply_run([c.Append(path, "text/plain", body, False, None, None) for body in bodies])
        known = self.streams.get(path)
        for body, outcome in zip(bodies, outcomes, strict=True):
            if known is None:
                assert outcome == NotFound()
            elif known.deleted:
                assert outcome == SoftDeleted()
            elif known.closed:
                assert outcome == StreamClosed(known.tail)
            else:
                assert isinstance(outcome, Appended)
                self.stored(known, body, outcome.next_offset)
        if known is not None:
            assert self.machine.found(path)[1].tail_offset == known.tail

    @rule(path=PATHS, source=PATHS, pick=PICK, sub_offset=st.integers(0, 6), at_tail=st.booleans(), body=BODIES)
    def fork(self, path: str, source: str, pick: int, sub_offset: int, at_tail: bool, body: bytes) -> None:
        original = self.streams.get(source)
        offset = None
        position = 0
        if original is not None:
            position = len(original.data)
            if not at_tail:
                position = sorted(original.offsets)[pick % len(original.offsets)]
                offset = original.offsets[position]
        fork = c.Fork(source, offset, sub_offset)
        own = body if pick % 3 == 0 else b""
        outcome = self.machine.apply(c.Create(path, "text/plain", None, None, False, own, fork))
        if path in self.streams:
            assert isinstance(outcome, SoftDeleted) == self.streams[path].deleted
            return
        if original is None:
            assert outcome == ForkSourceMissing()
        elif original.deleted:
            assert outcome == ForkSourceDeleted()
        elif sub_offset > self.room(original, position) or position < original.head:
            assert isinstance(outcome, ForkRefused)
        else:
            self.forked(path, original, position + sub_offset, own, outcome)

    def room(self, model: Model, position: int) -> int:
        """Bytes to the end of the append that follows a position."""
        return next((end - position for end in sorted(model.offsets) if end > position), 0)

    def forked(self, path: str, original: Model, cut: int, own: bytes, outcome: object) -> None:
        assert isinstance(outcome, Created)
        inherited = {end: offset for end, offset in original.offsets.items() if end <= cut}
        model = Model(original.data[:cut], inherited, original.head, source=original)
        original.forks += 1
        self.streams[path] = model
        if cut not in inherited:  # inside an append: a new offset, in the era of what surrounds it
            after = next(offset for end, offset in sorted(original.offsets.items()) if end > cut)
            model.offsets[cut] = Offset(after.generation, cut)
        self.stored(model, own, outcome.next_offset)

    @rule(path=PATHS, pick=PICK, off=st.integers(0, 2))
    def trim(self, path: str, pick: int, off: int) -> None:
        known = self.streams.get(path)
        if known is None:
            return
        position = sorted(known.offsets)[pick % len(known.offsets)] + off
        ref, _ = self.machine.found(path)
        outcome = self.machine.apply(c.Trim(path, ref.id, position))
        assert outcome == (NotFound() if known.deleted else Renewed())
        if not known.deleted and position in known.offsets:
            known.head = max(known.head, position)

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        outcome = self.machine.apply(c.Delete(path))
        known = self.streams.get(path)
        if known is None:
            assert outcome == NotFound()
        elif known.deleted:
            assert outcome == SoftDeleted()
        else:
            assert outcome == Deleted(soft=known.forks > 0)
            known.deleted = True
            self.collect(path)

    def collect(self, path: str) -> None:
        """Forget a deleted stream that has no forks, and its source if that was all that kept it."""
        model = self.streams[path]
        if not model.deleted or model.forks:
            return
        self.gone.setdefault(path, set()).update(set(model.offsets.values()) - {START})
        del self.streams[path]
        if model.source is not None:
            model.source.forks -= 1
            self.collect(next(name for name, other in self.streams.items() if other is model.source))

    @rule()
    def end_turn(self) -> None:
        self.machine.end_turn(content_of_all=True)

    @invariant()
    def every_offset_reads_what_follows_it(self) -> None:
        for path, model in self.streams.items():
            _, meta = self.machine.found(path)
            assert (meta.deleted, meta.closed, meta.forks) == (model.deleted, model.closed, model.forks)
            assert meta.head == model.head
            assert meta.deleted or meta.forks or meta.freed == meta.head, "what nobody needs is gone"
            assert meta.tail_offset == model.tail
            texts = [str(model.offsets[end]) for end in sorted(model.offsets)]
            assert texts == sorted(set(texts)), "offsets sort as the stream does, and none means two places"
            for end, offset in model.offsets.items():
                if end < model.head:
                    assert self.machine.locate(path, offset) is Place.GONE, f"{path} {offset}"
                    continue
                assert self.machine.locate(path, offset) is Place.BOUNDARY, f"{path} {offset}"
                read = self.machine.read(path, offset)
                assert b"".join(body for _, body in read) == model.data[end:]
                assert [after for after, _ in read] == [model.offsets[e] for e in sorted(model.offsets) if e > end]

    @invariant()
    def what_the_model_does_not_know_is_not_there(self) -> None:
        for path in self.machine.paths:
            assert (self.machine.store.find(path) is not None) == (path in self.streams)
        for path, offsets in self.gone.items():
            if path in self.streams:
                for offset in offsets:
                    own = offset in self.streams[path].offsets.values()
                    assert own or self.machine.locate(path, offset) is not Place.BOUNDARY, f"{path} {offset}"

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.machine.end_turn(content_of_all=True)
            for path in list(self.streams):
                self.machine.apply(c.Delete(path))
            self.machine.end_turn()
            assert len(self.machine.stored()) <= 1, "deleting everything leaves the counters only"


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
