"""The log as the core sees it: what is replaced, durable, released, and what the other side may have."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import NOTHING, Entry, EntryId, EntryKind
from durable_streams_cluster.raft import log as raft_log
from durable_streams_cluster.raft.log import RaftLog


def entry(index: int, term: int = 1, size: int = 1) -> Entry:
    return Entry(Term(term), Index(index), EntryKind.COMMANDS, 1, 0, 0, b"x" * size)


def at(term: int, index: int) -> EntryId:
    return EntryId(Term(term), Index(index))


class Disk:
    """A ``LogReader`` over a list."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = {each.index: each for each in entries}
        self.first = min(self.entries, default=Index(1))
        self.last = max(self.entries, default=Index(0))

    def entry(self, index: Index) -> Entry | None:
        return self.entries.get(index)

    def term(self, index: Index) -> Term | None:
        found = self.entries.get(index)
        return found.term if found is not None else None

    def take(self, entries: tuple[Entry, ...]) -> None:
        if entries:
            self.entries = {index: old for index, old in self.entries.items() if index < entries[0].index}
            self.entries |= {each.index: each for each in entries}
            self.first, self.last = min(self.entries), max(self.entries)


def indexes(entries: tuple[Entry, ...] | list[Entry] | None) -> list[int] | None:
    return None if entries is None else [each.index for each in entries]


def filled(*terms: int) -> RaftLog:
    """A log in memory whose entries have these terms."""
    log = RaftLog(Disk(), NOTHING)
    log.merge([entry(index, term) for index, term in enumerate(terms, 1)])
    return log


# ------------------------------------------------------------------------------------------------------------- one node


def test_a_new_log_is_empty() -> None:
    log = RaftLog(Disk(), NOTHING)
    assert (log.newest, log.durable, log.committed, log.applied) == (NOTHING, 0, 0, 0)
    assert log.hand_out(1) == log.hand_out_committed() == ()
    log.check()


def test_each_entry_is_handed_out_once() -> None:
    log = RaftLog(Disk(), NOTHING)
    for number in (1, 2):
        log.append(entry(number))
    assert indexes(log.hand_out(1)) == [1, 2]
    assert log.hand_out(2) == ()
    log.append(entry(3))
    assert indexes(log.hand_out(2)) == [3]
    log.commit_to(Index(2))
    assert indexes(log.hand_out_committed()) == [1, 2]
    assert log.hand_out_committed() == ()
    log.commit_to(Index(3))
    assert indexes(log.hand_out_committed()) == [3]
    log.check()


def test_committed_entries_are_handed_out_by_bytes_but_one_at_least() -> None:
    log = RaftLog(Disk(), NOTHING)
    log.merge([entry(index, size=size) for index, size in enumerate((4, 9, 4, 4, 4), 1)])
    log.commit_to(Index(5))
    handed = []
    while log.has_committed:
        handed.append(indexes(log.hand_out_committed(8)))
    assert handed == [[1], [2], [3, 4], [5]]


def test_a_restart_hands_out_what_is_stored_and_not_applied_to_be_applied_but_not_to_be_stored() -> None:
    log = RaftLog(Disk(*map(entry, range(3, 8))), at(1, 4))
    assert (log.last, log.durable, log.committed, log.applied) == (7, 7, 4, 4)
    assert log.hand_out(1) == log.hand_out_committed() == ()
    log.append(entry(8, 2))
    assert indexes(log.hand_out(1)) == [8]
    log.commit_to(Index(8))
    assert indexes(log.hand_out_committed()) == [5, 6, 7, 8]
    log.check()


def test_a_log_that_was_compacted_away_goes_on_after_what_was_applied() -> None:
    """As a node is that restarts behind a snapshot; it then leads, and somebody lacks everything."""
    log = RaftLog(Disk(), at(2, 9))
    assert (log.newest, log.first) == (at(2, 9), 10)
    assert log.entries(Index(1), 100) is None
    log.append(entry(10, 3))
    assert indexes(log.hand_out(1)) == [10]
    assert log.entries(Index(9), 100) is None
    assert indexes(log.entries(Index(10), 100)) == [10]


