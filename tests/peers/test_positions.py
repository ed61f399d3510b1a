"""Streams of many gigabytes: positions are 64 bits wide everywhere. The gigabytes are a hole planted in the store."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from durable_streams_cluster.ids import GroupId
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.kv import Family, Kv, WriteBatch
from durable_streams_cluster.storage.stream_reader import StreamReader
from durable_streams_cluster.streams.view import Record
from tests.peers.asking import control, data, delete, get, head, long_poll, offset, post, put, said, sse
from tests.peers.disk_node import serving_from
from tests.peers.test_forks import fork_of, kinds
from tests.runtime.world import settle, simulate, started
from tests.storage.crashes import reopen

TAILS = [2**31 - 1, 2**31, 2**32 - 1, 2**32, 3 * 2**30, 2**53 + 1]
PRODUCER = ("producer-id: p", "producer-epoch: 0")


def plant(kv: Kv, path: str, tail: int) -> None:
    """Let the stream, as a node left it, end at ``tail`` (bytes) with the record "end"."""
    view = StreamReader(kv, GroupId(1))
    ref = view.find(path)
    meta = view.meta(ref) if ref is not None else None
    assert ref is not None
    assert meta is not None
    batch = WriteBatch()
    batch.put(
        Family.DATA, keys.record(ref.slot, 0, ref.id, tail), codecs.encode_record(meta.touched_at, Record(tail, b"end"))
    )
    batch.put(Family.DATA, keys.meta(ref.slot, 0, ref.id), codecs.encode_meta(replace(meta, tail=tail)))
    kv.write(batch)


def at(position: int) -> str:
    return f"{1:016d}_{position:016d}"


async def use(node: Any, tail: int) -> None:
    """Append, read, wait, fork: everything behind the hole."""
    assert offset(await head(node, "s")) == at(tail)
    assert said(await get(node, "s", f"offset={at(tail)}")) == (200, b"", False)
    poll, stream = await long_poll(node, "s", at(tail)), await sse(node, "s", at(tail))
    answer = await post(node, "s", "two", *PRODUCER, "producer-seq: 0")
    assert (answer.status, offset(answer)) == (200, at(tail + 3))
    await poll.finish()
    await settle()
    assert (poll.body, offset(poll)) == (b"two", at(tail + 3))
    assert (data(stream), control(stream)["streamNextOffset"]) == ("two", at(tail + 3))
    stream.leave()
    await stream.finish()
    assert (await put(node, "f", " own", fork_of("s"), f"stream-fork-offset: {at(tail)}")).status == 201
    cut = (f"stream-fork-offset: {at(tail)}", "stream-fork-sub-offset: 2")
    assert (await put(node, "g", "", fork_of("s"), *cut)).status == 201
    assert (await get(node, "s", f"offset={at(tail + 9)}")).header(b"stream-next-offset") == at(tail + 9).encode()
    assert (await get(node, "s", f"offset={at(tail + 1)}")).status == 400


async def check(node: Any, tail: int) -> None:
    """What ``use`` left, also after a restart."""
    assert offset(await head(node, "s")) == at(tail + 3)
    assert (await get(node, "s")).body == b"oneendtwo"
    assert (await get(node, "s", f"offset={at(3)}")).body == b"endtwo"
    assert (await get(node, "s", f"offset={at(tail)}")).body == b"two"
    assert (await get(node, "f")).body == b"oneend own"
    assert offset(await head(node, "f")).endswith(f"_{tail + 4:016d}")
    assert (await get(node, "g", f"offset={at(tail)}")).body == b"tw"
    again = await post(node, "s", "two", *PRODUCER, "producer-seq: 0")
    assert (again.status, offset(again)) == (204, at(tail + 3))


@pytest.mark.parametrize("tail", TAILS)
def test_a_stream_goes_on_beyond_two_gibibytes(tail: int) -> None:
    """A server with one file per stream had positions of 31 bits: at a restart the tail was 0, and reads were empty."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        plant(world.kv, "s", tail)
        world = await started(world.kv)
        await use(world, tail)
        await check(world, tail)
        again = await started(world.kv)
        await check(again, tail)
        for path in "sfg":
            await delete(again, path)
        assert kinds(again) == [b"G"]

    simulate(main)


def test_a_stream_goes_on_beyond_two_gibibytes_on_disk(tmp_path: Path) -> None:
    """The same on RocksDB, whose keys carry the position."""
    tail = 2**53 + 1

    async def main() -> None:
        async with serving_from(tmp_path / "node") as node:
            await put(node, "s", "one")
        kv = reopen(tmp_path / "node")
        plant(kv, "s", tail)
        kv.close()
        async with serving_from(tmp_path / "node") as node:
            await use(node, tail)
        async with serving_from(tmp_path / "node") as node:
            await check(node, tail)

    asyncio.run(main())


def test_a_body_beyond_two_gibibytes_is_refused_by_its_length() -> None:
    """Where a length wraps around, a large body is taken for a small one."""

    async def main() -> None:
        world = await started()
        await put(world, "s", "one")
        for length in (2**31, 2**32 + 1, 2**63, 2**64 + 1):
            assert (await post(world, "s", "x", f"content-length: {length}")).status == 413
            assert (await put(world, "t", "x", f"content-length: {length}")).status == 413
        assert (await get(world, "s")).body == b"one"
        assert (await head(world, "t")).status == 404

    simulate(main)
