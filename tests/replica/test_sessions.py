"""Each command of an origin is applied once, whatever comes twice, late or never."""

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.ids import Index
from durable_streams_cluster.replica.sessions import MAX_ORIGINS, Sessions
from durable_streams_cluster.storage.codecs import Session

commands = st.tuples(st.integers(1, 3), st.integers(0, 12))


@given(st.lists(st.lists(commands, max_size=6), max_size=12))
def test_a_number_is_new_until_it_was_applied(entries: list[list[tuple[int, int]]]) -> None:
    sessions, applied = Sessions({}), set[tuple[int, int]]()
    stored: dict[int, Session] = {}
    for index, entry in enumerate(entries, 1):
        for origin, number in entry:
            assert sessions.is_new(origin, number) is ((origin, number) not in applied)
            if sessions.is_new(origin, number):
                sessions.applied(origin, number, Index(index))
                applied |= {(origin, number)} if number else set()
        changes = sessions.changes()
        assert all(session is not None and session != stored.get(origin) for origin, session in changes.items())
        stored |= {origin: session for origin, session in changes.items() if session is not None}
        restarted = Sessions(dict(stored))
        for origin in range(1, 4):
            for number in range(13):
                assert restarted.is_new(origin, number) is sessions.is_new(origin, number)
    assert not sessions.changes()


def test_who_wrote_longest_ago_is_forgotten() -> None:
    sessions = Sessions({origin: Session(Index(origin), 5) for origin in range(1, MAX_ORIGINS + 1)})
    sessions.applied(1, 6, Index(MAX_ORIGINS + 1))
    sessions.applied(MAX_ORIGINS + 1, 1, Index(MAX_ORIGINS + 2))
    assert sessions.changes() == {
        1: Session(Index(MAX_ORIGINS + 1), 6),
        2: None,
        MAX_ORIGINS + 1: Session(Index(MAX_ORIGINS + 2), 1),
    }
    assert sessions.is_new(2, 5), "it is not known any more"


def test_a_restarted_replica_forgets_the_same_origin_as_one_that_ran_on() -> None:
    # Both wrote last in entry 7, the larger incarnation first: a restart reads them from the store, by incarnation.
    ran_on = Sessions({})
    ran_on.applied(9, 1, Index(7))
    ran_on.applied(3, 1, Index(7))
    for origin in range(10, MAX_ORIGINS + 8):
        ran_on.applied(origin, 1, Index(9))
    stored = {origin: session for origin, session in ran_on.changes().items() if session is not None}
    restarted = Sessions(dict(sorted(stored.items())))
    for sessions in (ran_on, restarted):
        sessions.applied(MAX_ORIGINS + 50, 1, Index(10))
    assert ran_on.changes() == restarted.changes() == {3: None, MAX_ORIGINS + 50: Session(Index(10), 1)}
