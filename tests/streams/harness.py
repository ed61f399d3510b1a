"""The stream machine over a ``StreamStore`` on a ``MemoryKv``, driven by scripts, in turns of any length.

Commands (words in capitals are the script's):

- ``create PATH type= ttl= expires= closed from= at= sub= default_ttl= max=``,
  ``append PATH type= close seq= producer=ID/EPOCH/SEQ match=OFFSET``;
  the lines below are the body (``size=N``: so many bytes instead);
- ``delete PATH``, ``touch PATH``, ``expire PATH seen=MS``, ``rearm PATH`` (``id=``: of another stream than is there);
- ``trim PATH POSITION``, ``cut PATH bytes= before=MS``: where retention would trim;
- ``clock cluster= wall=``: the stamps from here on; ``+5`` is relative;
- ``read PATH from=OFFSET``, ``locate PATH OFFSET...``, ``show PATH``, ``producer PATH ID``, ``group``;
- ``batches PATH ID EPOCH FROM TO``: one byte each; ``chain FIRST NAME COUNT``: forks of forks, each with an
  append; ``unchain NAME FROM TO`` deletes them;
- ``lose drawn=N``: the group goes on from here without what others had (``eras.after_loss``);
- ``disk``: ends the turn, and prints how many keys of each kind are stored.

Offsets are written short, ``1_5``.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage.kv import Family, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.stream_reader import StreamReader
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams import eras, json_mode, machine, reading, retention
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.outcomes import Outcome
from durable_streams_cluster.streams.view import PutGroup, PutMeta, PutPath, PutProducer, StreamView, Wake, Write
from tests.datadriven import Command

GROUP = GroupId(1)
EVERYTHING = (b"", b"\xff" * 40)
SHORT_TYPES = {"json": "application/json", "text": "text/plain", "bytes": "application/octet-stream"}


def parse(text: str) -> Offset:
    """An offset as scripts write it: ``1_5``."""
    generation, _, position = text.partition("_")
    return Offset(int(generation), int(position))


class Machine:
    """Streams whose turns end after every ``turn_length`` commands; None: only when a script asks."""

    def __init__(self, turn_length: int | None = 1) -> None:
        self.kv = MemoryKv()
        self.store = StreamStore(self.kv, GROUP)
        self.cluster_ms, self.wall_ms = 1_000, 1_000_000
        self.woken: list[str] = []
        self._turn_length = turn_length
        self._batch = WriteBatch()
        self._in_turn = self.applied = 0
        self.paths: dict[str, None] = {}
        self.refs: dict[StreamRef, None] = {}
        self._changed: dict[StreamRef, None] = {}
        self.producers: dict[tuple[StreamRef, str], None] = {}

    def apply(self, command: c.Command) -> Outcome:
        """Apply, stage, check the invariants of everything the command changed, perhaps end the turn."""
        applied = machine.apply(self.store, command, c.Stamp(self.cluster_ms, self.wall_ms))
        self._take(tuple(applied.writes), applied.wakes)
        return applied.outcome

    def apply_run(self, commands: list[c.Append]) -> Sequence[Outcome]:
        """The same of appends to one path that came together."""
        run = machine.apply_run(self.store, commands, c.Stamp(self.cluster_ms, self.wall_ms))
        self._take(tuple(run.writes), run.wakes)
        return run.outcomes

    def _take(self, writes: tuple[Write, ...], wakes: Iterable[Wake]) -> None:
        self.store.stage(self._batch, writes)
        self.woken = [wake.path for wake in wakes]
        for write in writes:
            match write:
                case PutMeta(ref, meta):
                    meta.check()
                    self.refs[ref] = self._changed[ref] = None
                case PutPath(path, _):
                    self.paths[path] = None
                case PutProducer(ref, producer_id, _):
                    self.producers[ref, producer_id] = None
        self.applied += 1
        self._in_turn += 1
        if self._turn_length is not None and self._in_turn >= self._turn_length:
            self.end_turn()

    def end_turn(self, *, content_of_all: bool = False) -> None:
        """Write what was staged; then the cached view, and a store opened anew, must both show what the turn showed."""
        content_of = self.refs if content_of_all else self._changed
        shown = self.snapshot(self.store, content_of)
        self.store.finish(self._batch, self.applied, 1, self.cluster_ms)
        self.kv.write(self._batch)
        self.store.commit()
        self._batch, self._in_turn = WriteBatch(), 0
        assert self.snapshot(self.store.committed, content_of) == shown, "the cached view differs from the turn's"
        assert self.snapshot(StreamReader(self.kv, GROUP), content_of) == shown, "the disk differs from the cached view"
        self._changed.clear()

    def snapshot(self, view: StreamView, content_of: Iterable[StreamRef]) -> dict[str, object]:
        """Everything a view shows of what was ever made; the records only of some."""
        metas = {ref: view.meta(ref) for ref in self.refs}
        return {
            "group": view.group_state(),
            "paths": {path: view.find(path) for path in self.paths},
            "metas": metas,
            # Of a dropped stream a turn need not hide the producers: its number is never used again.
            "producers": {key: view.producer(*key) for key in self.producers if metas[key[0]] is not None},
            "content": {
                ref: [(r.end, r.body) for r in reading.records(view, ref, meta, meta.head)]
                for ref in content_of
                if (meta := metas[ref]) is not None
            },
        }

    def stored(self) -> list[tuple[bytes, bytes]]:
        """Every key and value of the data family."""
        return list(self.kv.scan(Family.DATA, *EVERYTHING))

    def found(self, path: str) -> tuple[StreamRef, StreamMeta]:
        """The stream at a path, hidden ones too."""
        ref = self.store.find(path)
        meta = self.store.meta(ref) if ref is not None else None
        assert ref is not None, f"nothing at {path}"
        assert meta is not None
        return ref, meta

    def read(self, path: str, start: Offset) -> list[tuple[Offset, bytes]]:
        """The appends after an offset that ``locate`` calls a boundary, with the offset after each."""
        ref, meta = self.found(path)
        found = []
        for record in reading.records(self.store, ref, meta, start.position):
            end = record.begins
            for body in record.appends:
                end += len(body)
                found.append((meta.offset_at(end), body))
        return found

    def locate(self, path: str, offset: Offset) -> reading.Place:
        """See ``reading.locate``."""
        ref, meta = self.found(path)
        return reading.locate(self.store, ref, meta, offset)


class Script(Machine):
    """A ``Machine`` that runs the commands of a script."""

    def handle(self, command: Command) -> str:
        """For ``run_script``."""
        return "\n".join(getattr(self, f"do_{command.name}")(command))

    def do_create(self, command: Command) -> Iterator[str]:
        closed, path, kind = command.flag("closed"), command.word(), _type(command)
        fork = None
        if command.has("from"):
            at = parse(command.text("at")) if command.has("at") else None
            fork = c.Fork(command.text("from"), at, command.number("sub", 0))
        ttl_s, expires_at_ms = _optional(command, "ttl"), _optional(command, "expires")
        given = _optional(command, "default_ttl"), _optional(command, "max")
        create = c.Create(path, kind, ttl_s, expires_at_ms, closed, _body(command, kind), fork, *given)
        yield told(self.apply(create))

    def do_append(self, command: Command) -> Iterator[str]:
        close, path, kind = command.flag("close"), command.word(), _type(command)
        producer = None
        if command.has("producer"):
            identity, epoch, seq = command.text("producer").split("/")
            producer = c.Producer(identity, int(epoch), int(seq))
        seq_bytes = command.text("seq").encode("latin-1") if command.has("seq") else None
        body = _body(command, kind)
        if_match = parse(command.text("match")) if command.has("match") else None
        outcome = self.apply(c.Append(path, kind, body, close, seq_bytes, producer, if_match))
        yield told(outcome) + (" woken" if self.woken else "")

    def do_delete(self, command: Command) -> Iterator[str]:
        yield told(self.apply(c.Delete(command.word()))) + (" woken" if self.woken else "")

    def do_touch(self, command: Command) -> Iterator[str]:
        path = command.word()
        yield told(self.apply(c.Touch(path, self._id(command, path))))

    def do_expire(self, command: Command) -> Iterator[str]:
        path = command.word()
        yield told(self.apply(c.Expire(path, self._id(command, path), command.number("seen"))))

    def do_rearm(self, command: Command) -> Iterator[str]:
        path = command.word()
        yield told(self.apply(c.Rearm(path, self._id(command, path))))

    def do_trim(self, command: Command) -> Iterator[str]:
        path = command.word()
        yield told(self.apply(c.Trim(path, self._id(command, path), int(command.word()))))

    def do_cut(self, command: Command) -> Iterator[str]:
        self.end_turn()
        ref, meta = self.found(command.word())
        view = self.store.committed
        if command.has("bytes"):
            yield str(retention.cut_by_size(view, ref, meta, command.number("bytes")))
        if command.has("before"):
            looking = retention.cut_by_age(view, ref, meta, command.number("before"))
            while True:
                try:
                    next(looking)
                except StopIteration as cut:
                    yield str(cut.value)
                    break

    def do_clock(self, command: Command) -> Iterator[str]:
        for name in ("cluster", "wall"):
            if command.has(name):
                text = command.text(name)
                base = getattr(self, f"{name}_ms") if text.startswith("+") else 0
                setattr(self, f"{name}_ms", base + int(text))
        yield f"cluster={self.cluster_ms} wall={self.wall_ms}"

    def do_read(self, command: Command) -> Iterator[str]:
        path = command.word()
        start = parse(command.text("from")) if command.has("from") else self.found(path)[1].head_offset
        place = self.locate(path, start)
        if place is not reading.Place.BOUNDARY:
            yield place.name
            return
        _, meta = self.found(path)
        for offset, body in self.read(path, start):
            shown = repr(body)[1:] if len(body) < 60 else f"{len(body)} bytes"
            yield f"{short(offset)} {shown}"
        yield f"up to {short(meta.tail_offset)}{' closed' if meta.closed else ''}"

    def do_locate(self, command: Command) -> Iterator[str]:
        path = command.word()
        for text in command.words():
            yield f"{text} {self.locate(path, parse(text)).name}"

    def do_show(self, command: Command) -> Iterator[str]:
        path = command.word()
        ref = self.store.find(path)
        if ref is None:
            yield "nothing"
            return
        _, meta = self.found(path)
        eras = ",".join(f"{era.generation}@{era.start}" for era in meta.eras) or "none"
        parts = [f"id={ref.id} tail={short(meta.tail_offset)} eras={eras} touched={meta.touched_at}"]
        parts += [name for name in ("fresh", "closed", "deleted") if getattr(meta, name)]
        if meta.parent is not None:
            parts.append(f"parent={meta.parent.path}@{meta.parent.at} depth={meta.parent.depth}")
        for name in (
            "head",
            "freed",
            "max_bytes",
            "forks",
            "producers",
            "stream_seq",
            "ttl_s",
            "expires_at_ms",
            "expiry_due",
        ):
            if getattr(meta, name):
                parts.append(f"{name}={getattr(meta, name)}")
        yield " ".join(parts)

    def do_producer(self, command: Command) -> Iterator[str]:
        ref, _ = self.found(command.word())
        state = self.store.producer(ref, command.word())
        yield "unknown" if state is None else f"epoch={state.epoch} seq={state.seq} ends={len(state.ends)}"

    def do_group(self, _: Command) -> Iterator[str]:
        state = self.store.group_state()
        yield f"next_stream_id={state.next_stream_id} generation_floor={state.generation_floor}"

    def do_lose(self, command: Command) -> Iterator[str]:
        state = eras.after_loss(self.store.group_state(), command.number("drawn"))
        self.store.stage(self._batch, [PutGroup(state)])
        yield f"generation_floor={state.generation_floor}"

    def do_batches(self, command: Command) -> Iterator[str]:
        path, identity = command.word(), command.word()
        epoch, first, last = (int(command.word()) for _ in range(3))
        lines: dict[str, None] = {}
        for seq in range(first, last + 1):
            producer = c.Producer(identity, epoch, seq)
            outcome = self.apply(c.Append(path, "text/plain", b"%d" % (seq % 10), False, None, producer))
            lines[told(outcome)] = None
        yield from (next(iter(lines)), f"... {len(lines)} answers", list(lines)[-1])

    def do_chain(self, command: Command) -> Iterator[str]:
        source, name, count = command.word(), command.word(), int(command.word())
        for number in range(1, count + 1):
            fork = c.Fork(source, None, 0)
            source = f"{name}{number}"
            outcome = self.apply(c.Create(source, None, None, None, False, b"", fork))
            self.apply(c.Append(source, "text/plain", b"%d," % number, False, None, None))
        yield told(outcome)

    def do_unchain(self, command: Command) -> Iterator[str]:
        name, first, last = command.word(), int(command.word()), int(command.word())
        yield from dict.fromkeys(told(self.apply(c.Delete(f"{name}{number}"))) for number in range(first, last + 1))

    def do_disk(self, _: Command) -> Iterator[str]:
        self.end_turn(content_of_all=True)
        kinds: Counter[str] = Counter()
        for key, _value in self.stored():
            sub = "" if key[:1] != b"S" else " path" if key[7:15] == bytes(8) else " " + key[15:16].decode()
            kinds[key[:1].decode() + sub] += 1
        yield " ".join(f"{kind.replace(' ', '.')}={count}" for kind, count in sorted(kinds.items()))

    def _id(self, command: Command, path: str) -> int:
        ref = self.store.find(path)
        return command.number("id", ref.id if ref is not None else 0)


def short(offset: Offset) -> str:
    """An offset without its zeros; the start is ``0_0``."""
    return "0_0" if offset == START else f"{offset.generation}_{offset.position}"


def told(outcome: object) -> str:
    """An outcome as one line: its name, and the fields that say something."""
    assert isinstance(outcome, msgspec.Struct)
    return " ".join([type(outcome).__name__, *_fields(outcome)])


def _fields(outcome: msgspec.Struct) -> Iterable[str]:
    for name in outcome.__struct_fields__:
        value = getattr(outcome, name)
        if value is None or value is False:
            continue
        if isinstance(value, Offset):
            yield short(value)
        else:
            yield name if value is True else f"{name}={value}"


def _type(command: Command) -> str | None:
    kind = command.text("type", "text")
    return None if kind == "none" else SHORT_TYPES.get(kind, kind)


def _optional(command: Command, key: str) -> int | None:
    return command.number(key) if command.has(key) else None


def _body(command: Command, kind: str | None) -> bytes:
    if command.has("size"):
        return b"x" * command.number("size")
    body = command.input.encode()
    is_json = kind is not None and re.match("application/json", kind) and body
    return json_mode.record(body) if is_json else body