def test_applying_releases_memory_beyond_the_cache() -> None:
    log = RaftLog(Disk(), NOTHING, cache_bytes=2 * 129)
    log.merge([entry(number, (number + 1) // 2) for number in range(1, 6)])
    log.hand_out(1)
    log.commit_to(Index(4))
    assert [log.term_at(Index(number)) for number in range(7)] == [0, 1, 1, 2, 2, 3, None]
    log.mark_applied(Index(4))
    assert [log.term_at(Index(number)) for number in range(7)] == [0, None, None, 2, 2, 3, None]
    assert log.entries(Index(2), 100) is None
    assert indexes(log.entries(Index(3), 100)) == [3, 4, 5]
    log.check()


def test_entries_are_cut_by_bytes_and_a_large_one_goes_alone() -> None:
    log = RaftLog(Disk(), NOTHING)
    log.merge([entry(index, size=size) for index, size in enumerate((3, 3, 3, 50, 3), 1)])
    assert [indexes(log.entries(Index(start), 6)) for start in range(1, 7)] == [[1, 2], [2, 3], [3], [4], [5], []]


def test_what_is_not_in_memory_is_read_from_the_disk() -> None:
    log = RaftLog(Disk(*map(entry, range(3, 8))), at(1, 6))
    assert log.first == 3
    assert [indexes(log.entries(Index(start), 2)) for start in (2, 3, 6, 7)] == [None, [3, 4], [6, 7], [7]]
    assert indexes(log.entries(Index(3), 100)) == [3, 4, 5, 6, 7]
    assert [log.remembers(Index(index)) for index in (6, 7, 8)] == [False, True, True]


def test_what_is_read_from_the_disk_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_log, "READ_AT_ONCE", 3)
    log = RaftLog(Disk(*map(entry, range(1, 9))), at(1, 6))
    assert [indexes(log.entries(Index(start), 100)) for start in (1, 4, 5, 7)] == [
        [1, 2, 3],
        [4, 5, 6, 7, 8],
        [5, 6, 7, 8],
        [7, 8],
    ]


@pytest.mark.parametrize("wrong", [entry(1), entry(3), entry(2, 0)], ids=["again", "with a hole", "of an older term"])
def test_an_entry_that_does_not_follow_is_refused(wrong: Entry) -> None:
    log = RaftLog(Disk(), NOTHING)
    log.append(entry(1))
    with pytest.raises(AssertionError):
        log.append(wrong)


def test_marks_do_not_pass_each_other() -> None:
    log = RaftLog(Disk(*map(entry, range(1, 4))), at(1, 2))
    for wrong in (1, 3):
        with pytest.raises(AssertionError):
            log.mark_applied(Index(wrong))


def test_a_hole_on_disk_is_refused() -> None:
    with pytest.raises(AssertionError, match="no hole"):
        RaftLog(Disk(entry(1), entry(3)), NOTHING)


# ------------------------------------------------------------------------------------------------------------- snapshot


def test_what_a_snapshot_replaced_is_not_read_from_the_disk_that_still_holds_it() -> None:
    """The caller writes at the end of its turn; until then the disk shows the old log, maybe another leader's."""
    disk = Disk(*map(entry, range(1, 8)))
    log = RaftLog(disk, at(1, 2))
    log.restore(at(3, 5))
    assert [log.term_at(Index(number)) for number in range(1, 8)] == [None, None, None, None, 3, None, None]
    assert log.entries(Index(2), 100) is None
    assert (log.newest, log.first) == (at(3, 5), 6)
    log.append(entry(6, 3))
    log.commit_to(Index(6))
    log.mark_applied(Index(6))
    assert log.entries(Index(5), 100) is None
    assert log.term_at(Index(5)) == 3, "who is just behind the snapshot needs no other one"
    log.check()


def test_what_was_applied_before_a_snapshot_may_be_told_late() -> None:
    log = filled(1, 1, 1)
    log.commit_to(Index(2))
    log.hand_out_committed()
    log.restore(at(2, 9))
    log.mark_applied(Index(2))
    assert log.applied == 9


def test_a_snapshot_is_durable_once_its_own_hand_over_is() -> None:
    log = filled(1, 1, 1, 1)
    log.hand_out(1)
    log.commit_to(Index(2))
    log.restore(at(2, 3))
    assert log.hand_out(2) == ()
    log.persisted(1)
    assert log.durable <= 2
    log.persisted(2)
    assert log.durable == 3


# ------------------------------------------------------------------------------------------------------------ conflicts


def test_only_a_conflict_truncates() -> None:
    log = filled(1, 1, 2, 2)
    assert log.merge([entry(2, 1), entry(3, 2)]) is None
    assert log.newest == at(2, 4)
    assert log.merge([entry(3, 2), entry(4, 3), entry(5, 3)]) == 4
    assert [log.term_at(Index(number)) for number in range(1, 7)] == [1, 1, 2, 3, 3, None]


def test_a_committed_entry_is_never_replaced() -> None:
    log = filled(1, 1, 2)
    log.commit_to(Index(2))
    with pytest.raises(AssertionError, match="is committed, and a leader has another one"):
        log.merge([entry(2, 3)])


def test_an_old_write_that_ends_says_nothing_of_the_same_entry_written_again() -> None:
    """ABA: 2/2 was handed over, replaced by 3/2, and restored; the first write of it ends."""
    log = filled(1, 2)
    log.hand_out(1)
    log.merge([entry(2, 3)])
    log.hand_out(2)
    log.merge([entry(2, 4), entry(3, 4)])
    log.hand_out(3)
    for number, durable in ((1, 1), (2, 1), (3, 3)):
        log.persisted(number)
        assert log.durable == durable


@pytest.mark.parametrize(
    ("follower", "leader", "asked"),
    [
        ((1, 1, 1), (1, 1, 1, 4, 4, 5), 6),
        ((1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3), (1, 1, 1, 4, 4, 5, 5, 6, 6, 6), 10),
        ((1, 1, 1, 4, 4, 4, 4), (1, 1, 1, 4, 4, 5, 5, 6, 6, 6), 10),
        ((2, 2, 2), (1, 1, 1, 1, 3), 5),
        ((), (1, 2, 3), 3),
    ],
    ids=["short", "figure 7 f", "figure 7 e", "nothing in common", "empty"],
)
def test_hints_find_where_two_logs_part_within_a_round_per_term(
    follower: tuple[int, ...], leader: tuple[int, ...], asked: int
) -> None:
    """Paper, figure 7."""
    ours, theirs = filled(*follower), filled(*leader)
    common = next((n for n, pair in enumerate(zip(follower, leader, strict=False)) if pair[0] != pair[1]), None)
    common = min(len(follower), len(leader)) if common is None else common
    rounds = 0
    index = Index(asked)
    while not ours.has(EntryId(theirs.term_at(index) or Term(0), index)):
        hint = ours.conflict_hint(EntryId(theirs.term_at(index) or Term(0), index))
        index = min(Index(index - 1), theirs.common(hint))
        assert index >= common, "entries that both have are not skipped"
        rounds += 1
    assert rounds <= len(set(follower)) + 1


# ---------------------------------------------------------------------------------------- against a slow, obvious model


class LogMachine(RuleBasedStateMachine):
    """Whatever comes: what counts as durable is on the disk that has the first so many hand-overs, and no less."""

    @initialize(terms=st.lists(st.integers(1, 2), max_size=4).map(sorted), applied=st.integers(0, 4))
    def start(self, terms: list[int], applied: int) -> None:
        stored = [entry(index, term) for index, term in enumerate(terms, 1)]
        self.disk = Disk(*stored)
        self.applied = min(applied, len(stored))
        done = EntryId(stored[self.applied - 1].term, Index(self.applied)) if self.applied else NOTHING
        self.log = RaftLog(self.disk, done, cache_bytes=300)
        self.model: dict[int, int] = dict(enumerate(terms, 1))
        """The term at each index that is not behind a snapshot."""
        self.base = 0
        """The last snapshot's index."""
        self.before = 0
        """What was committed when it came."""
        self.term = 2
        self.number = 0
        self.images: list[tuple[dict[int, int], int]] = [(dict(self.model), 0)]
        """After each hand-over: what the disk holds, and its snapshot."""
        self.durable = 0

    @property
    def last(self) -> int:
        return max(self.model, default=self.base)

    @rule()
    def new_term(self) -> None:
        self.term += 1

    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.log.append(entry(self.last + 1, self.term))
            self.model[self.last + 1] = self.term

    @rule(back=st.integers(0, 4), known=st.integers(0, 4), fresh=st.integers(0, 3))
    def merge(self, back: int, known: int, fresh: int) -> None:
        """Some that are there already, then some of a new leader: now and then in conflict with what is behind."""
        start = max(self.log.committed, self.last - back) + 1
        upto = min(self.last, start + known - 1)
        sent = [entry(index, self.model[index]) for index in range(start, upto + 1)]
        if fresh:
            self.term += 1
            sent += [entry(index, self.term) for index in range(upto + 1, upto + 1 + fresh)]
        cut = self.log.merge(sent)
        assert cut == (upto + 1 if fresh and upto < self.last else None)
        if fresh:
            self.model = {index: term for index, term in self.model.items() if index <= upto}
            self.model |= {each.index: each.term for each in sent}

    @rule(ahead=st.integers(-3, 5))
    def snapshot(self, ahead: int) -> None:
        index = max(self.log.committed + 1, self.last + ahead)
        self.before = self.log.committed
        self.log.restore(at(self.term, index))
        self.model, self.base = {}, index

    @rule()
    def hand_out(self) -> None:
        self.number += 1
        fresh = self.log.hand_out(self.number)
        self.disk.take(fresh)
        self.images.append((dict(self.model), self.base))

    @precondition(lambda self: self.durable < self.number)
    @rule(more=st.integers(1, 3))
    def persisted(self, more: int) -> None:
        self.durable = min(self.number, self.durable + more)
        self.log.persisted(self.durable)

    @rule(more=st.integers(1, 4))
    def commit(self, more: int) -> None:
        self.log.commit_to(Index(min(self.last, self.log.committed + more)))

    @rule(size=st.integers(1, 3))
    def apply(self, size: int) -> None:
        handed = self.log.hand_out_committed(size)
        if handed:
            self.log.mark_applied(handed[-1].index)

    @invariant()
    def agrees(self) -> None:
        self.log.check()
        assert self.log.last == self.last
        for index in range(self.log.applied + 1, self.last + 2):
            assert self.log.term_at(Index(index)) == self.model.get(index)
        left = range(self.durable, self.number + 1)
        bound = min(map(self._holds, left))
        assert self.log.durable <= bound
        if all(self.images[number][1] == self.base for number in left):
            assert self.log.durable == bound

    def _holds(self, number: int) -> int:
        """Up to where the log of now is on a disk that a crash leaves with so many hand-overs."""
        image, base = self.images[number]
        if base != self.base:
            return self.before
        same = base
        while same < self.last and image.get(same + 1) == self.model[same + 1]:
            same += 1
        return same


TestLog = LogMachine.TestCase
