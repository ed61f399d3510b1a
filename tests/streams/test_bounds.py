"""Bounds that the machine itself keeps, so that every replica keeps them alike."""

import pytest

from durable_streams_cluster.limits import MAX_FORKS_PER_STREAM, MAX_PRODUCERS_PER_STREAM
from durable_streams_cluster.streams import commands as c
from durable_streams_cluster.streams import retention
from durable_streams_cluster.streams.offsets import MAX_PART
from durable_streams_cluster.streams.outcomes import Appended, Created, ForkRefused, StreamFull, TooManyProducers
from tests.streams.harness import Machine


def produce(machine: Machine, number: int, seq: int = 0) -> object:
    producer = c.Producer(f"p{number}", 0, seq)
    return machine.apply(c.Append("s", "text/plain", b"x", False, None, producer))


def create(path: str, fork: c.Fork | None = None) -> c.Create:
    return c.Create(path, "text/plain", None, None, False, b"", fork)


def test_a_stream_remembers_so_many_producers() -> None:
    machine = Machine(turn_length=None)
    machine.apply(create("s"))
    for number in range(MAX_PRODUCERS_PER_STREAM):
        assert isinstance(produce(machine, number), Appended)
    assert produce(machine, MAX_PRODUCERS_PER_STREAM) == TooManyProducers(MAX_PRODUCERS_PER_STREAM)
    repeated = produce(machine, 0)
    assert isinstance(repeated, Appended), "those it knows go on"
    assert repeated.duplicate
    assert isinstance(produce(machine, 0, seq=1), Appended)
    assert isinstance(machine.apply(c.Append("s", "text/plain", b"x", False, None, None)), Appended)


def test_a_stream_has_so_many_forks_at_a_time() -> None:
    machine = Machine(turn_length=None)
    machine.apply(create("s"))
    for number in range(MAX_FORKS_PER_STREAM):
        assert isinstance(machine.apply(create(f"f{number}", c.Fork("s", None, 0))), Created)
    refused = machine.apply(create("more", c.Fork("s", None, 0)))
    assert isinstance(refused, ForkRefused)
    assert refused.field == "Stream-Forked-From"
    machine.apply(c.Delete("f7"))
    assert isinstance(machine.apply(create("more", c.Fork("s", None, 0))), Created)


@pytest.mark.parametrize(("body", "fits"), [(b"", True), (b"x", True), (b"xx", False)])
def test_a_stream_ends_where_offsets_do(body: bytes, fits: bool) -> None:
    machine = Machine(turn_length=None)
    machine.apply(create("s"))
    machine.apply(c.Append("s", "text/plain", b"x", False, None, None))
    ref, meta = machine.found("s")
    meta = type(meta)(**{field: getattr(meta, field) for field in meta.__struct_fields__} | {"tail": MAX_PART - 1})
    assert retention.limit(meta) == MAX_PART
    assert retention.most(meta) == MAX_PART
    machine.store._metas[ref] = meta
    outcome = machine.apply(c.Append("s", "text/plain", body, True, None, None))
    assert isinstance(outcome, Appended if fits else StreamFull)
