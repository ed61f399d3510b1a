"""Idempotent producers: the epoch and sequence table of PROTOCOL 5.2.1, row by row.

The order of fields is the stored format: add only at the end, with a default.
"""

import msgspec

from durable_streams_cluster.limits import PRODUCER_WINDOW
from durable_streams_cluster.streams.commands import Producer
from durable_streams_cluster.streams.outcomes import ProducerBadStart, ProducerFenced, ProducerGap


class ProducerState(msgspec.Struct, frozen=True, array_like=True):
    """What a stream remembers of one producer: its epoch, its newest sequence, where its last batches ended."""

    epoch: int
    seq: int
    ends: tuple[int, ...]
    """End positions (bytes) of the newest batches of this epoch, the last one being ``seq``'s; at most 64."""


class Accepted(msgspec.Struct, frozen=True):
    """The batch is new."""


class Repeated(msgspec.Struct, frozen=True):
    """The batch was stored before; ``end`` is where (bytes), None when it is older than what is kept."""

    end: int | None


ACCEPTED = Accepted()


def judge(
    state: ProducerState | None, producer: Producer
) -> Accepted | Repeated | ProducerFenced | ProducerBadStart | ProducerGap:
    """Decide on one batch. A producer never seen must begin with sequence 0, in any epoch."""
    if state is None:
        return ACCEPTED if producer.seq == 0 else ProducerGap(expected=0, received=producer.seq)
    if producer.epoch < state.epoch:
        return ProducerFenced(epoch=state.epoch)
    if producer.epoch > state.epoch:
        return ACCEPTED if producer.seq == 0 else ProducerBadStart(epoch=producer.epoch, seq=producer.seq)
    if producer.seq <= state.seq:
        back = state.seq - producer.seq
        return Repeated(end=state.ends[-1 - back] if back < len(state.ends) else None)
    if producer.seq == state.seq + 1:
        return ACCEPTED
    return ProducerGap(expected=state.seq + 1, received=producer.seq)


def after(state: ProducerState | None, producer: Producer, end: int) -> ProducerState:
    """The state once the accepted batch is stored up to ``end`` (bytes)."""
    if state is None or producer.epoch > state.epoch:
        return ProducerState(epoch=producer.epoch, seq=producer.seq, ends=(end,))
    return ProducerState(epoch=state.epoch, seq=producer.seq, ends=(*state.ends[1 - PRODUCER_WINDOW :], end))
