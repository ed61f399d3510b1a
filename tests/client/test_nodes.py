"""What nodes tell of each other: whom a client believes, and where it writes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc.aio import AioRpcError, Metadata

from durable_streams_client._routing import AVOIDED_S, Routes
from durable_streams_client.grpc_nodes import AGAIN_S, ANSWER_S, BEGIN_S, Finder
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.client.fake import settle
from tests.runtime.world import simulate


def told(by: str, leader: str = "", cluster: str = "c-1", **targets: str) -> pb.NodesReply:
    nodes = [pb.Node(name=name, target=target) for name, target in targets.items()]
    return pb.NodesReply(cluster=cluster, node=by, nodes=nodes, leader=leader)


class Call:
    """One call of Nodes."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.says: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = False

    async def read(self) -> Any:
        found = await self.says.get()
        if isinstance(found, grpc.StatusCode):
            raise AioRpcError(found, Metadata(), Metadata(), "as the test says")
        return found

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> Any:
        return await self.read()

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """What is at each target: what it says first, when somebody asks there."""

    def __init__(self, *named: str) -> None:
        self.first: dict[str, pb.NodesReply | grpc.StatusCode] = {}
        self.calls: list[Call] = []
        self.leaders: list[str] = []
        self.routes = Routes(named)
        self.finder = Finder(named, self.routes, self._stub, (), self.leaders.append)

    def _stub(self, target: str) -> Any:
        class Stub:
            @staticmethod
            def Nodes(request: object, metadata: object) -> Call:  # noqa: N802
                call = Call(target)
                if (first := self.first.get(target)) is not None:
                    call.says.put_nowait(first)
                self.calls.append(call)
                return call

        return Stub

    @property
    def asked(self) -> list[str]:
        return [call.target for call in self.calls]

    async def begin(self) -> Call:
        """The call that goes on and on."""
        self.finder.start()
        self.finder.start()
        await asyncio.sleep(BEGIN_S)
        await settle()
        return self.calls[0]


def play(script: Callable[[World], Any], *named: str) -> World:
    async def main() -> World:
        world = World(*named)
        await script(world)
        await world.finder.aclose()
        assert all(call.cancelled for call in world.calls)
        return world

    return simulate(main)


THREE: Mapping[str, str] = {"n1": "10.0.0.1:1", "n2": "10.0.0.2:1", "n3": "10.0.0.3:1"}


def test_nodes_that_are_told_are_asked_who_they_are_and_then_used() -> None:
    async def script(world: World) -> None:
        for name in ("n2", "n3"):
            world.first[THREE[name]] = told(name, "n2", **THREE)
        call = await world.begin()
        assert world.asked == ["db:1"]
        call.says.put_nowait(told("n1", "n2", **THREE))
        await settle()
        # n1 is reached by the name that the user gave, and by no other.
        assert sorted(world.asked[1:]) == ["10.0.0.2:1", "10.0.0.3:1"]
        assert world.leaders == ["10.0.0.2:1"]
        assert world.routes.choose_for_writes(0) == "10.0.0.2:1"
        assert world.routes.choose(0) == "db:1"
        world.routes.failed("db:1", 0)
        assert world.routes.choose(0) in ("10.0.0.2:1", "10.0.0.3:1")
        # The leader changes: nobody is asked anew.
        call.says.put_nowait(told("n1", "n1", **THREE))
        await settle()
        assert world.leaders == ["10.0.0.2:1", "db:1"]
        call.says.put_nowait(told("n1", "", **THREE))
        await settle()
        assert world.routes.leader is None
        assert len(world.calls) == 3

    play(script, "db:1")


