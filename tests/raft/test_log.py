"""The log as the core sees it: marks that only move forward, and memory that is released."""

import pytest

from durable_streams_cluster.ids import Index, Term
from durable_streams_cluster.raft import Entry, EntryKind
from durable_streams_cluster.raft.log import RaftLog


def entry(index: int, term: int = 1) -> Entry:
    return Entry(Term(term), Index(index), EntryKind.COMMANDS, 1, 0, 0, b"%d" % index)


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


def indexes(entries: tuple[Entry, ...]) -> list[int]:
    return [each.index for each in entries]


def test_a_new_log_is_empty() -> None:
    log = RaftLog(Disk(), Index(0))
    assert (log.last, log.last_term, log.durable, log.committed, log.applied) == (0, 0, 0, 0, 0)
    assert log.hand_out() == log.hand_out_committed() == ()
    log.check()


def test_each_entry_is_handed_out_once() -> None:
    log = RaftLog(Disk(), Index(0))
    for number in (1, 2):
        log.append(entry(number))
    assert indexes(log.hand_out()) == [1, 2]
    assert log.hand_out() == ()
    log.append(entry(3))
    assert indexes(log.hand_out()) == [3]
    log.durable = Index(3)
    log.committed = Index(2)
    assert indexes(log.hand_out_committed()) == [1, 2]
    assert log.hand_out_committed() == ()
    log.committed = Index(3)
    assert indexes(log.hand_out_committed()) == [3]
    log.check()


def test_a_restart_hands_out_what_is_stored_and_not_applied_to_be_applied_but_not_to_be_stored() -> None:
    log = RaftLog(Disk(*map(entry, range(3, 8))), Index(4))
    assert (log.last, log.durable, log.committed, log.applied) == (7, 7, 4, 4)
    assert log.hand_out() == log.hand_out_committed() == ()
    log.append(entry(8, 2))
    assert indexes(log.hand_out()) == [8]
    log.committed = Index(8)
    assert indexes(log.hand_out_committed()) == [5, 6, 7, 8]
    log.check()


def test_a_log_that_was_compacted_away_goes_on_after_what_was_applied() -> None:
    log = RaftLog(Disk(), Index(9))
    assert log.last == 9
    log.append(entry(10, 3))
    assert indexes(log.hand_out()) == [10]


def test_applying_releases_memory_and_terms_before_it() -> None:
    log = RaftLog(Disk(), Index(0))
    for number in range(1, 5):
        log.append(entry(number, (number + 1) // 2))
    log.hand_out()
    log.committed = Index(3)
    assert [log.term_at(Index(number)) for number in range(6)] == [None, 1, 1, 2, 2, None]
    log.mark_applied(Index(3))
    assert [log.term_at(Index(number)) for number in range(6)] == [None, None, None, None, 2, None]
    assert log.last == 4
    log.check()


@pytest.mark.parametrize("wrong", [entry(1), entry(3), entry(2, 0)], ids=["again", "with a hole", "of an older term"])
def test_an_entry_that_does_not_follow_is_refused(wrong: Entry) -> None:
    log = RaftLog(Disk(), Index(0))
    log.append(entry(1))
    with pytest.raises(AssertionError):
        log.append(wrong)


def test_marks_do_not_pass_each_other() -> None:
    log = RaftLog(Disk(*map(entry, range(1, 4))), Index(2))
    for wrong in (1, 3):
        with pytest.raises(AssertionError):
            log.mark_applied(Index(wrong))


def test_a_hole_on_disk_is_refused() -> None:
    with pytest.raises(AssertionError, match="no hole"):
        RaftLog(Disk(entry(1), entry(3)), Index(0))
