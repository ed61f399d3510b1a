"""Nodes begin a cluster or join one, over contacts that are calls, on simulated time: what is on disk, and when."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.raft import Member
from durable_streams_cluster.replica.bootstrap import Said, cluster_of
from durable_streams_cluster.replica.members import Join
from durable_streams_cluster.runtime.birth import AGAIN_S, MAX_SAID, Birth
from durable_streams_cluster.runtime.introductions import Asked, members_to_wire, said_from_wire, said_to_wire
from durable_streams_cluster.storage.identity import StoredIdentity
from durable_streams_proto.v1.peer_pb2 import ChangeReply
from tests.runtime.world import simulate

N1, N2, N3, N4 = (NodeId(f"n{number}") for number in range(1, 5))
INITIAL = {N1: "host:1", N2: "host:2", N3: "host:3"}
WRITE_S = 0.01
"""A disk takes so long."""


class Net:
    """Whoever listens is asked by a call; a node that is down, or never was, is no connection."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.said: list[Said] = []
        """What each node said of itself, asking or answering."""
        self.asked: list[tuple[str, Asked, str]] = []
        """Changes: where, what, and of which cluster."""
        self.leads: Callable[[str, Join], ChangeReply] = lambda address, join: ChangeReply(
            result=ChangeReply.NO_LEADER, text="no leader"
        )

    async def introduce(self, address: str, said: Said) -> Said:
        self._say(said)
        answer = self._at(address).birth.introduced(said_from_wire(said_to_wire(said)))
        self._say(answer)
        await asyncio.sleep(0)
        self._at(address)
        return answer

    async def change(self, address: str, wish: Asked, cluster: str, *, handed_on: bool = False) -> ChangeReply:
        assert not handed_on
        self._at(address)
        self.asked.append((address, wish, cluster))
        assert isinstance(wish, Join)
        await asyncio.sleep(0)
        return self.leads(address, wish)

    def _say(self, said: Said) -> None:
        self.said.append(said)
        for node in self.nodes.values():
            if node.disk.incarnation == said.incarnation:
                on_disk = [(each.record, each.begun) for each in (node.first, *node.writes)]
                assert (said.record, said.begun) in on_disk, f"{said} is said, and not on disk"

    def _at(self, address: str) -> "Node":
        if address not in self.nodes:
            raise ConnectionError(f"{address}: nobody listens")
        return self.nodes[address]


class Node:
    """A directory, and the process over it, which may be killed and started again."""

    def __init__(
        self,
        net: Net,
        name: NodeId,
        incarnation: int,
        initial: Mapping[NodeId, str] = INITIAL,
        join: Sequence[str] = (),
        address: str | None = None,
    ) -> None:
        self.net, self.initial, self.join = net, initial, join
        self.address = address or INITIAL[name]
        self.disk = self.first = StoredIdentity(name, incarnation)
        self.writes: list[StoredIdentity] = []
        self.dies_in_write = 0
        """At this write the process is killed before anything is stored."""

    def start(self) -> "Node":
        self.birth = Birth(self.disk, self.address, self._keep, self.net)
        self.net.nodes[self.address] = self
        self.running = asyncio.create_task(self.birth.run(self.initial, self.join))
        return self

    async def _keep(self, stored: StoredIdentity) -> None:
        if len(self.writes) + 1 == self.dies_in_write:
            del self.net.nodes[self.address]
            self.dies_in_write = 0
            raise asyncio.CancelledError
        await asyncio.sleep(WRITE_S)
        self.disk = stored
        self.writes.append(stored)

    async def kill(self) -> None:
        self.net.nodes.pop(self.address, None)
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def restart(self) -> None:
        await self.kill()
        self.start()


@contextlib.asynccontextmanager
async def of(*nodes: Node) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for node in nodes:
            await node.kill()


async def born(*nodes: Node) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(node.running for node in nodes))


def three(net: Net) -> list[Node]:
    return [Node(net, name, number) for number, name in enumerate(INITIAL, 1)]


def led_by(leader: Node, *members: Member) -> Callable[[str, Join], ChangeReply]:
    """The leader takes whoever asks, once."""
    known = {each.node: each for each in members or leader.disk.record}

    def take(_: str, wish: Join) -> ChangeReply:
        known[wish.member.node] = wish.member
        members = members_to_wire(known.values())
        return ChangeReply(result=ChangeReply.DONE, cluster=leader.disk.cluster, members=members)

    return take


def test_a_node_that_was_told_of_nobody_begins_alone() -> None:
    async def play() -> None:
        for initial in ({}, {N1: "host:1"}):
            node = Node(Net(), N1, 7, initial)
            await node.start().running
            record = (Member(N1, 7, "host:1"),)
            assert node.writes == [StoredIdentity(N1, 7, cluster_of(record), record, begun=True)]
            assert node.birth.members == {}
            assert node.birth.introduced(Said(N2, 2)).begun

    simulate(play)


