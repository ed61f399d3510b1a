"""Offsets as text (PROTOCOL 8): one form, sorted as the stream is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.streams.offsets import MAX_PART, START, Offset, parse

PARTS = st.integers(0, MAX_PART)
OFFSETS = st.builds(Offset, PARTS, PARTS)


@given(OFFSETS)
def test_text_and_back(offset: Offset) -> None:
    assert parse(str(offset)) == offset
    assert len(str(offset)) == 33


@given(OFFSETS, OFFSETS)
def test_text_sorts_by_generation_then_position(one: Offset, other: Offset) -> None:
    def numbers(offset: Offset) -> tuple[int, int]:
        return (offset.generation, offset.position)

    assert (str(one) < str(other)) == (numbers(one) < numbers(other))


@given(OFFSETS)
def test_text_has_nothing_that_a_query_must_escape_and_is_no_sentinel(offset: Offset) -> None:
    assert set(str(offset)) <= set("0123456789_")
    assert str(offset) not in {"-1", "now"}


def test_the_start() -> None:
    assert str(START) == "0000000000000000_0000000000000000"


NO_OFFSETS = [
    *[
        "",
        "_",
        "1",
        "1_",
        "_1",
        "1_2_3",
        "1_5",
        "-1",
        "now",
        "1_-2",
        "+1_2",
        "1 _2",
        " 1_2",
        "1_2 ",
        "1_2\n",
        "1.0_2",
        "1,2",
    ],
    *["0x1_2", "\u0661_\u0662", "1\uff3f2", "0" * 17 + "_1", "1_" + "0" * 17, "1e3_2", "\x001_2", "1/2", "1_2?"],
]


@pytest.mark.parametrize("text", NO_OFFSETS)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="two groups of 16 digits"):
        parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        offset = parse(text)
    except ValueError:
        return
    assert parse(str(offset)) == offset
