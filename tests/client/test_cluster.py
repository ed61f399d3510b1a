"""A client that was told of one node of a cluster knows the others soon, and outlives the one."""

import asyncio
import random
from pathlib import Path

from durable_streams_client import Client
from durable_streams_client.grpc_transport import GrpcTransport
from tests.cluster import kill, running_cluster


async def until_it_knows(transport: GrpcTransport, leader: str) -> None:
    async with asyncio.timeout(20):
        while transport._routes.leader != leader:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


def test_one_node_is_enough_to_find_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        with running_cluster(folder=tmp_path) as cluster:
            leader = cluster.leader()
            targets = dict(zip(cluster.names, cluster.targets, strict=True))
            named = random.choice([name for name in cluster.names if name != leader])
            async with Client(targets[named]) as client:
                assert isinstance(client.transport, GrpcTransport)
                stream = client.stream("s")
                await stream.create(content_type="text/plain", body="1 ")
                await until_it_knows(client.transport, targets[leader])
                await stream.append("2 ")
                assert client.transport._writer._target == targets[leader]
                kill(cluster.pids[named])
                await stream.append("3")
                assert (await stream.read()).data == b"1 2 3"

    asyncio.run(main())
