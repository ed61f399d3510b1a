"""The pure half of the benchmarks: what is judged, and how it is told."""

from pathlib import Path

import pytest

from benchmarks.report import markdown, medians, plots
from benchmarks.rows import Row, verdicts
from benchmarks.run import wanted

FASTER = Row("1", "appends", "appends/s", {}, {"files": 20, "memory": 1})


def test_a_ratio_is_met_or_missed_or_under_half() -> None:
    found = {"ours": {"rate": 1000.0}, "files": {"rate": 50.0}, "memory": {"rate": 1500.0}}
    files, memory = verdicts(FASTER, found)
    assert (files.met, files.at_half, files.reached) == (True, True, 20.0)
    assert (memory.met, memory.at_half) == (False, True)
    assert not verdicts(FASTER, found | {"memory": {"rate": 2001.0}})[1].at_half


def test_who_was_not_measured_is_not_judged() -> None:
    assert verdicts(FASTER, {"files": {"rate": 50.0}}) == []
    assert [each.target for each in verdicts(FASTER, {"ours": {"rate": 1.0}, "memory": {"rate": 1.0}})] == [
        ">= 1 x memory"
    ]


@pytest.mark.parametrize(("reached", "met", "at_half"), [(1.9, True, True), (3.9, False, True), (4.1, False, False)])
def test_of_what_had_better_be_little_half_is_twice_as_much(reached: float, met: bool, at_half: bool) -> None:
    verdict = verdicts(Row("11", "wait", "ms", {}, most=2.0), {"ours": {"rate": reached}})[0]
    assert (verdict.met, verdict.at_half) == (met, at_half)


def test_the_table_has_medians_and_what_was_reached() -> None:
    found = {"1": {"ours": [{"rate": rate, "appends_per_sync": 50.0} for rate in (1.0, 2000.0, 1000.0)]}}
    found["1"]["files"] = [{"rate": 100.0}]
    judged = {"1": verdicts(FASTER, medians(found["1"]))}
    line = markdown([FASTER, Row("2", "not run", "x", {})], found, judged).splitlines()[-1]
    assert line == (
        "| 1 | appends | 1,000 (50.0 a sync) appends/s | reference, on files 100 | >= 20 x files: 10.00, missed |"
    )


def test_a_number_chooses_all_its_lines() -> None:
    for number, rows, chosen in (
        ("4, 32", ["4"], True),
        ("1b", ["1"], True),
        ("11, one node", ["1"], False),
        ("10", [], True),
    ):
        assert wanted(number, rows) == chosen


def test_plots_are_made_where_they_can_be(tmp_path: Path) -> None:
    made = plots([FASTER], {"1": {"ours": [{"rate": 1.0}], "files": [{"rate": 2.0}]}}, tmp_path)
    assert all(each.stat().st_size for each in made)
