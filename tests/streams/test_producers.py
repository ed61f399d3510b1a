"""The producer table (PROTOCOL 5.2.1) against the protocol's own pseudo code, written out slowly."""

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.limits import PRODUCER_WINDOW
from durable_streams_cluster.streams import producers
from durable_streams_cluster.streams.commands import Producer
from durable_streams_cluster.streams.outcomes import ProducerBadStart, ProducerFenced, ProducerGap
from durable_streams_cluster.streams.producers import Accepted, ProducerState, Repeated

BATCHES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40)


class Slow:
    """The protocol's validation logic, remembering every batch for ever."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.ends: list[int] = []

    def judge(self, epoch: int, seq: int) -> object:
        if self.epoch is None:
            return Accepted() if seq == 0 else ProducerGap(0, seq)
        if epoch < self.epoch:
            return ProducerFenced(self.epoch)
        if epoch > self.epoch:
            return Accepted() if seq == 0 else ProducerBadStart(epoch, seq)
        if seq < len(self.ends):
            kept = len(self.ends) - seq <= 64
            return Repeated(self.ends[seq] if kept else None)
        return Accepted() if seq == len(self.ends) else ProducerGap(len(self.ends), seq)

    def store(self, epoch: int, end: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.ends = epoch, []
        self.ends.append(end)


@given(BATCHES)
def test_any_sequence_of_batches_is_judged_as_the_protocol_says(batches: list[tuple[int, int]]) -> None:
    slow, state, end = Slow(), None, 0
    for epoch, seq in batches:
        producer = Producer("p", epoch, seq)
        verdict = producers.judge(state, producer)
        assert verdict == slow.judge(epoch, seq)
        if isinstance(verdict, Accepted):
            end += 10
            state = producers.after(state, producer, end)
            slow.store(epoch, end)
            assert (state.epoch, state.seq, state.ends[-1]) == (epoch, seq, end)


@given(st.integers(0, 200), st.integers(0, 220))
def test_a_window_of_batches_is_remembered(stored: int, asked: int) -> None:
    slow, state = Slow(), None
    for seq in range(stored):
        state = producers.after(state, Producer("p", 0, seq), seq * 7)
        slow.store(0, seq * 7)
    assert producers.judge(state, Producer("p", 0, asked)) == slow.judge(0, asked)
    assert state is None or len(state.ends) == min(stored, PRODUCER_WINDOW)


def test_the_state_stays_small_and_whole() -> None:
    state: ProducerState | None = None
    for seq in range(1_000):
        state = producers.after(state, Producer("p", 5, seq), seq)
    assert state == ProducerState(5, 999, tuple(range(936, 1_000)))
