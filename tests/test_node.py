"""What a node makes of a directory that cannot be trusted, and what it says of itself."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from durable_streams_cluster import opening
from durable_streams_cluster.config import Addresses, Config
from durable_streams_cluster.errors import CorruptData, StorageError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.node import Node, _on_disk
from durable_streams_cluster.storage import repair
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from durable_streams_cluster.storage.memory import MemoryKv
from tests.runtime.peering import run
from tests.test_opening import N1, N2, THREE, members

# --- What becomes of one that cannot be trusted.


def told(path: Path, **settings: str) -> Config:
    return Config.load({"data-dir": str(path), **settings}, {}, None)


def broken(path: Path, others: tuple[tuple[NodeId, str], ...]) -> CorruptData:
    """A directory that takes part, and knows of these, and what was found there."""
    IdentityFile(path).write(StoredIdentity(N1, 7, "c-1", members(7), begun=True, others=others))
    return CorruptData("it has forgotten what it promised")


def test_it_is_marked_also_if_it_cannot_be_repaired_yet(tmp_path: Path) -> None:
    """Not marked, the next start took it for sound: of an old image nothing is to be seen in the store."""
    damage = broken(tmp_path, ((N2, "host:2"),))
    for number in (1, 2):
        (tmp_path / f"damaged-{number}").mkdir()
    assert opening.note_damage(told(tmp_path), damage) is not None
    for _ in range(2):
        with pytest.raises(StorageError, match=r"holds damaged-1 and damaged-2 .*Next step: .*remove these folders"):
            asyncio.run(_on_disk(told(tmp_path)))
    (tmp_path / "damaged-1").rmdir()
    node = asyncio.run(_on_disk(told(tmp_path)))
    assert "forgotten what it promised" in node._belongs()[1]


def test_an_image_from_before_there_were_others_is_marked_once_it_has_met_them(tmp_path: Path) -> None:
    damage = broken(tmp_path, ())
    assert opening.note_damage(told(tmp_path), damage) is None
    repair.check(tmp_path)
    assert opening.note_damage(told(tmp_path), damage, others=True) is not None
    for settings in ({}, {"initial-cluster": "n1=host:1"}):
        with pytest.raises(CorruptData, match=r"Next step: start this node with --join .*forgotten what it promised"):
            asyncio.run(_on_disk(told(tmp_path, **settings)))
    for settings in ({"join": "host:2"}, {"initial-cluster": THREE}):
        assert asyncio.run(_on_disk(told(tmp_path, **settings)))._former is not None
    with pytest.raises(CorruptData, match=r"^it has forgotten what it promised$"):
        repair.check(tmp_path)


# --- Whether it is ready, as it says over gRPC.


def test_its_health_is_that_of_readyz_and_bad_from_the_moment_on_that_it_drains() -> None:
    async def main() -> None:
        listeners = dict.fromkeys(("http", "grpc", "peer", "ops"), "127.0.0.1:0")
        config = Config.load({"in-memory": "true", **listeners}, {}, None)
        node = Node(config, opening.volatile(config), None, MemoryKv())
        node._clients._pause = lambda _: asyncio.Event().wait()  # No look helps it.
        ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        await node.start(ready.set_result)
        async with grpc.aio.insecure_channel(str((await ready).grpc)) as channel:
            stub: Any = HealthStub(channel)
            assert (await stub.Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
            node._ready["disk"] = lambda: (False, "almost full")
            assert (await stub.Check(HealthCheckRequest())).status == HealthCheckResponse.NOT_SERVING
            del node._ready["disk"]
            watch = stub.Watch(HealthCheckRequest())
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            assert node._serving is not None
            drain, told = node._serving.drain, []

            async def draining() -> None:
                told.append((await watch.read()).status)
                await drain()

            node._serving.drain = draining  # type: ignore[method-assign]
            assert await node.stop()
            assert told == [HealthCheckResponse.NOT_SERVING]
            assert await watch.read() is grpc.aio.EOF

    run(main())
