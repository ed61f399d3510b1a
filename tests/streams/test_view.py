"""Appends that are stored together: what is cut out of them is what it would be of each by itself."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.streams.view import Record, fitting
from tests.runs import alone, together

BODIES = st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=8)
BEGINS = st.integers(0, 20)


@given(BODIES, BEGINS)
def test_each_append_is_there_and_ends_where_it_ended(bodies: list[bytes], begins: int) -> None:
    record = together(*bodies, begins=begins)
    assert (record.appends, record.begins) == (bodies, begins)
    ends = set(accumulate(map(len, bodies), initial=begins)) - {begins}
    assert {at for at in range(begins + 50) if record.ends_at(at)} == ends


@given(BODIES, BEGINS, st.integers(0, 70), st.integers(0, 70))
def test_what_is_between_two_positions(bodies: list[bytes], begins: int, one: int, other: int) -> None:
    record = together(*bodies, begins=begins)
    low, high = sorted((begins + one % len(record.body), begins + 1 + other % len(record.body)))
    if low == high:
        return
    found = record.between(low, high)
    assert (found.begins, found.end) == (low, high)
    assert found.body == record.body[low - begins : high - begins]
    within = {at for at in range(low + 1, high) if record.ends_at(at)}
    assert {at for at in range(low + 1, high) if found.ends_at(at)} == within


@given(BODIES, BODIES, st.integers(0, 60))
def test_as_many_fit_as_would_one_by_one(first: list[bytes], second: list[bytes], most: int) -> None:
    one = together(*first)
    records = [one, together(*second, begins=one.end)]
    found = [body for record in fitting(records, most) for body in record.appends]
    bodies = [*first, *second]
    count = max(1, sum(1 for size in accumulate(map(len, bodies)) if size <= most))
    assert found == bodies[:count]
    assert [body for record in fitting(alone(*bodies), most) for body in record.appends] == found


def test_what_is_whole_is_not_made_anew() -> None:
    record = Record(9, b"onetwo", (3,))
    assert record.between(3, 9) is record.between(0, 100) is record.first(6) is record
    assert list(fitting([record], 6)) == [record]
