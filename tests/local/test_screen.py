"""What the terminal shows."""

import io

import pytest

from durable_streams_cluster.local.plan import plan
from durable_streams_cluster.local.screen import Screen, ready_line, reason

THREE = plan(3, "./data", 4437)
PIDS = {"n1": 11, "n2": 12, "n3": 13}
FIRST = """\

three nodes ready, on this machine: what is acknowledged is on 2 of 3, so any one may die

  n1  http://127.0.0.1:4437  pid 11
  n2  http://127.0.0.1:4447  pid 12  leads
  n3  http://127.0.0.1:4457  pid 13

try it in another terminal, on any node:
  curl -i -X PUT  http://127.0.0.1:4437/v1/stream/hello -H 'Content-Type: text/plain'
  curl -i -X POST http://127.0.0.1:4447/v1/stream/hello -H 'Content-Type: text/plain' -d 'first'
  curl -i 'http://127.0.0.1:4457/v1/stream/hello?offset=-1'

kill the leader, and see the others go on:  kill -9 12
ctrl-C here stops all
ready http=127.0.0.1:4437,127.0.0.1:4447,127.0.0.1:4457 ops=127.0.0.1:4440,127.0.0.1:4450,127.0.0.1:4460 \
nodes=n1,n2,n3 pids=11,12,13 data=./data
"""


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(out: io.StringIO) -> Screen:
    return Screen(list(PIDS), out, out)


def test_the_first_screen(screen: Screen, out: io.StringIO) -> None:
    screen.ready(THREE, PIDS, "n2")
    assert out.getvalue() == FIRST


def test_the_first_screen_of_one_node(screen: Screen, out: io.StringIO) -> None:
    screen.ready(plan(1, "d", 80), {"n1": 11}, "n1")
    said = out.getvalue()
    assert "one node ready, on this machine: what it acknowledged survives kill -9 and power loss" in said
    assert "kill -9 11" not in said
    assert said.endswith("\nctrl-C here stops it\nready http=127.0.0.1:80 ops=127.0.0.1:83 nodes=n1 pids=11 data=d\n")


def test_without_a_leader_any_node_is_offered_to_be_killed(screen: Screen, out: io.StringIO) -> None:
    screen.ready(THREE, PIDS, "")
    assert "kill a node, and see the others go on:  kill -9 11" in out.getvalue()
    assert "  leads" not in out.getvalue()


def test_the_ready_line_holds_a_place_for_a_node_that_died_meanwhile() -> None:
    assert " pids=11,,13 " in ready_line(THREE, {"n1": 11, "n3": 13})


@pytest.mark.parametrize(
    ("code", "up", "says"),
    [
        (-9, ["n2", "n3"], "n1 was killed (SIGKILL); n2 and n3 go on: 2 of 3 are a majority"),
        (-11, ["n3"], "n1 was killed (SIGSEGV); only n3 left: 1 of 3 is no majority, so requests wait"),
        (0, ["n2", "n3"], "n1 stopped, as it was asked to; n2 and n3 go on"),
        (1, [], "n1 failed (exit code 1): its last line says why; no node is left, and nothing that was acknowledged"),
        (2, ["n2", "n3"], "n1 refused to run (exit code 2): its last line says why; n2 and n3 go on"),
    ],
)
def test_why_a_node_ended_and_what_that_means(
    code: int, up: list[str], says: str, screen: Screen, out: io.StringIO
) -> None:
    screen.ended(THREE, THREE.nodes[0], code, up, can_start=True)
    assert says in out.getvalue()
    assert out.getvalue().endswith("\npress Enter here to start n1 again\n")


def test_five_nodes_go_on_without_two(screen: Screen, out: io.StringIO) -> None:
    five = plan(5, "d", 4437)
    screen.ended(five, five.nodes[4], -9, ["n1", "n2", "n3"], can_start=True)
    assert "; n1, n2 and n3 go on: 3 of 5 are a majority\n" in out.getvalue()


def test_where_nobody_can_press_enter_the_command_is_said(screen: Screen, out: io.StringIO) -> None:
    screen.ended(THREE, THREE.nodes[1], -9, ["n1", "n3"], can_start=False)
    assert "to start it again: durable-streams serve --node n2 --data-dir ./data/n2 --http 127.0.0.1:4447" in (
        out.getvalue()
    )


def test_reasons_of_signals_without_a_name() -> None:
    assert reason(-64 - 9) == "was killed (signal 73)"


def test_a_log_line_is_not_changed_nor_wrapped(screen: Screen, out: io.StringIO) -> None:
    line = "INFO [bold]not markup[/bold] :smile: /a/path 127.0.0.1 " + "x" * 500
    screen.log("n2", line)
    assert out.getvalue() == f"n2 | {line}\n"


@pytest.mark.parametrize(
    ("environment", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)]
)
def test_colours(environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    Screen(list(PIDS), terminal, terminal).log("n1", "hello")
    assert terminal.getvalue() == ("\x1b[36mn1 | \x1b[0mhello\n" if coloured else "n1 | hello\n")


def test_a_reader_that_went_away_is_not_missed() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    out = io.StringIO()
    screen = Screen(list(PIDS), Closed(), out)
    screen.leads("n2")
    screen.leads("n3")
    screen.log("n1", "still heard")
    assert out.getvalue() == "n1 | still heard\n"
