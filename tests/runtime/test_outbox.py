"""What waits for a peer: order, priority, bounds, and what is lost when they are reached."""

import random
from collections import deque

import pytest

from durable_streams_cluster.limits import MAX_APPEND_BYTES, MAX_ENTRY_BYTES, MIB, PeerLimits
from durable_streams_cluster.runtime.outbox import Kind, Lane, Outbox

SMALL = PeerLimits(
    envelope_bytes=100,
    urgent_bytes=40,
    envelope_payloads=6,
    heartbeats=3,
    heartbeat_bytes=10,
    raft_queue_bytes=1000,
    queue_payloads=20,
)


def drained(outbox: Outbox) -> list[list[bytes]]:
    return list(iter(outbox.take, []))


def test_what_fits_travels_together_in_order() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    payloads = [bytes([number]) * size for number, size in enumerate((60, 40, 1, 99, 1, 150, 10))]
    assert all(outbox.put(payload, Kind.RAFT) for payload in payloads)
    assert [list(map(len, batch)) for batch in drained(outbox)] == [[60, 40], [1, 99], [1], [150], [10]]
    assert outbox.queued_bytes == len(outbox) == outbox.dropped == 0


def test_an_envelope_holds_so_many() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    for _ in range(15):
        outbox.put(b"", Kind.RAFT)
    assert list(map(len, drained(outbox))) == [6, 6, 3]


def test_heartbeats_go_first_and_in_a_short_envelope() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    for payload in (b"a" * 30, b"b" * 30):
        outbox.put(payload, Kind.RAFT)
    outbox.put(b"beat", Kind.HEARTBEAT)
    assert drained(outbox) == [[b"beat", b"a" * 30], [b"b" * 30]]


def test_of_heartbeats_the_newest_are_kept() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    assert all(outbox.put(b"%d" % number, Kind.HEARTBEAT) for number in range(5))
    assert (outbox.dropped, outbox.full) == (2, False)
    assert drained(outbox) == [[b"2", b"3", b"4"]]


def test_a_full_queue_takes_nothing_until_half_of_it_is_gone_but_heartbeats() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    taken = [outbox.put(b"x" * 100, Kind.RAFT) for _ in range(12)]
    assert taken == [True] * 10 + [False] * 2
    assert not outbox.put(b"", Kind.RAFT), "a small one must not overtake those that were lost"
    assert outbox.put(b"beat", Kind.HEARTBEAT)
    assert (outbox.full, outbox.dropped) == (True, 3)
    while outbox.queued_bytes > 500:
        assert outbox.full
        outbox.take()
    assert not outbox.full
    assert outbox.put(b"", Kind.RAFT)


def test_many_that_weigh_nothing_fill_it_too() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    assert sum(outbox.put(b"", Kind.RAFT) for _ in range(100)) == 20
    outbox.take()
    assert outbox.full
    outbox.take()
    assert not outbox.full


def test_one_that_is_larger_than_the_queue_is_taken_when_nothing_else_waits() -> None:
    limits = PeerLimits()
    outbox = Outbox(Lane.BULK, limits)
    large = bytes(MAX_APPEND_BYTES)
    assert len(large) > limits.bulk_queue_bytes
    assert outbox.put(large, Kind.BULK)
    assert not outbox.put(b"x", Kind.BULK)
    assert outbox.take() == [large]
    assert outbox.put(b"x", Kind.BULK)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(Kind.HEARTBEAT, 8192), (Kind.RAFT, 2 * MIB), (Kind.BULK, MAX_APPEND_BYTES + MIB)],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_never_fits_its_stream_is_a_mistake_of_its_maker(kind: Kind, size: int) -> None:
    outbox = Outbox(kind.lane, PeerLimits())
    assert outbox.put(bytes(size), kind)
    with pytest.raises(ValueError, match=f"{kind.value} payload of {size + 1} bytes; at most {size}"):
        outbox.put(bytes(size + 1), kind)


def test_clearing_counts_what_is_lost() -> None:
    outbox = Outbox(Lane.RAFT, SMALL)
    for _ in range(25):
        outbox.put(b"x", Kind.RAFT)
    outbox.put(b"beat", Kind.HEARTBEAT)
    outbox.clear()
    assert (len(outbox), outbox.queued_bytes, outbox.dropped, outbox.full) == (0, 0, 26, False)


def test_against_a_plain_queue(seed: int) -> None:
    """Whatever is put and taken: the order of each kind is kept, nothing is doubled, and all are accounted for."""
    rng = random.Random(seed)
    outbox, waiting, given, out = Outbox(Lane.RAFT, SMALL), deque[bytes](), 0, 0
    for number in range(2000):
        if rng.random() < 0.7:
            kind = Kind.HEARTBEAT if rng.random() < 0.1 else Kind.RAFT
            payload = b"%04d" % number + bytes(rng.randrange(6 if kind is Kind.HEARTBEAT else 120))
            given += 1
            if outbox.put(payload, kind) and kind is Kind.RAFT:
                waiting.append(payload)
        else:
            batch = outbox.take()
            out += len(batch)
            assert len(batch) <= SMALL.envelope_payloads
            assert len(batch) <= 1 or sum(map(len, batch)) <= SMALL.envelope_bytes
            for payload in batch:
                if waiting and payload == waiting[0]:
                    waiting.popleft()
        assert outbox.queued_bytes <= SMALL.raft_queue_bytes + SMALL.heartbeats * SMALL.heartbeat_bytes + 124
        assert given == out + outbox.dropped + len(outbox)
    out += sum(map(len, drained(outbox)))
    assert outbox.queued_bytes == 0
    assert given == out + outbox.dropped


def test_the_largest_of_everything_fits_a_message() -> None:
    limits = PeerLimits()
    assert limits.message_bytes > limits.bulk_payload_bytes > MAX_APPEND_BYTES
    assert limits.raft_payload_bytes > MAX_ENTRY_BYTES
