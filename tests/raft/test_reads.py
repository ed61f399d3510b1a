"""Reads that wait for a round: shared, in order, and never answered by anything older than they are."""

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft.reads import ReadQueue

LEADER, A, B, C, D = (NodeId(name) for name in ("l", "a", "b", "c", "d"))
THREE, FIVE = (LEADER, A, B), (LEADER, A, B, C, D)


def test_reads_that_come_together_share_a_round() -> None:
    reads = ReadQueue()
    assert not reads.begin(Index(7)), "nobody waits"
    reads.add("one")
    reads.add("two")
    assert reads.begin(Index(7))
    assert not reads.begin(Index(8)), "nobody new"
    assert reads.answered(LEADER, THREE) == []
    reads.heard(A, reads.round)
    assert reads.answered(LEADER, THREE) == [("one", 7), ("two", 7)]
    assert reads.answered(LEADER, THREE) == []


def test_an_answer_to_an_older_round_says_nothing_of_a_newer_read() -> None:
    """It may have been given before the read was asked, and another may lead since."""
    reads = ReadQueue()
    reads.add("old")
    reads.begin(Index(3))
    old = reads.round
    reads.add("new")
    reads.begin(Index(5))
    reads.heard(A, old)
    assert reads.answered(LEADER, THREE) == [("old", 3)]
    reads.heard(B, old)
    assert reads.answered(LEADER, THREE) == []


def test_an_answer_to_a_newer_round_answers_all_older_ones() -> None:
    """So a heartbeat that was lost costs only the time to the next."""
    reads = ReadQueue()
    for number, token in enumerate("abc", 1):
        reads.add(token)
        reads.begin(Index(number))
    reads.heard(A, reads.round)
    reads.heard(A, 1)
    assert reads.answered(LEADER, THREE) == [("a", 1), ("b", 2), ("c", 3)]


def test_one_member_that_answers_often_is_one_member() -> None:
    reads = ReadQueue()
    reads.add("one")
    reads.begin(Index(1))
    for _ in range(3):
        reads.heard(A, reads.round)
    reads.heard(NodeId("stranger"), reads.round)
    reads.heard(LEADER, reads.round)
    assert reads.answered(LEADER, FIVE) == []
    reads.heard(B, reads.round)
    assert reads.answered(LEADER, FIVE) == [("one", 1)]


def test_a_leader_that_is_alone_is_its_own_majority() -> None:
    reads = ReadQueue()
    reads.add("one")
    reads.begin(Index(4))
    assert reads.answered(LEADER, (LEADER,)) == [("one", 4)]


def test_what_is_dropped_comes_back_once_and_old_answers_mean_nothing_afterwards() -> None:
    reads = ReadQueue()
    reads.add("begun")
    reads.begin(Index(1))
    reads.add("fresh")
    reads.heard(A, reads.round + 5)
    assert reads.drop() == ["begun", "fresh"]
    assert reads.drop() == []
    reads.add("next")
    reads.begin(Index(2))
    assert reads.answered(LEADER, THREE) == []


ACTIONS = st.lists(
    st.one_of(
        st.just(("add", A, 0)),
        st.just(("begin", A, 0)),
        st.tuples(st.just("heard"), st.sampled_from(FIVE), st.integers(0, 4)),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_against_asking_each_read_by_itself(actions: list[tuple[str, NodeId, int]]) -> None:
    """Of each read: its index is that of the moment its round began, and a majority answered this round or later."""
    reads, waiting, begun = ReadQueue(), [], []
    heard: dict[NodeId, int] = {}
    got, asked = [], 0
    for commit, (what, node, back) in enumerate(actions):
        if what == "add":
            asked += 1
            waiting.append(asked)
            reads.add(asked)
        elif what == "begin":
            assert reads.begin(Index(commit)) == bool(waiting)
            begun += [(token, commit, reads.round) for token in waiting]
            waiting = []
        else:
            number = max(0, reads.round - back)
            reads.heard(node, number)
            heard[node] = max(number, heard.get(node, 0))
        got += reads.answered(LEADER, FIVE)
        sure = [
            (token, index)
            for token, index, number in begun
            if sum(node == LEADER or heard.get(node, 0) >= number for node in FIVE) >= 3
        ]
        assert got == sure
    assert sorted(map(str, reads.drop())) == sorted(
        [str(token) for token, index, _ in begun if (token, index) not in got] + list(map(str, waiting))
    )
