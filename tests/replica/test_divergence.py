"""A replica on which the same log did something else is found out, and stops."""

import pytest
from msgspec.structs import replace

from durable_streams_cluster.errors import CorruptData
from durable_streams_cluster.ids import Index
from durable_streams_cluster.replica.divergence import KEPT, WINDOW, Hashed, Hashes
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.kv import Family, WriteBatch
from durable_streams_cluster.streams.outcomes import Deleted, NotFound, Outcome
from tests.replica.node import append, create
from tests.replica.trio import Trio


def busy(trio: Trio, rounds: int) -> None:
    for number in range(rounds):
        trio.done(append("s", b"%d" % number), at=f"n{number % 3 + 1}")
        trio.tick()


def test_equal_replicas_never_differ() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    busy(trio, 3 * WINDOW)
    trio.restart("n2")
    busy(trio, 3 * WINDOW)


def test_a_replica_whose_state_was_changed_stops() -> None:
    trio = Trio().boot()
    trio.done(create("s"))
    busy(trio, 10)
    follower = trio.nodes["n3"]
    view = follower.replica.group.store.committed
    ref = view.find("s")
    assert ref is not None
    meta = view.meta(ref)
    assert meta is not None
    damage = WriteBatch()
    damage.put(Family.DATA, keys.meta(ref.slot, 0, ref.id), codecs.encode_meta(replace(meta, tail=meta.tail + 1)))
    follower.batches.append(damage)
    follower.synced = len(follower.batches)
    trio.restart("n3")
    trio.tick(10)
    with pytest.raises(CorruptData, match=r"did something else here than at n\d"):
        busy(trio, 3 * WINDOW)


def hashes(*outcomes: Outcome) -> Hashes:
    made = Hashes()
    made.end_of(Index(WINDOW))
    for outcome in outcomes:
        made.applied([((outcome,), ())])
    return made


def test_windows_are_compared_whoever_comes_first() -> None:
    mine = hashes(NotFound()).end_of(Index(2 * WINDOW))
    assert mine is not None
    late = hashes(NotFound())
    late.heard("n1", mine)
    assert late.end_of(Index(2 * WINDOW)) == mine
    other = hashes(Deleted(soft=True))
    other.heard("n1", mine)
    with pytest.raises(CorruptData):
        other.end_of(Index(2 * WINDOW))
    early = hashes(Deleted(soft=True))
    early.end_of(Index(2 * WINDOW))
    with pytest.raises(CorruptData):
        early.heard("n1", mine)


def test_a_window_that_an_earlier_life_began_does_not_count() -> None:
    begun = Hashes()
    begun.applied([((NotFound(),), ())])
    assert begun.end_of(Index(WINDOW)) is None
    assert begun.end_of(Index(2 * WINDOW)) is not None


def test_what_is_kept_is_bounded() -> None:
    made = hashes()
    for number in range(2, 10 * KEPT):
        made.heard("n1", Hashed(Index(number * WINDOW), 0))
        made.end_of(Index(number * WINDOW))
    assert len(made._mine) == len(made._theirs) == KEPT
