"""A node that is left alone of three says so, over gRPC and HTTP alike: nothing was stored, try again later."""

import asyncio
from pathlib import Path

import httpx

from durable_streams_client import Client
from durable_streams_client import errors as e
from tests.cluster import PORTS_APART, kill, running_cluster
from tests.server import LOOPBACK, until

PATIENCE_S = 25.0
"""A node waits fifteen seconds for a leader itself."""


def readiness(url: str) -> str:
    return httpx.get(url).text


async def refused(target: str) -> None:
    async with Client(target, timeout_s=PATIENCE_S) as client:
        stream = client.stream("s", content_type="text/plain")
        calls = (stream.append("x"), stream.read(), stream.head(), client.stream("t").create(), stream.delete())
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, e.UnavailableError), error
            assert (error.retryable, error.maybe_applied) == (True, False)


def test_no_quorum(tmp_path: Path) -> None:
    async def main() -> None:
        with running_cluster(folder=tmp_path) as cluster:
            leader = cluster.leader()
            left = next(name for name in cluster.names if name != leader)
            place = cluster.names.index(left)
            ops = f"http://{LOOPBACK}:{cluster.base_port + PORTS_APART * place + 3}/readyz?verbose"
            async with Client(cluster.targets[place]) as client:
                await client.stream("s").create(content_type="text/plain", body="1")
            for name in cluster.names:
                if name != left:
                    kill(cluster.pids[name])
            # Until then it hands on what it is asked, and does not know what becomes of that.
            await asyncio.to_thread(until, lambda: "led by nobody" in readiness(ops), "it still believes in a leader")
            await asyncio.gather(refused(cluster.targets[place]), refused(cluster.urls[place]))

    asyncio.run(main())
