"""What is acknowledged, what is visible, and what a crash leaves of both."""

import asyncio
import os
from pathlib import Path

import pytest

from durable_streams_cluster.limits import MAX_TTL_S
from durable_streams_cluster.runtime.jobs import Jobs
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.streams.commands import Append, Command, Create, Delete, Fork, Producer
from durable_streams_cluster.streams.outcomes import Appended
from tests.peers.asking import begin, close, data, delete, get, head, long_poll, offset, post, put, said, sse, target
from tests.peers.disk_node import serving_from
from tests.replica.node import Node, create
from tests.runtime.world import settle, simulate, started
from tests.storage.crashes import crash, headers, wals

PRODUCER = ("producer-id: p", "producer-epoch: 0")

# ------------------------------------------------------------------------------------------------ a crash at each write


def batch(seq: int, *, close: bool = False) -> Append:
    return Append("s", "text/plain", b"%d" % seq, close, None, Producer("p", 0, seq))


def test_the_retry_of_a_producers_batch_is_stored_once_whenever_the_crash_came() -> None:
    """A plugin wrote the producer's state after the data: after a crash between, a retry was stored a second time."""
    node = Node().boot()
    node.done(create("s"))
    batches = [batch(0), batch(1), batch(2, close=True)]
    begun, answers = len(node.batches), []
    for each in batches:
        answers.append(node.done(each))
        for survived in range(begun, len(node.batches) + 1):
            again = Node(node.batches[:survived]).boot()
            for retried, answer in zip(batches, answers, strict=False):
                found = again.done(retried)
                if answer is answers[-1] or not answers[-1].closed:  # an earlier batch meets a closed stream
                    assert isinstance(found, Appended)
                    assert found.next_offset == answer.next_offset, "at the same place"
            assert again.content("s") == b"012"[: len(answers)], "each once, and in order"


HISTORY: list[tuple[str, Command]] = [
    ("create", create("s")),
    ("append", Append("s", "text/plain", b"1", False, None, None)),
    ("fork", Create("f", "text/plain", None, None, False, b"F", Fork("s", None, 0))),
    ("close", Append("s", None, b"", True, None, None)),
    ("delete", Delete("s")),
    ("delete the fork", Delete("f")),
    ("create again", create("s", ttl_s=10)),
    ("append again", Append("s", "text/plain", b"2", False, b"5", None)),
]


def state(node: Node) -> list[object]:
    """All that can be asked about both paths."""
    view = node.replica.group.store.committed
    found: list[object] = []
    for path in ("s", "f"):
        ref = view.find(path)
        found.append((ref and view.meta(ref), node.content(path)))
    return found


def test_a_crash_takes_back_nothing_that_was_acknowledged_whatever_it_was() -> None:
    """Elsewhere only bytes were logged: acked deletes came back, and creates, closes and forks were forgotten."""
    node = Node().boot()
    for name, command in HISTORY:
        before, begun = state(node), len(node.batches)
        node.propose(command, name)
        node.settle()
        after = state(node)
        assert before != after
        assert name in node.answers
        for survived in range(begun, len(node.batches) + 1):
            found = state(Node(node.batches[:survived]).boot())
            # One sync, of the first write, is behind the answer; what the second one holds is made again from it.
            assert found == (after if survived > begun else before), f"{name}, after {survived - begun} writes"


# ------------------------------------------------------------------------------------------- acknowledged, and visible


def test_nobody_sees_what_is_not_durable() -> None:
    """Readers elsewhere read to the end of the file: they held bytes that a power cut then took back."""

    async def main() -> None:
        world = await started()
        tail = offset(await put(world, "s", "one"))
        poll, stream = await long_poll(world, "s"), await sse(world, "s", "now")
        world.disk.hold = True
        writes = [asyncio.ensure_future(each) for each in (post(world, "s", "two"), close(world, "s"))]
        await settle()
        assert world.disk.waiting == 1
        assert said(await get(world, "s")) == (200, b"one", False)
        assert offset(await head(world, "s")) == tail
        assert not poll.done
        assert data(stream) == ""
        assert not any(write.done() for write in writes)
        world.disk.release()
        await asyncio.gather(*writes)
        await settle()
        assert said(poll) == (200, b"two", True)
        assert data(stream) == "two"

    simulate(main)


def test_a_stream_that_is_created_or_deleted_is_so_only_once_that_is_durable() -> None:
    """The same for what is no append: existence is acknowledged as bytes are."""

    async def main() -> None:
        world = await started()
        await put(world, "old", "x")
        world.disk.hold = True
        writes = [asyncio.ensure_future(each) for each in (put(world, "new", "x"), delete(world, "old"))]
        await settle()
        assert [(await head(world, path)).status for path in ("old", "new")] == [200, 404]
        world.disk.release()
        assert [(await write).status for write in writes] == [201, 204]
        assert [(await head(world, path)).status for path in ("old", "new")] == [404, 200]

    simulate(main)


