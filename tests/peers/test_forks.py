"""Forks: reference counts, what a restart makes of them, and who is woken when a source goes."""

import asyncio
from itertools import permutations

import pytest

from durable_streams_cluster.storage.kv import Family
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.peers.asking import TEXT, ask, data, delete, get, head, long_poll, offset, post, put, said, sse, target
from tests.peers.test_races import divisions
from tests.runtime.world import World, settle, simulate, started


def fork_of(source: str) -> str:
    return f"stream-forked-from: {target(source)}"


OPERATIONS = {
    "append s": f"POST {target('s')}\n{TEXT}\n\nS",
    "append f": f"POST {target('f')}\n{TEXT}\n\nF",
    "fork f": f"PUT {target('f')}\n{fork_of('s')}\n\n",
    "fork g": f"PUT {target('g')}\n{fork_of('f')}\n\n",
    "create s": f"PUT {target('s')}\n{TEXT}\n\n",
    **{f"delete {path}": f"DELETE {target(path)}" for path in "sfg"},
}
SOURCES = {"f": "s", "g": "f"}
RACES = [
    ("fork f", "append s", "delete s", "delete f"),
    ("fork f", "fork g", "delete s", "delete f"),
    ("fork f", "append f", "delete s", "create s"),
    ("fork g", "delete f", "delete s", "delete g"),
]


class Model:
    """Streams that copy what they inherit, and count who needs them."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.source: dict[str, str | None] = {}
        self.hidden: set[str] = set()

    def forks(self, path: str) -> int:
        return sum(source == path for source in self.source.values())

    def answer(self, name: str) -> int:
        verb, path = name.split()
        if verb in ("append", "delete"):
            if path not in self.content or path in self.hidden:
                return 410 if path in self.hidden else 404
            if verb == "append":
                self.content[path] += path.upper()
            else:
                self.hidden.add(path)
                self._collect(path)
            return 204
        source = SOURCES[path] if verb == "fork" else None
        if path in self.content:
            return 409 if path in self.hidden or self.source[path] != source else 200
        if source is not None and (source not in self.content or source in self.hidden):
            return 409 if source in self.content else 404
        self.content[path] = self.content[source] if source is not None else ""
        self.source[path] = source
        return 201

    def _collect(self, path: str | None) -> None:
        while path in self.hidden and not self.forks(path):
            self.hidden.discard(path)
            del self.content[path]
            path = self.source.pop(path)


def kinds(world: World) -> list[bytes]:
    """The kind of every key in the store but sessions; the group's own counters are ``G``."""
    return [key[:1] for key, _ in world.kv.scan(Family.DATA, b"", b"\xff") if key[:1] != b"O"]


async def together(world: World, requests: list[str]) -> list[Exchange]:
    exchanges = [asgi.parse(request) for request in requests]
    for exchange in exchanges:
        exchange.begin(world.app)
    await settle()
    return exchanges


async def check(world: World, model: Model) -> None:
    for path in "sfg":
        if path in model.content and path not in model.hidden:
            assert said(await get(world, path)) == (200, model.content[path].encode(), False)
        else:
            assert (await head(world, path)).status == (410 if path in model.hidden else 404)


async def race(order: tuple[str, ...], sizes: tuple[int, ...], before: tuple[str, ...]) -> None:
    world, model = await started(), Model()
    for name in ("create s", "append s", *before):
        assert (await ask(world, OPERATIONS[name])).status == model.answer(name)
    done = 0
    for size in sizes:
        names = order[done : done + size]
        exchanges = await together(world, [OPERATIONS[name] for name in names])
        assert [exchange.status for exchange in exchanges] == [model.answer(name) for name in names]
        done += size
        await check(world, model)
    again = await started(world.kv)
    await check(again, model)
    for path in "gfs":
        await delete(again, path)
    assert kinds(again) == [b"G"], "nothing of what was deleted is kept"


