"""Appends that are decided together end as if each had been decided alone."""

from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.kv import WriteBatch
from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams import machine
from durable_streams_cluster.streams.offsets import START, Offset
from durable_streams_cluster.streams.outcomes import Appended, Created
from durable_streams_cluster.streams.view import PutMeta, PutRecord, Record, Wake
from tests.streams.harness import Machine

STAMP = c.Stamp(2_000, 2_000_000)
TEXT = "text/plain"

producers = st.builds(c.Producer, id=st.sampled_from("ab"), epoch=st.integers(0, 1), seq=st.integers(0, 3))
appends = st.builds(
    c.Append,
    path=st.just("s"),
    content_type=st.sampled_from([TEXT, TEXT, "Text/Plain; charset=utf-8", "application/json"]),
    body=st.sampled_from([b"", b"x", b"yy"]),
    close=st.integers(0, 9).map(lambda chance: chance == 0),
    stream_seq=st.none() | st.sampled_from([b"1", b"2", b"3"]),
    producer=st.none() | producers,
    if_match=st.none() | st.builds(Offset, st.just(1), st.integers(0, 4)),
)


def plain(body: bytes, **more: object) -> c.Append:
    return c.Append("s", TEXT, body, **{"close": False, "stream_seq": None, "producer": None} | more)  # type: ignore[arg-type]


def prepared(before: str) -> Machine:
    """Streams in the state that matters to an append: ``s`` is the one that is written to."""
    made = Machine(turn_length=None)
    if before != "missing":
        origin = "o" if before == "fork" else "s"
        made.apply(c.Create(origin, TEXT, None, None, False, b"", None, max_bytes=6 if before == "bounded" else None))
        if before != "fresh":
            made.apply(c.Append(origin, TEXT, b"abc", False, b"1", c.Producer("a", 0, 0)))
        if before in ("fork", "hidden"):
            made.apply(
                c.Create("s" if before == "fork" else "f", None, None, None, False, b"", c.Fork(origin, None, 0))
            )
        if before == "hidden":
            made.apply(c.Delete("s"))
    made.end_turn()
    return made


BEFORE = st.sampled_from(["missing", "fresh", "written", "bounded", "fork", "hidden"])


@given(BEFORE, st.lists(appends, min_size=1, max_size=8))
@example("written", [plain(b"x", producer=c.Producer("p", 0, 0)), plain(b"x", producer=c.Producer("p", 0, 0))])
@example("written", [plain(b"", close=True, producer=c.Producer("p", 0, 0)), plain(b"x")])
@example("fresh", [plain(b"", close=True), plain(b"", close=True)])
@example("bounded", [plain(b"xx"), plain(b"xx"), plain(b"x"), plain(b"x")])
def test_a_run_is_its_appends_one_after_the_other(before: str, commands: list[c.Append]) -> None:
    alone, together = prepared(before), prepared(before)
    expected = []
    woken = False
    batch = WriteBatch()
    for command in commands:
        applied = machine.apply(alone.store, command, STAMP)
        alone.store.stage(batch, applied.writes)
        expected.append(applied.outcome)
        woken |= bool(tuple(applied.wakes))
    run = machine.apply_run(together.store, commands, STAMP)

    assert list(run.outcomes) == expected
    assert tuple(run.wakes) == ((Wake("s"),) if woken else ())
    assert sum(isinstance(write, PutMeta) for write in run.writes) == woken, "the stream is written once, or not at all"
    whole = WriteBatch()
    together.store.stage(whole, run.writes)
    for each, staged in ((alone, batch), (together, whole)):
        each.store.finish(staged, 9, 1, STAMP.cluster_ms)
        each.kv.write(staged)
    assert one_by_one(together.stored()) == one_by_one(alone.stored())


def one_by_one(stored: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """With each append as if it was stored by itself."""
    found = []
    for key, value in stored:
        if key[:1] == b"S" and key[15:16] == b"R":
            record, at = codecs.decode_record(keys.record_end(key), value), codecs.record_time(value)
            ends = record.begins
            for body in record.appends:
                ends += len(body)
                found.append((key[:16] + ends.to_bytes(8), codecs.encode_record(at, Record(ends, body))))
        else:
            found.append((key, value))
    return found


def test_a_run_is_stored_together() -> None:
    made = prepared("fresh")
    run = machine.apply_run(made.store, [plain(b"one"), plain(b""), plain(b"two"), plain(b"three")], STAMP)
    assert [write.record for write in run.writes if isinstance(write, PutRecord)] == [
        Record(11, b"onetwothree", (3, 6))
    ]


TEXTS = st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=4)
MESSAGE = st.sampled_from([b"1", b"22", b'{"a":[1,2]}', b'"x,y"'])
MESSAGES = st.lists(st.lists(MESSAGE, min_size=1, max_size=3), min_size=1, max_size=4)


@given(TEXTS | MESSAGES, st.integers(0, 4), st.integers(0, 6))
@example([b"abc", b"def"], 0, 5)
@example([[b"1", b"2"], [b"3", b"4"]], 0, 3)
@example([[b"1"], [b"2"], [b"3"]], 1, 1)
def test_a_fork_of_appends_that_came_together_is_one_of_each_by_itself(
    sent: list[bytes] | list[list[bytes]], pick: int, sub_offset: int
) -> None:
    """How appends came to be in one entry must show nowhere."""
    kind = TEXT if isinstance(sent[0], bytes) else "application/json"
    bodies = [each if isinstance(each, bytes) else b",".join(each) for each in sent]
    commands = [c.Append("s", kind, body, False, None, None) for body in bodies]
    alone, together = Machine(), Machine()
    for each in (alone, together):
        each.apply(c.Create("s", kind, None, None, False, b"", None))
    ends = [alone.apply(command) for command in commands]
    assert list(together.apply_run(commands)) == ends
    anchor = ([START] + [end.next_offset for end in ends if isinstance(end, Appended)])[pick % (len(ends) + 1)]
    fork = c.Create("f", None, None, None, False, b"", c.Fork("s", anchor, sub_offset))
    outcome = alone.apply(fork)
    assert together.apply(fork) == outcome
    if isinstance(outcome, Created):
        assert together.read("f", START) == alone.read("f", START)
