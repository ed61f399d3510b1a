"""How the answers to operators look."""

import json

from durable_streams_client import _admin_text as text
from tests.client.nodes import GIB, status

# Tables, as people see them.
# ruff: noqa: E501
STATUS = """\
cluster c-1, led by n1 in term 7; 2 of 3 members answer

NODE  MEMBER                  ROLE      STATE        ADDRESS         TERM  FIRST  LAST  COMMITTED  APPLIED  LAG  DISK                    VERSION
n1    voter                   leader    ready        10.0.0.1:4439   7     100    1205  1204       1204     0    20.0 of 100.0 GiB free  0.1.0
n2    voter                   -         unreachable  10.0.0.2:4439   -     -      -     -          -        4    -                       -
n3    learner, to be a voter  follower  not ready    [fd00::3]:4439  7     1      900   900        880      304  none                    0.1.0

n2 does not answer: 10.0.0.2:4439: no answer within 2 s
n3 is not ready: leader: follower in term 7, led by nobody
"""
MEMBERS = """\
NODE  MEMBER                  ADDRESS         DIRECTORY
n1    voter                   10.0.0.1:4439   9223372036854775783
n2    voter                   10.0.0.2:4439   2
n3    learner, to be a voter  [fd00::3]:4439  3
"""
OUTDATED = "no leader was heard from: this is what the node that was asked knows, and may be out of date\n"


def test_status() -> None:
    assert text.status_text(status()) == STATUS


def test_members() -> None:
    assert text.members_text(status()) == MEMBERS


def test_what_may_be_out_of_date_says_so() -> None:
    assert text.members_text(status(current=False)) == f"{MEMBERS}\n{OUTDATED}"
    said = status(current=False)
    said.leader = ""
    assert text.status_text(said).startswith("cluster c-1, nobody leads, in term 7; 2 of 3 members answer\n")
    assert f"\n\n{OUTDATED}n2 does not answer" in text.status_text(said)


def test_a_node_that_drains_is_not_only_not_ready() -> None:
    said = status()
    said.members[2].report.draining = True
    assert "  draining  " in text.status_text(said)


def test_what_a_node_says_does_not_move_the_cursor() -> None:
    said = status()
    said.members[0].report.version = "\x1b[2J"
    said.members[1].error = "no\nanswer"
    assert text.status_text(said).count("\n") == STATUS.count("\n")
    assert "\x1b" not in text.status_text(said)


def test_status_for_programs() -> None:
    said = json.loads(text.status_json(status()))
    leader, silent, learner = said.pop("members")
    assert said == {"cluster": "c-1", "leader": "n1", "term": 7, "current": True}
    assert leader == {
        "node": "n1",
        "incarnation": "9223372036854775783",
        "address": "10.0.0.1:4439",
        "voter": True,
        "rises": False,
        "reachable": True,
        "error": None,
        "role": "leader",
        "ready": True,
        "not_ready": [],
        "draining": False,
        "term": 7,
        "first_index": 100,
        "last_index": 1205,
        "committed_index": 1204,
        "applied_index": 1204,
        "disk_free_bytes": 20 * GIB,
        "disk_size_bytes": 100 * GIB,
        "version": "0.1.0",
        "match_index": None,
        "lag": 0,
    }
    assert (silent["reachable"], silent["term"], silent["ready"], silent["lag"]) == (False, None, None, 4)
    assert silent.keys() == learner.keys() == leader.keys()