@pytest.mark.parametrize("operations", RACES, ids=", ".join)
def test_forks_that_race_with_deletes_are_counted_right(operations: tuple[str, ...]) -> None:
    """References counted apart from the streams, elsewhere: data was kept for ever, or taken from under a fork."""

    async def main() -> None:
        before = ("fork f",) if "fork g" in operations and "fork f" not in operations else ()
        for order in permutations(operations):
            for sizes in divisions(len(order)):
                try:
                    await race(order, sizes, before)
                except AssertionError as error:
                    error.add_note(f"{order} in turns of {sizes}")
                    raise

    simulate(main)


def test_a_fork_asked_for_twice_is_one_reference() -> None:
    """A server on a platform's key-value store counted each retry of the PUT: its source was never freed."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        for status in (201, 200, 200):
            assert (await put(world, "f", "", fork_of("s"))).status == status
        for path in ("s", "f"):
            assert (await delete(world, path)).status == 204
        assert (await head(world, "s")).status == 404, "no reference is left over"

    simulate(main)


def test_a_fork_keeps_what_it_inherits_over_a_restart() -> None:
    """A plugin took a fork's tail after a restart from its own file: the inherited part was gone."""

    async def main() -> None:
        world = await started()
        branch = offset(await put(world, "s", "inherited "))
        await put(world, "f", "", fork_of("s"))
        await post(world, "s", "not yours")
        await put(world, "g", "own", fork_of("f"))
        again = await started(world.kv)
        assert offset(await head(again, "f")) == branch
        assert (await get(again, "f")).body == b"inherited "
        assert (await get(again, "g")).body == b"inherited own"
        await post(again, "f", "more")
        assert (await get(await started(world.kv), "f")).body == b"inherited more"

    simulate(main)


def test_the_end_of_a_source_keeps_the_data_of_its_forks() -> None:
    """A plugin's clean-up of expired streams did not look whether a fork still read them."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "inherited", "stream-ttl: 10")
        await put(world, "f", " own", fork_of("s"), "stream-ttl: 1000")
        await put(world, "short", "", fork_of("s"))
        await asyncio.sleep(30)
        assert [(await head(world, path)).status for path in ("s", "short")] == [410, 404], "both had the same window"
        assert (await get(world, "f")).body == b"inherited own"
        await asyncio.sleep(1001)
        assert [(await head(world, path)).status for path in ("f", "s")] == [404, 404]
        assert kinds(world) == [b"G"]

    simulate(main)


def test_the_deletion_of_a_source_wakes_its_readers_and_leaves_those_of_its_forks() -> None:
    """A plugin woke nobody when a stream with forks was deleted: its readers waited for their time-out."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        await put(world, "f", "", fork_of("s"))
        waiting, open_ = await long_poll(world, "s"), await sse(world, "s")
        others = await long_poll(world, "f"), await sse(world, "f")
        assert (await delete(world, "s")).status == 204
        await settle()
        assert (waiting.status, open_.done) == (410, True)
        assert not any(other.done for other in others)
        await post(world, "f", " more")
        await settle()
        assert others[0].body == b" more"
        assert data(others[1]) == "one more"
        others[1].leave()
        await others[1].finish()

    simulate(main)


@pytest.mark.parametrize(
    ("messages", "count", "inherited"),
    [
        ('[{"a":[1,2],"b":","},2,3]', 1, b'[{"a":[1,2],"b":","}]'),
        ('[{"a":[1,2],"b":","},2,3]', 2, b'[{"a":[1,2],"b":","},2]'),
        ('["\\\\\\",]","x"]', 1, b'["\\\\\\",]"]'),
        ("[[1,2],[3,[4,5]],[]]", 2, b"[[1,2],[3,[4,5]]]"),
    ],
)
def test_a_sub_offset_counts_messages_and_not_commas(messages: str, count: int, inherited: bytes) -> None:
    """A server with a sharded log counted the commas in the bytes, and cut messages in two."""

    async def main() -> None:
        world = await started()
        await ask(world, f"PUT {target('j')}\ncontent-type: application/json\n\n{messages}")
        fork = f"PUT {target('f')}\n{fork_of('j')}\nstream-fork-offset: -1\nstream-fork-sub-offset: {count}\n\n"
        assert (await ask(world, fork)).status == 201
        assert (await get(world, "f")).body == inherited

    simulate(main)
