"""ETag, Cache-Control and the cursor (PROTOCOL 10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.api import Page
from durable_streams_cluster.gateway import caching
from durable_streams_cluster.streams.offsets import START, Offset
from tests.runs import alone

EPOCH, INTERVAL = caching.CURSOR_EPOCH_MS, caching.CURSOR_INTERVAL_MS
WALL_MS = st.integers(0, 4_102_444_800_000)
JITTER = st.floats(0, 1, exclude_max=True)


def page(**changes: object) -> Page:
    fields: dict[str, object] = {
        "stream": "1-1",
        "content_type": "text/plain",
        "is_json": False,
        "start": START,
        "next": Offset(1, 3),
        "records": alone(b"abc"),
        "up_to_date": True,
        "closed": False,
        "ttl_s": None,
        "expires_at_ms": None,
        "encoded": {},
    }
    return Page(**(fields | changes))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- cursor


def test_a_cursor_counts_intervals_from_its_epoch() -> None:
    assert caching.cursor(None, EPOCH, 0.5) == "0"
    assert caching.cursor(None, EPOCH + 19_999, 0.5) == "0"
    assert caching.cursor(None, EPOCH + 20_000, 0.5) == "1"
    assert caching.cursor("3", EPOCH + 5 * INTERVAL, 0.5) == "5"
    assert caching.cursor(None, 0, 0.5) == "0", "a clock before the epoch is no reason to fail"


@given(st.integers(0, 10**14), WALL_MS, JITTER)
def test_a_cursor_never_goes_back_and_never_stays(asked: int, wall_ms: int, jitter: float) -> None:
    now = max(0, (wall_ms - EPOCH) // INTERVAL)
    answer = int(caching.cursor(str(asked), wall_ms, jitter))
    if asked < now:
        assert answer == now
    else:
        assert asked < answer <= asked + 3600 * 1000 // INTERVAL


@given(st.lists(st.tuples(st.integers(-100_000, 100_000), JITTER), max_size=30))
def test_a_client_that_echoes_its_cursor_never_sees_one_twice(steps: list[tuple[int, float]]) -> None:
    """Whatever the wall clock does, back and forth."""
    wall_ms, asked, seen = EPOCH + 10**9, None, -1
    for step_ms, jitter in steps:
        wall_ms += step_ms
        asked = caching.cursor(asked, wall_ms, jitter)
        assert int(asked) > seen
        seen = int(asked)


def test_a_cursor_never_goes_back_at_the_edge_of_what_is_accepted() -> None:
    asked = "9" * 15
    following = caching.cursor(asked, EPOCH, 0.5)
    assert int(asked) < int(following) < int(caching.cursor(following, EPOCH, 0.5))


@pytest.mark.parametrize("asked", ["", "-1", "x", "1.5", " 5", "5\n", "\u0665", "9" * 400, "0x10"])
def test_what_was_never_minted_is_ignored(asked: str) -> None:
    assert caching.cursor(asked, EPOCH + 7 * INTERVAL, 0.5) == "7"


@given(st.integers(0, 10**14), WALL_MS, JITTER)
def test_the_jitter_stays_below_an_hour(asked: int, wall_ms: int, jitter: float) -> None:
    lowest = int(caching.cursor(str(asked), wall_ms, 0.0))
    assert lowest <= int(caching.cursor(str(asked), wall_ms, jitter)) <= lowest + 180


# --------------------------------------------------------------------------------------------------------------- ETag

CHANGES: list[dict[str, object]] = [
    {"stream": "1-2"},
    {"start": Offset(1, 1)},
    {"next": Offset(1, 4)},
    {"next": Offset(2, 3)},
    {"closed": True},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_tag_varies_with_all_that_the_response_depends_on(change: dict[str, object]) -> None:
    assert caching.etag(page(**change)) != caching.etag(page())


def test_a_tag_is_quoted_and_has_no_comma() -> None:
    tag = caching.etag(page(closed=True))
    assert tag.startswith(b'"')
    assert tag.endswith(b':c"')
    assert b"," not in tag


@pytest.mark.parametrize(
    ("sent", "same"),
    [
        (None, False),
        (b'"a"', True),
        (b'W/"a"', True),
        (b' "x" , "a" ', True),
        (b'"x",W/"a"', True),
        (b"*", True),
        (b" * ", True),
        (b'"b"', False),
        (b"a", False),
        (b"", False),
        (b'"a":c', False),
    ],
)
def test_if_none_match(sent: bytes | None, same: bool) -> None:
    assert caching.matches(sent, b'"a"') is same


# ------------------------------------------------------------------------------------------------------ Cache-Control


@pytest.mark.parametrize(
    ("ttl_s", "expected"),
    [
        (None, b"public, max-age=60, stale-while-revalidate=300"),
        (3600, b"public, max-age=60, stale-while-revalidate=300"),
        (360, b"public, max-age=60, stale-while-revalidate=300"),
        (359, b"public, max-age=60"),
        (59, b"public, max-age=59"),
        (1, b"public, max-age=1"),
    ],
)
def test_a_page_with_data_may_be_kept_no_longer_than_its_window(ttl_s: int | None, expected: bytes) -> None:
    assert caching.cache_control(page(ttl_s=ttl_s), EPOCH) == expected
    ends = None if ttl_s is None else EPOCH + ttl_s * 1000
    assert caching.cache_control(page(expires_at_ms=ends), EPOCH) == expected


def test_a_page_of_a_stream_that_is_over_is_not_kept() -> None:
    assert caching.cache_control(page(expires_at_ms=EPOCH - 1), EPOCH) == b"public, max-age=0"


def test_the_cursor_of_one_connection_keeps_to_the_clock() -> None:
    assert caching.moved_on("7", EPOCH + 9 * INTERVAL) == "9"
    assert caching.moved_on("12", EPOCH + 9 * INTERVAL) == "12"


def test_an_empty_page_is_asked_for_again() -> None:
    assert caching.cache_control(page(records=[]), EPOCH) == b"no-cache"
