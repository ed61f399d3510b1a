"""README's tour: its commands, typed into a shell, print what README says (curl is needed)."""

from tests.server import running_server
from tests.system.tour import README, commands, masked, play


def test_the_tour_prints_what_readme_shows() -> None:
    readme = README.read_text()
    with running_server() as server:
        played = play(readme, server.url)
    assert masked(played) == masked(readme)


def test_a_command_begins_with_a_dollar() -> None:
    assert commands("$ one\noutput\n$ two\n") == ["one", "two"]
