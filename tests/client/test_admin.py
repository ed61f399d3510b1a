"""``durable-streams admin``: whom it asks, how often, what it prints, and what it ends with."""

import json
import socket

import grpc
import pytest

from durable_streams_client import cli as command
from durable_streams_client import cli_admin
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest, Member
from tests.client.nodes import N1, N2, N3, Node, listening, status

DONE, NO_LEADER = ChangeReply.DONE, ChangeReply.NO_LEADER


def run(*argv: str, environ: dict[str, str] | None = None) -> int:
    return cli_admin.run(argv, environ or {})


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# --- Whom it asks.


def test_nodes_are_asked_one_after_the_other(nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    waits, serves, spare = Node(), Node(said=status()), Node(said=status())
    with listening(waits, serves, spare) as targets:
        assert run("status", "--target", f"{nowhere},{targets}") == 0
    assert capsys.readouterr().out.startswith("cluster c-1, led by n1 in term 7; 2 of 3 members answer\n")
    assert (len(waits.looked), len(serves.looked), len(spare.looked)) == (1, 1, 0)


def test_a_node_without_a_leader_is_believed_when_no_other_knows_better(capsys: pytest.CaptureFixture[str]) -> None:
    outdated, current = Node(said=status(current=False)), Node(said=status())
    with listening(outdated, current) as targets:
        assert run("members", "-o", "json", "--target", targets) == 0
        assert json.loads(capsys.readouterr().out)["current"] is True
        assert run("members", "-o", "json", "--target", outdated.target) == 0
        assert json.loads(capsys.readouterr().out)["current"] is False
    assert [request.members_only for request in outdated.looked] == [True, True]


def test_nobody_answers(nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    waits = Node()
    with listening(waits) as target:
        for action in (["status"], ["remove", "n2"]):
            assert run(*action, "--target", nowhere) == 1
            said = capsys.readouterr()
            assert said.out == ""
            assert f"no node answers: {nowhere}: " in said.err
            assert "Next step: name nodes that run, by their --grpc addresses" in said.err
        assert run("status", "--target", target) == 1
    assert "UNAVAILABLE: this node is of no cluster yet: waits for n2" in capsys.readouterr().err


def test_the_environment_names_the_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    node = Node(said=status())
    with listening(node) as target:
        assert run("status", environ={"DURABLE_STREAMS_TARGET": target}) == 0
    assert run("status", environ={"DURABLE_STREAMS_TARGET": "https://a/"}) == 2
    assert "environment DURABLE_STREAMS_TARGET: 'https://a/' is not HOST:PORT" in capsys.readouterr().err


# --- Changes.


@pytest.mark.parametrize(
    ("argv", "asks", "members", "says"),
    [
        (
            ["add", "n3=[fd00::3]:4439"],
            ChangeRequest(join=Member(node="n3", address="[fd00::3]:4439", rises=True)),
            [N1, N2, N3],
            "n3 is a learner, and a voter as soon as it has caught up: see durable-streams admin status\n",
        ),
        (
            ["add", "--learner", "n3=c:4439"],
            ChangeRequest(join=Member(node="n3", address="c:4439")),
            [N1, N2, Member(node="n3", incarnation=3)],
            "n3 is a learner until it is promoted: durable-streams admin promote n3\n",
        ),
        (["promote", "n2"], ChangeRequest(promote="n2"), [N1, N2], "n2 is a voter\n"),
        (
            ["remove", "n3"],
            ChangeRequest(remove="n3"),
            [N1, N2],
            "n3 belongs to the cluster no more. Its process can be ended, and its data directory deleted\n",
        ),
    ],
)
def test_a_change(
    argv: list[str], asks: ChangeRequest, members: list[Member], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(ChangeReply(result=DONE, cluster="c-1", members=members))
    with listening(node) as target:
        assert run(*argv, "--target", target) == 0
        assert capsys.readouterr().out == says
        assert run(*argv, "--target", target, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["members"][0] == {
        "node": "n1",
        "incarnation": str(2**63 - 25),
        "address": "10.0.0.1:4439",
        "voter": True,
        "rises": False,
    }
    assert node.asked == [asks, asks]


def test_without_a_leader_it_asks_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("durable_streams_client.admin.AGAIN_S", 0.01)
    leaderless = ChangeReply(result=NO_LEADER, text="no leader is known here")
    one = Node(leaderless)
    two = Node(leaderless, ChangeReply(result=NO_LEADER), ChangeReply(result=DONE, members=[N1]))
    with listening(one, two) as targets:
        assert run("remove", "n2", "--target", targets) == 0
        assert (len(one.asked), len(two.asked)) == (3, 3)
        assert run("remove", "n2", "--target", one.target, "--timeout", "200ms") == 1
    said = capsys.readouterr().err
    assert "nothing was done within 0.2 s: no leader is known here. Next step: see who answers" in said


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (ChangeReply(result=ChangeReply.REFUSED, text="it is the last voter"), "error: it is the last voter\n"),
        (
            ChangeReply(result=ChangeReply.UNKNOWN, text="it takes long"),
            "error: it may or may not be done: it takes long. Next step: see what came of it with durable-streams "
            "admin members\n",
        ),
        (grpc.StatusCode.INVALID_ARGUMENT, "error: nothing was done: as the test says\n"),
        (grpc.StatusCode.INTERNAL, "error: it may or may not be done: "),
        (grpc.StatusCode.UNIMPLEMENTED, "error: no node answers: "),
    ],
)
def test_what_is_not_done_or_not_known_is_asked_of_nobody_else(
    reply: ChangeReply | grpc.StatusCode, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node, other = Node(reply), Node(reply)
    with listening(node, other) as targets:
        assert run("promote", "n2", "--target", targets) == 1
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    nothing_was_asked = reply is grpc.StatusCode.UNIMPLEMENTED
    assert (len(node.asked), len(other.asked)) == (1, int(nothing_was_asked))


def test_what_a_node_says_does_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Node(ChangeReply(result=ChangeReply.REFUSED, text="\x1b[2Jno\n"))) as target:
        assert run("remove", "n2", "--target", target) == 1
    assert capsys.readouterr().err == "durable-streams: error:  [2Jno \n"


def test_a_transfer_says_who_leads_then(capsys: pytest.CaptureFixture[str]) -> None:
    node = Node(ChangeReply(result=DONE), said=status())
    with listening(node) as target:
        assert run("transfer", "--target", target) == 0
        assert capsys.readouterr().out == "n1 leads in term 7\n"
        assert run("transfer", "n1", "-o", "json", "--target", target) == 0
        assert json.loads(capsys.readouterr().out) == {"cluster": "c-1", "leader": "n1", "term": 7, "current": True}
        assert run("transfer", "n2", "--target", target) == 1
    assert "n1 leads in term 7, and not n2. Next step: ask again" in capsys.readouterr().err
    assert node.asked == [ChangeRequest(transfer=to) for to in ("", "n1", "n2")]


# --- What is typed.


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "required: ACTION"),
        (["stauts"], "invalid choice: 'stauts'"),
        (["status", "extra"], "unrecognized arguments: extra"),
        (["add", "n4"], "'n4' is not NODE=HOST:PEERPORT, like n4=10.0.0.4:4439"),
        (["add", "n4=d"], "'d' is not HOST:PORT of the node's peer listener"),
        (["add", "n4=d:0"], "'d:0' is not HOST:PORT"),
        (["promote"], "required: NODE"),
        (["status", "--target", "http://a:4438"], "'http://a:4438' is not HOST:PORT of a node's --grpc listener"),
        (["status", "--target", " ,"], "names no node"),
        (["status", "--timeout", "20"], "'20' is not a time: write 500ms, 30s, 2m, 12h or 7d"),
        (["status", "-o", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["admin", *argv]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


@pytest.mark.parametrize("action", [[], ["status"], ["members"], ["add"], ["promote"], ["remove"], ["transfer"]])
def test_help(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["admin", *action, "--help"]) == 0
    said = capsys.readouterr().out
    assert "examples:\n" in said
    assert "exit codes: 0 done, 1 refused" in said
    if action:
        assert "(default DURABLE_STREAMS_TARGET, else" in " ".join(said.split())


def test_the_command_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    assert "durable-streams admin status" in capsys.readouterr().out
    assert command.main(["admni"]) == 2
    assert "did you mean 'admin'?" in capsys.readouterr().err