def test_three_begin_together() -> None:
    async def play() -> None:
        nodes = [node.start() for node in three(Net())]
        await born(*nodes)
        record = tuple(Member(name, number, INITIAL[name]) for number, name in enumerate(INITIAL, 1))
        for node in nodes:
            of_node = node.disk
            assert (of_node.record, of_node.cluster, of_node.begun) == (record, cluster_of(record), True)
            assert [each.begun for each in node.writes] == [False, True]
            assert node.birth.members == INITIAL
            assert node.birth.waits_for == ""

    simulate(play)


def test_one_that_is_late_is_waited_for_by_name() -> None:
    async def play() -> None:
        net = Net()
        one, two, three_ = three(net)
        async with of(one, two, three_):
            one.start(), two.start()
            await asyncio.sleep(120)
            assert len(net.said) < 120 / AGAIN_S * 8, "they do not ask without a pause, either"
            assert one.birth.waits_for == two.birth.waits_for == "waits for n3 to begin the cluster"
            assert not one.writes + two.writes
            await born(one, two, three_.start())
            assert one.disk.cluster == two.disk.cluster == three_.disk.cluster

    simulate(play)


def test_nothing_is_said_that_is_not_on_disk() -> None:
    """``Net`` sees to it with each word that is said in any test here; this is that it has something to see."""

    async def play() -> None:
        net = Net()
        nodes = [node.start() for node in three(net)]
        await born(*nodes)
        assert {(bool(said.record), said.begun) for said in net.said} >= {(False, False), (True, False)}
        answer = await net.introduce("host:2", Said(N4, 4))
        assert (answer.record, answer.begun) == (nodes[1].disk.record, True)

    simulate(play)


@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("name", [N1, N3])
def test_a_crash_at_any_write_is_gone_on_from(name: NodeId, write: int) -> None:
    async def play() -> None:
        nodes = three(Net())
        victim = nodes[list(INITIAL).index(name)]
        victim.dies_in_write = write
        for node in nodes:
            node.start()
        with contextlib.suppress(asyncio.CancelledError):
            await victim.running
        await asyncio.sleep(5)
        victim.start()
        await born(*nodes)
        assert len({node.disk.record for node in nodes}) == 1

    simulate(play)


def test_one_that_was_wiped_asks_to_join_what_has_begun() -> None:
    async def play() -> None:
        net = Net()
        one, *_ = nodes = three(net)
        for node in nodes:
            node.start()
        await born(*nodes)
        cluster = one.disk.cluster
        wiped = Node(net, N3, 30)
        async with of(*nodes, wiped):
            wiped.start()
            await asyncio.sleep(5)
            assert wiped.birth.waits_for == "cannot join by host:2: no leader"
            assert not wiped.writes
            net.leads = led_by(one)
            await born(wiped)
            others = (N1, "host:1"), (N2, "host:2")
            assert wiped.writes == [StoredIdentity(N3, 30, cluster, begun=True, others=others)], "it votes by no record"
            address, wish, named = net.asked[-1]
            assert wish == Join(Member(N3, 30, "host:3", voter=False, rises=True))
            assert named == cluster, "and by no other cluster that may be at that address now"
            assert address == "host:1"
            assert wiped.birth.members == INITIAL

    simulate(play)


def test_one_that_joins_asks_each_until_it_is_taken() -> None:
    async def play() -> None:
        net = Net()
        leader = Node(net, N1, 1, {}).start()
        await born(leader)
        joining = Node(net, N4, 4, {}, ["host:9", "host:1"], "host:4")
        async with of(leader, joining):
            joining.start()
            await asyncio.sleep(10 * AGAIN_S)
            assert joining.birth.waits_for == "cannot join by host:1: no leader"
            assert not joining.writes
            net.leads = lambda address, wish: ChangeReply(result=ChangeReply.REFUSED, text="this directory was removed")
            await asyncio.sleep(10 * AGAIN_S)
            assert joining.birth.waits_for == "cannot join by host:1: this directory was removed"
            assert not joining.birth.introduced(Said(N2, 2)).begun
            net.leads = led_by(leader)
            await born(joining)
            assert joining.writes == [StoredIdentity(N4, 4, leader.disk.cluster, begun=True, others=((N1, "host:1"),))]
            assert joining.birth.members == {N1: "host:1", N4: "host:4"}

    simulate(play)


def test_an_answer_that_names_no_members_is_no_answer() -> None:
    async def play() -> None:
        net = Net()
        leader = Node(net, N1, 1, {}).start()
        await born(leader)
        joining = Node(net, N4, 4, {}, ["host:1"], "host:4")
        async with of(leader, joining):
            net.leads = led_by(leader, Member(N1, 1, "nowhere"))
            joining.start()
            await asyncio.sleep(5)
            assert not joining.writes
            assert joining.birth.waits_for.startswith("cannot join by 'nowhere' is not HOST:PORT")
            net.leads = led_by(leader)
            await born(joining)

    simulate(play)