@pytest.mark.parametrize("reaches", ["log", "queue"])
@pytest.mark.parametrize(
    ("kind", "headers", "unknown"),
    [
        ("plain", (), 409),
        ("producer", (*PRODUCER, "producer-seq: 0"), 504),
        ("closing", ("stream-closed: true",), 409),
    ],
)
def test_an_append_without_an_answer_is_not_called_refused_and_its_retry_is_no_second_one(
    kind: str, headers: tuple[str, ...], unknown: int, reaches: str
) -> None:
    """A server with a sharded log answered 500, stored it later, and took the retry for a duplicate or stored both."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "")
        await put(world, "other", "")
        world.disk.hold = True
        ahead = [await begin(world, f"POST {target('other')}\ncontent-type: text/plain\n\nx")]
        if reaches == "log":
            world.disk.release()
            await settle()
            world.disk.hold = True
        lines = "\n".join([f"POST {target('s')}", "content-type: text/plain", *headers, "", "body"])
        first = await begin(world, lines)
        await asyncio.sleep(world.limits.proposal_timeout_s + 1)
        world.driver.give_up_overdue()
        await settle()
        assert first.status == (unknown if reaches == "log" else 503)
        world.disk.release()
        await settle()
        stored = said(await get(world, "s"))
        assert stored == (200, b"body" if reaches == "log" else b"", kind == "closing" and reaches == "log")
        if kind == "producer":
            again = await post(world, "s", "body", *headers)
            assert again.status == (204 if reaches == "log" else 200)
            assert (await get(world, "s")).body == b"body"
        assert [exchange.done for exchange in ahead] == [True]

    simulate(main)


def test_a_close_without_an_answer_may_be_asked_again() -> None:
    """A close stores no bytes: told 504, clients ask again by themselves; a 409 would stop them."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "x")
        world.disk.hold = True
        first = await begin(world, f"POST {target('s')}\nstream-closed: true\n\n")
        await asyncio.sleep(world.limits.proposal_timeout_s + 1)
        world.driver.give_up_overdue()
        await settle()
        assert first.status == 504
        world.disk.release()
        await settle()
        assert (await close(world, "s")).status == 204

    simulate(main)


# ------------------------------------------------------------------------------------------------------------- restarts


def test_a_sliding_window_outlives_a_restart() -> None:
    """A plugin did not store when a stream was used last: after a restart every one with a TTL was gone."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "x", "stream-ttl: 100")
        await asyncio.sleep(60)
        assert (await get(world, "s")).status == 200
        again = await started(world.kv)
        await asyncio.sleep(95)
        assert (await head(again, "s")).status == 200, "the read counts, though it wrote no bytes"
        assert (await head(again, "s")).header(b"stream-ttl") == b"100"
        await asyncio.sleep(20)
        assert (await head(again, "s")).status == 404, "and its end still comes"

    simulate(main)


@pytest.mark.parametrize("seconds", [0, 1, MAX_TTL_S, MAX_TTL_S + 1, 2**53, 2**63, 2**64 - 1, 2**64, 10**40])
def test_a_ttl_of_any_size_is_kept_or_refused(seconds: int) -> None:
    """A server added the largest TTL to the time of day, which wrapped around: it panicked."""

    async def main() -> None:
        world = await started()
        kept = seconds <= MAX_TTL_S
        assert (await put(world, "s", "x", f"stream-ttl: {seconds}")).status == (201 if kept else 400)
        world = await started(world.kv)
        await Jobs(world.driver, world.streams, world.clock, world.metrics).expire()
        await asyncio.sleep(min(0.9 * seconds, 1_000))
        assert (await get(world, "s")).status == (200 if kept and seconds else 404)

    simulate(main)


def test_appends_behind_a_torn_tail_are_read(tmp_path: Path) -> None:
    """A server with one file per stream kept the torn frame: what was acked behind it could not be read any more."""

    async def main() -> None:
        async with serving_from(tmp_path / "node") as node:
            await put(node, "s", "one ")
            await post(node, "s", "two ")
            copy = crash(tmp_path / "node")
        newest = wals(copy)[-1]
        last = newest.read_bytes()[headers(newest)[-1] :]
        with newest.open("ab") as file:
            file.write(last[: len(last) // 2])
        for number in (3, 4):
            async with serving_from(copy) as again:
                assert (await get(again, "s")).body.startswith(b"one two ")
                await post(again, "s", f"{number} ", *PRODUCER, f"producer-seq: {number - 3}")
                cut_off = crash(copy)
        async with serving_from(cut_off) as last:
            assert (await get(last, "s")).body == b"one two 3 4 "

    asyncio.run(main())


def test_the_database_has_its_name_before_anything_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were synced elsewhere, and not the directory they are in: a power cut took a new stream, name and all."""
    named: list[bool] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        fsync(handle)
        if Path(os.readlink(f"/proc/self/fd/{handle}")) == tmp_path / "node":
            named.append((tmp_path / "node" / "db").is_dir())

    monkeypatch.setattr(os, "fsync", note)
    RocksKv.open(tmp_path / "node", memory_budget=2**24).close()
    assert any(named), "RocksDB syncs what is in db/; the entry db/ itself is ours to sync"
