"""Operations that race: every order of four, over every division into turns, against a model of one path.

Other servers guarded appends, closes and deletes by different locks, or by none. Here the log is the only order:
whatever arrives together answers as if it had come one after the other, and readers that wait see that, and end.
"""

from collections.abc import Iterator
from itertools import permutations

import pytest

from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.peers.asking import TEXT, control, data, get, head, long_poll, offset, put, said, sse, target
from tests.runtime.world import World, settle, simulate, started

OPERATIONS = {
    "append": f"POST {target('s')}\n{TEXT}\n\na",
    "append more": f"POST {target('s')}\n{TEXT}\n\nbb",
    "append and close": f"POST {target('s')}\n{TEXT}\nstream-closed: true\n\nlast",
    "close": f"POST {target('s')}\nstream-closed: true\n\n",
    "delete": f"DELETE {target('s')}",
    "create": f"PUT {target('s')}\n{TEXT}\n\n",
}
RACES = {
    ("append", "append more", "append and close", "close"): "0",
    ("append", "append more", "delete", "close"): "0",
    ("append", "append and close", "delete", "create"): "0",
    ("append", "delete", "create", "close"): "",
}
"""What races, and what the stream holds before; readers of an empty one stand at the start, which every stream has."""


class Model:
    """One path, as the protocol describes it."""

    def __init__(self, first: str) -> None:
        self.lives = [first]
        """What each stream at this path held in the end, one after the other."""
        self.there, self.closed = True, False
        self.first_moved = self.first_ended = False
        """Whether the first of them was appended to, closed or deleted; and whether one of the latter two."""

    def answer(self, name: str) -> int:
        """Do one operation; its status."""
        if name == "create":
            if self.there:
                return 409 if self.closed else 200
            self.lives.append("")
            self.there, self.closed = True, False
            return 201
        if not self.there:
            return 404
        if self.closed and name != "delete":
            return 204 if name == "close" else 409
        self.lives[-1] += OPERATIONS[name].partition("\n\n")[2]
        self.closed = self.closed or "close" in name
        self.there = name != "delete"
        if len(self.lives) == 1:
            self.first_moved, self.first_ended = True, self.closed or not self.there
        return 204


def divisions(count: int) -> Iterator[tuple[int, ...]]:
    """Every way to divide ``count`` operations into turns, as the sizes of the turns."""
    yield (count,)
    for first in range(1, count):
        yield from ((first, *rest) for rest in divisions(count - first))


async def carry_out(world: World, order: tuple[str, ...], sizes: tuple[int, ...], *, pipelined: bool) -> list[Exchange]:
    """Each part in a turn of its own; pipelined, the next one arrives while the sync of the last is under way."""
    exchanges: list[Exchange] = []
    world.disk.hold = pipelined
    for size in sizes:
        for name in order[len(exchanges) : len(exchanges) + size]:
            exchanges.append(asgi.parse(OPERATIONS[name]))
            exchanges[-1].begin(world.app)
        await settle()
        if pipelined and len(exchanges) > size:
            world.disk.release()
            world.disk.hold = True
            await settle()
    world.disk.release()
    await settle()
    return exchanges


async def race(first: str, order: tuple[str, ...], sizes: tuple[int, ...], *, pipelined: bool) -> None:
    world, model = await started(), Model(first)
    begin = offset(await put(world, "s", first))
    polls = [await long_poll(world, "s", "now"), await long_poll(world, "s", begin)]
    streams = [await sse(world, "s", "-1"), await sse(world, "s", "now")]
    exchanges = await carry_out(world, order, sizes, pipelined=pipelined)
    assert all(exchange.done for exchange in exchanges), "nothing hangs"
    assert [exchange.status for exchange in exchanges] == [model.answer(name) for name in order]
    for node in (world, await started(world.kv)):
        assert (await head(node, "s")).status == (200 if model.there else 404)
        if model.there:
            assert said(await get(node, "s")) == (200, model.lives[-1].encode(), model.closed)
    appended = model.lives[0][len(first) :]
    for poll in polls:
        check_long_poll(poll, model, appended.encode())
    for stream, whole in zip(streams, (model.lives[0], appended), strict=True):
        check_sse(stream, model, whole)
    for exchange in (*polls, *streams):
        exchange.leave()
        await exchange.finish()
    assert not world.driver.tails._waiting, "nobody is left waiting"
    assert (world.driver.admission.waiting, world.driver.admission.inflight_bytes) == (0, 0)


def check_long_poll(poll: Exchange, model: Model, appended: bytes) -> None:
    assert poll.done == model.first_moved, "whoever waits is answered when the stream moves, and not before"
    match said(poll):
        case (200, body, closed):
            assert appended.startswith(body)
            assert body
            assert not closed or body == appended
        case (204, _, closed):
            assert closed
            assert not appended, "the closure never comes without the data before it"
        case (404 | 410, _, _):
            assert not model.there or len(model.lives) > 1
        case (status, _, _):
            assert status is None


def check_sse(stream: Exchange, model: Model, whole: str) -> None:
    assert stream.done == model.first_ended, "it ends with its stream"
    text = data(stream)
    assert whole.startswith(text), "never the bytes of another stream at the path"
    if not model.first_ended or control(stream).get("streamClosed"):
        assert text == whole


@pytest.mark.parametrize("pipelined", [False, True], ids=["apart", "pipelined"])
@pytest.mark.parametrize("operations", RACES, ids=", ".join)
def test_racing_operations_answer_as_if_one_came_after_the_other(operations: tuple[str, ...], pipelined: bool) -> None:
    """Separate locks, elsewhere: an acked close was lost, a deleted stream came back, appends hung, readers too."""

    async def main() -> None:
        for order in permutations(operations):
            for sizes in divisions(len(order)):
                try:
                    await race(RACES[operations], order, sizes, pipelined=pipelined)
                except AssertionError as error:
                    error.add_note(f"{order} in turns of {sizes}")
                    raise

    simulate(main)
