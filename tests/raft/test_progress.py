"""One follower in its leader's eyes: probing, the window, and what is done when something was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft.messages import EntryId
from durable_streams_cluster.raft.progress import LONE_BYTES, Progress, State


def made(next_index: int = 11, *, messages: int = 3, size: int = 100) -> Progress:
    return Progress(Index(next_index), messages, size)


def replicating(match: int = 10, *, messages: int = 3, size: int = 100) -> Progress:
    progress = made(match + 1, messages=messages, size=size)
    progress.acked(Index(match))
    return progress


def send(progress: Progress, count: int, size: int = 10) -> None:
    """Send messages of one entry each."""
    for _ in range(count):
        progress.sent(progress.next, size, Index(0))


def newest(index: int) -> EntryId:
    return EntryId(Term(1), Index(index))


def test_a_probe_waits_for_its_answer() -> None:
    progress = made()
    assert not progress.paused
    progress.sent(Index(14), 40, Index(3))
    assert progress.paused
    assert (progress.next, progress.commit_sent) == (11, 3)
    assert progress.acked(Index(14))
    assert (progress.state, progress.match, progress.next, progress.paused) == (State.REPLICATE, 14, 15, False)


def test_a_heartbeat_that_was_answered_allows_another_probe() -> None:
    progress = made()
    progress.sent(Index(10), 0, Index(0))
    progress.heard(newest(10))
    assert not progress.paused


def test_a_rejection_moves_a_probe_back_to_what_both_may_have() -> None:
    progress = made()
    assert progress.rejected(Index(10), Index(4))
    assert progress.next == 5
    assert not progress.rejected(Index(10), Index(3)), "it answers a probe of long ago"
    assert progress.next == 5
    assert progress.rejected(Index(4), Index(20)), "at least one back, whatever the hint says"
    assert progress.next == 4


def test_a_probe_never_goes_back_behind_what_is_known() -> None:
    progress = replicating(10)
    progress.probe(Index(20))
    progress.rejected(Index(19), Index(3))
    assert progress.next == 11


def test_the_window_has_a_limit_in_messages() -> None:
    progress = replicating(messages=3)
    send(progress, 3)
    assert progress.paused
    progress.acked(Index(11))
    assert not progress.paused
    send(progress, 1)
    progress.acked(Index(14))
    assert (progress.match, progress.next) == (14, 15)


def test_the_window_has_a_limit_in_bytes_that_the_last_message_may_pass() -> None:
    progress = replicating(size=100)
    send(progress, 1, 99)
    assert not progress.paused
    send(progress, 1, 5000)
    assert progress.paused
    progress.acked(Index(11))
    assert progress.paused
    progress.acked(Index(12))
    assert not progress.paused


def test_a_large_message_travels_alone() -> None:
    """It has a stream of its own: what overtakes it is refused by the follower, and all is sent again."""
    progress = replicating(messages=10, size=10 * LONE_BYTES)
    assert not progress.must_wait_alone(LONE_BYTES + 1), "nothing is under way"
    send(progress, 1)
    assert progress.must_wait_alone(LONE_BYTES + 1)
    assert not progress.must_wait_alone(LONE_BYTES)
    progress.acked(Index(11))
    send(progress, 1, LONE_BYTES + 1)
    assert progress.paused, "nothing follows it"
    progress.acked(Index(12))
    assert not progress.paused


def test_an_answer_that_comes_late_or_twice_frees_nothing_more() -> None:
    progress = replicating(messages=2)
    send(progress, 2)
    progress.acked(Index(11))
    for late in (11, 9):
        assert not progress.acked(Index(late))
    send(progress, 1)
    assert progress.paused
    assert progress.match == 11


def test_a_rejection_while_replicating_begins_a_probe_behind_what_is_known() -> None:
    progress = replicating(10)
    send(progress, 3)
    assert not progress.rejected(Index(10), Index(5)), "what it answers is known to be there"
    assert progress.state is State.REPLICATE
    assert progress.rejected(Index(12), Index(11))
    assert (progress.state, progress.next, progress.paused) == (State.PROBE, 12, False)
    progress.check()


@pytest.mark.parametrize("sizes", [(10, 10, 10), (1, 1, 500)], ids=["messages", "bytes"])
def test_a_full_window_without_news_from_one_heartbeat_to_the_next_lets_a_question_out(sizes: tuple[int, ...]) -> None:
    progress = replicating(10, messages=3)
    progress.heard(newest(10))
    for size in sizes:
        send(progress, 1, size)
    progress.heard(newest(13))
    assert progress.nudge
    assert progress.paused, "it may only be slow: it gets no more entries than before"
    progress.sent(Index(13), 0, Index(0))
    assert not progress.nudge
    assert progress.paused
    progress.check()


def test_news_between_two_heartbeats_is_no_loss() -> None:
    progress = replicating(10)
    send(progress, 2)
    progress.heard(newest(12))
    progress.acked(Index(11))
    progress.heard(newest(12))
    assert not progress.nudge


def test_nothing_is_sent_to_who_waits_for_a_snapshot() -> None:
    progress = replicating(10)
    send(progress, 2)
    progress.wait_for_snapshot()
    assert progress.paused
    progress.heard(newest(12))
    assert not progress.rejected(Index(12), Index(11))
    assert progress.acked(Index(11)), "a late answer is news, but what follows it may be gone"
    assert (progress.state, progress.paused) == (State.SNAPSHOT, True)
    progress.check()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), st.integers(1, 3), st.integers(0, 60)),
        st.tuples(st.just("acked"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("rejected"), st.integers(0, 30), st.integers(0, 30)),
        st.tuples(st.just("heard"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("probe"), st.integers(1, 30), st.just(0)),
        st.tuples(st.just("snapshot"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_is_heard_the_invariants_hold_and_what_is_known_never_shrinks(
    steps: list[tuple[str, int, int]],
) -> None:
    progress = made(5)
    match = 0
    for what, number, other in steps:
        if what == "sent" and not progress.paused:
            progress.sent(Index(progress.next + number - 1), other, Index(0))
        elif what == "acked":
            progress.acked(Index(min(number, max(progress.next - 1, match))))
        elif what == "rejected":
            progress.rejected(Index(number), Index(other))
        elif what == "heard":
            progress.heard(newest(number))
        elif what == "probe":
            progress.probe(Index(number))
        elif what == "snapshot":
            progress.wait_for_snapshot()
        progress.check()
        assert progress.match >= match
        match = progress.match