def test_a_crash_between_the_leaders_yes_and_the_disk_ends_well() -> None:
    async def play() -> None:
        net = Net()
        leader = Node(net, N1, 1, {}).start()
        await born(leader)
        net.leads = led_by(leader)
        joining = Node(net, N4, 4, {}, ["host:1"], "host:4")
        joining.dies_in_write = 1
        joining.start()
        with contextlib.suppress(asyncio.CancelledError):
            await joining.running
        assert not joining.disk.begun
        await born(joining.start())
        assert [wish for _, wish, _ in net.asked] == [Join(Member(N4, 4, "host:4", voter=False, rises=True))] * 2
        assert joining.disk == StoredIdentity(N4, 4, leader.disk.cluster, begun=True, others=((N1, "host:1"),))

    simulate(play)


def test_a_first_member_that_is_told_to_join_its_own_cluster_keeps_its_record() -> None:
    """Nothing in the log says who belongs: without its record it would never stand, though it counts."""

    async def play() -> None:
        net = Net()
        nodes = three(net)
        late = nodes[2]
        late.dies_in_write = 2
        for node in nodes:
            node.start()
        await born(*nodes[:2])
        with contextlib.suppress(asyncio.CancelledError):
            await late.running
        assert (late.disk.record, late.disk.begun) == (nodes[0].disk.record, False)
        net.leads = led_by(nodes[0])
        late.initial, late.join = {}, ["host:1"]
        await born(late.start())
        assert late.disk.others == ((N1, "host:1"), (N2, "host:2"))
        assert replace(late.disk, others=()) == StoredIdentity(
            N3, 3, nodes[0].disk.cluster, nodes[0].disk.record, begun=True
        )

    simulate(play)


def test_what_is_on_record_of_another_cluster_is_not_kept() -> None:
    async def play() -> None:
        net = Net()
        leader = Node(net, N1, 1, {}).start()
        await born(leader)
        net.leads = led_by(leader)
        joining = Node(net, N4, 4, {}, ["host:1"], "host:4")
        record = (Member(N2, 2, "host:2"), Member(N4, 4, "host:4"))
        joining.disk = joining.first = StoredIdentity(N4, 4, cluster_of(record), record)
        await born(joining.start())
        assert joining.disk == StoredIdentity(N4, 4, leader.disk.cluster, begun=True, others=((N1, "host:1"),))

    simulate(play)


def test_what_is_begun_asks_nobody_again() -> None:
    async def play() -> None:
        nodes = three(Net())
        for node in nodes:
            node.start()
        await born(*nodes)
        one = nodes[0]
        await one.restart()
        await born(one)
        one.initial, one.join = {}, ["host:9"]
        await one.restart()
        await born(one)
        assert len(one.writes) == 2
        assert one.birth.members == INITIAL

    simulate(play)


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_nodes_that_were_given_different_names_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        net = Net()
        one, two = Node(net, N1, 1), Node(net, N2, 2, {N1: "host:1", N2: "host:2"})
        async with of(one, two):
            one.start(), two.start()
            await asyncio.sleep(120)
            assert "n2 was given other members (n1=host:1, n2=host:2) than this node" in one.birth.waits_for
            assert not one.writes + two.writes
            assert len(texts(caplog)) == len(set(texts(caplog))) <= 4
            # Somebody corrects it.
            two.initial = INITIAL
            await two.restart()
            three_ = Node(net, N3, 3)
            await born(one, two, three_.start())

    with caplog.at_level(logging.INFO):
        simulate(play)


@pytest.mark.parametrize("wiped", [True, False])
def test_troubles_that_take_turns_are_each_said_once(caplog: pytest.LogCaptureFixture, *, wiped: bool) -> None:
    async def play() -> None:
        net = Net()
        nodes = three(net)
        for node in nodes:
            node.start()
        await born(*nodes)
        caplog.clear()
        told: Any = (INITIAL, ()) if wiped else ({}, ["host:1", "host:2", "host:9"])
        waits = Node(net, N3, 30, *told)
        async with of(*nodes, waits):
            waits.start()
            await asyncio.sleep(120)
            assert len(texts(caplog)) == len(set(texts(caplog)))
            assert {"cannot join by host:1: no leader", "cannot join by host:2: no leader"} < set(texts(caplog))

    with caplog.at_level(logging.INFO):
        simulate(play)


def test_what_is_remembered_of_troubles_is_bounded() -> None:
    async def play() -> None:
        birth = Node(Net(), N1, 1).start().birth
        for number in range(10 * MAX_SAID):
            birth._say(f"trouble {number}")
            assert len(birth._said) <= MAX_SAID

    simulate(play)
