"""README's tours: their commands, typed into a shell, print what README says (curl and jq are needed)."""

from collections.abc import Callable

import pytest

from tests.system.tour import README, TOURS, commands, masked, section


@pytest.mark.parametrize(("heading", "tour"), TOURS.items(), ids=["one node", "a shell", "three nodes"])
def test_the_tour_prints_what_readme_shows(heading: str, tour: Callable[[str], str]) -> None:
    readme = README.read_text()
    assert masked(tour(readme)) == masked(section(readme, heading))


def test_a_command_begins_with_a_dollar() -> None:
    assert commands("$ one\noutput\n$ two\n") == ["one", "two"]


def test_appends_that_were_read_together_are_shown_as_if_they_were_not() -> None:
    assert masked("data:one,\ndata:two,\n") == masked("data:one,two,\n")
