"""A cluster begins once, whatever order its first members are heard in, and whichever is wiped meanwhile."""

from collections.abc import Iterator
from random import Random

import pytest

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica.bootstrap import (
    Begin,
    Bootstrap,
    Disagree,
    JoinInstead,
    Record,
    Said,
    Wait,
    cluster_of,
)

N1, N2, N3 = (NodeId(f"n{number}") for number in range(1, 4))
INITIAL = {N1: "host:1", N2: "host:2", N3: "host:3"}


class Node:
    """A directory and, while it has not begun, its bootstrap."""

    def __init__(self, name: NodeId, incarnation: int, initial: dict[NodeId, str] | None = None) -> None:
        self.own = Member(name, incarnation, INITIAL[name])
        self.initial = initial or INITIAL
        self.record: tuple[Member, ...] = ()
        self.begun = False
        self.joins = ""
        self.restart()

    def restart(self) -> None:
        self.bootstrap = Bootstrap(self.own, self.initial, self.record)

    @property
    def said(self) -> Said:
        if self.begun:
            return Said(self.own.node, self.own.incarnation, cluster_of(self.record), self.record, begun=True)
        return self.bootstrap.said

    def go_on(self) -> None:
        self.joins = ""
        while not self.begun:
            match self.bootstrap.step():
                case Record(members):
                    self.record = members
                    self.bootstrap.recorded(members)
                case Begin():
                    self.begun = True
                case JoinInstead(cluster, _):
                    self.joins = cluster
                    return
                case Wait():
                    return
                case Disagree(text):
                    raise AssertionError(text)


def trio() -> dict[NodeId, Node]:
    return {name: Node(name, number) for number, name in enumerate(INITIAL, 1)}


def meet(one: Node, other: Node) -> None:
    """``one`` asks ``other``, which learns from the question, too."""
    other.bootstrap.hear(one.said)
    one.bootstrap.hear(other.said)
    one.go_on()
    other.go_on()


def test_three_empty_nodes_begin_one_cluster() -> None:
    nodes = trio()
    meet(nodes[N1], nodes[N2])
    assert isinstance(nodes[N1].bootstrap.step(), Wait), "n3 may have voted before, in a cluster that is running"
    meet(nodes[N1], nodes[N3])
    assert not nodes[N1].begun, "n2 may yet be wiped and begin another one"
    for _ in range(2):
        meet(nodes[N2], nodes[N3])
        meet(nodes[N1], nodes[N2])
        meet(nodes[N1], nodes[N3])
    assert all(node.begun for node in nodes.values())
    assert len({node.record for node in nodes.values()}) == 1
    assert [each.incarnation for each in nodes[N1].record] == [1, 2, 3]


def test_nobody_begins_without_the_third() -> None:
    nodes = trio()
    for _ in range(5):
        meet(nodes[N1], nodes[N2])
    assert nodes[N1].bootstrap.step() == Wait((N3,))
    assert not nodes[N1].record


def test_one_that_was_wiped_joins_what_has_begun() -> None:
    nodes = trio()
    for _ in range(3):
        meet(nodes[N1], nodes[N2])
        meet(nodes[N1], nodes[N3])
        meet(nodes[N2], nodes[N3])
    wiped = Node(N3, 30)
    wiped.bootstrap.hear(nodes[N1].said)
    wiped.go_on()
    assert wiped.joins == cluster_of(nodes[N1].record)


def test_one_that_comes_late_takes_part_in_what_the_others_have_begun() -> None:
    nodes = trio()
    for one, other in ((N1, N2), (N1, N3), (N2, N3), (N1, N2), (N1, N3)):
        meet(nodes[one], nodes[other])
    nodes[N3].begun = False
    nodes[N3].restart()
    assert nodes[N1].begun
    meet(nodes[N3], nodes[N1])
    assert nodes[N3].begun


def test_members_that_were_given_different_names_say_so() -> None:
    one, other = Node(N1, 1), Node(N2, 2, {N1: "host:1", N2: "host:2"})
    one.bootstrap.hear(other.said)
    step = one.bootstrap.step()
    assert isinstance(step, Disagree)
    assert "n2 was given other members (n1=host:1, n2=host:2)" in step.text


def test_a_copied_directory_is_found() -> None:
    nodes = trio()
    nodes[N3] = Node(N3, 1)
    for name in (N2, N3):
        nodes[N1].bootstrap.hear(nodes[name].said)
    assert isinstance(nodes[N1].bootstrap.step(), Disagree)


def test_strangers_are_not_heard() -> None:
    node = Node(N1, 1)
    node.bootstrap.hear(Said(NodeId("n9"), 9, begun=True))
    assert node.bootstrap.step() == Wait((N2, N3))


def histories(random: Random) -> Iterator[dict[NodeId, Node]]:
    """The nodes after each step of a random history: they meet, restart, and lose what they had."""
    nodes, life, wipes = trio(), 100, random.choice((0, 1, 2, 6))
    for _ in range(120):
        name, other = random.sample(list(nodes), 2)
        match random.choice(("meet", "meet", "meet", "half", "late", "restart", "wipe")):
            case "meet":
                meet(nodes[name], nodes[other])
            case "half":
                nodes[name].bootstrap.hear(nodes[other].said)
                nodes[name].go_on()
            case "late":
                # What was said a while ago arrives now.
                said = nodes[other].said
                meet(nodes[other], nodes[next(each for each in nodes if each not in (name, other))])
                nodes[name].bootstrap.hear(said)
                nodes[name].go_on()
            case "restart":
                nodes[name].restart()
            case "wipe" if wipes and random.random() < 0.3:
                wipes -= 1
                life += 1
                nodes[name] = Node(name, life)
        yield nodes


@pytest.mark.parametrize("block", range(10))
def test_no_second_cluster_begins_while_a_majority_of_the_first_has_its_disks(block: int) -> None:
    """Once a majority has begun, something may be acknowledged, which a second cluster would not know of."""
    begins = 0
    for seed in range(block * 200, block * 200 + 200):
        could_acknowledge: list[tuple[Member, ...]] = []
        for nodes in histories(Random(seed)):
            begun = [node for node in nodes.values() if node.begun]
            assert all(node.own.incarnation in [each.incarnation for each in node.record] for node in begun)
            alive = {node.own.incarnation for node in nodes.values()}
            for record in [node.record for node in begun]:
                if record in could_acknowledge or sum(node.record == record for node in begun) < 2:
                    continue
                for other in could_acknowledge:
                    kept = sum(each.incarnation in alive for each in other)
                    assert kept < 2, f"a second cluster, and the first has {kept} disks of 3: seed {seed}"
                could_acknowledge.append(record)
        begins += len(could_acknowledge)
        for _ in range(4):
            for one, other in ((N1, N2), (N1, N3), (N2, N3)):
                meet(nodes[one], nodes[other])
        # In peace all are in, or ask one that has begun to take them.
        assert all(node.begun or node.joins for node in nodes.values()), f"seed {seed}"
    assert begins