def test_who_is_another_one_here_than_was_told_is_not_used() -> None:
    async def script(world: World) -> None:
        world.first[THREE["n2"]] = told("n2", "n2", cluster="c-2", n2=THREE["n2"])  # Another cluster.
        world.first[THREE["n3"]] = told("n9", "n2", **THREE)  # Another node.
        call = await world.begin()
        call.says.put_nowait(told("n1", "n2", **THREE))
        await settle()
        assert sorted(world.asked[1:]) == ["10.0.0.2:1", "10.0.0.3:1"]
        assert world.leaders == []
        world.routes.failed("db:1", 0)
        assert world.routes.choose(0.1) == "db:1", "there is no other"
        # It is asked again, after a while, for that may have been in the midst of a change.
        world.first[THREE["n2"]] = told("n2", "n2", **THREE)
        await asyncio.sleep(AGAIN_S)
        call.says.put_nowait(told("n1", "n3", **THREE))
        call.says.put_nowait(told("n1", "n2", **THREE))
        await settle()
        assert world.leaders == ["10.0.0.2:1"]

    play(script, "db:1")


def test_who_does_not_answer_is_not_waited_for_longer_than_that() -> None:
    async def script(world: World) -> None:
        world.first[THREE["n3"]] = grpc.StatusCode.UNAVAILABLE
        call = await world.begin()
        call.says.put_nowait(told("n1", "n2", **THREE))
        await settle()
        await asyncio.sleep(ANSWER_S)
        await settle()
        assert all(each.cancelled for each in world.calls[1:])
        assert world.leaders == []

    play(script, "db:1")


def test_those_that_were_named_come_before_what_they_call_themselves() -> None:
    async def script(world: World) -> None:
        call = await world.begin()
        assert world.asked == ["a:1"]
        world.first["b:1"] = told("n2", "n3", **THREE)
        world.first[THREE["n3"]] = told("n3", "n3", **THREE)
        call.says.put_nowait(told("n1", "n3", **THREE))
        await settle()
        # b is asked; then nobody is left but n3, whom nobody named. One that does not answer holds nothing up.
        assert world.asked == ["a:1", "b:1", "down:1"]
        await asyncio.sleep(ANSWER_S)
        await settle()
        assert world.asked == ["a:1", "b:1", "down:1", THREE["n3"]]
        assert world.leaders == [THREE["n3"]]

    play(script, "a:1", "b:1", "down:1")


def test_a_node_that_moved_is_found_where_it_is() -> None:
    async def script(world: World) -> None:
        world.first[THREE["n2"]] = told("n2", "n2", **THREE)
        call = await world.begin()
        call.says.put_nowait(told("n1", "n2", n1=THREE["n1"], n2=THREE["n2"]))
        await settle()
        world.first["10.0.0.22:1"] = told("n2", "n2", n2="10.0.0.22:1")
        call.says.put_nowait(told("n1", "n2", n1=THREE["n1"], n2="10.0.0.22:1"))
        await settle()
        assert world.leaders == [THREE["n2"], "10.0.0.22:1"]

    play(script, "db:1")


def test_it_goes_on_elsewhere_and_leaves_old_servers_alone() -> None:
    async def script(world: World) -> None:
        call = await world.begin()
        call.says.put_nowait(grpc.StatusCode.UNAVAILABLE)
        await asyncio.sleep(AVOIDED_S)
        assert world.asked == ["a:1", "b:1"]
        world.calls[1].says.put_nowait(grpc.StatusCode.UNIMPLEMENTED)
        await asyncio.sleep(AGAIN_S)
        assert world.asked == ["a:1", "b:1"]

    play(script, "a:1", "b:1")


def test_who_is_closed_at_once_asks_nothing() -> None:
    async def script(world: World) -> None:
        world.finder.start()
        await settle()

    assert play(script, "a:1").asked == []


def test_the_leader_comes_first_unless_it_failed() -> None:
    routes = Routes(["a", "b"])
    routes.add("c")
    routes.add("a")
    routes.leader = "c"
    assert routes.choose_for_writes(0) == "c"
    routes.failed("c", 0)
    assert routes.choose_for_writes(0.1) == "a"
    assert routes.choose_for_writes(AVOIDED_S) == "c"
