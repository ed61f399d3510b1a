"""A producer at full speed and a follower at another node, while nodes die, hang and are restarted one by one.

``SDK_FAULTS=50`` is the number of faults of each kind; a few are enough to see that nothing is amiss.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_client import Client, ProducerLimits
from tests.server import LOOPBACK, Server, until
from tests.system.three import readiness, start, three

FAULTS = int(os.environ.get("SDK_FAULTS", "3"))
CALM = 5_000
"""Records that are sent between two faults."""
SILENT_S = 10.0
"""Longer than an election takes, and than a connection lives without a sign of life."""


def leader(servers: dict[str, Server]) -> Server:
    found: list[Server] = []
    until(lambda: bool(found) or bool(found.extend(_leading(servers))), "nobody leads")
    return found[0]


def _leading(servers: dict[str, Server]) -> list[Server]:
    return [each for each in servers.values() if "leader: leader" in readiness(each)]


def killed(servers: dict[str, Server]) -> None:
    """The leader, which is started again."""
    one = leader(servers)
    one.kill()
    start(one)


def silent(servers: dict[str, Server]) -> None:
    """The leader, for ten seconds."""
    one = leader(servers)
    assert one.process is not None
    os.kill(one.process.pid, signal.SIGSTOP)
    time.sleep(SILENT_S)
    os.kill(one.process.pid, signal.SIGCONT)


def restarted(servers: dict[str, Server]) -> None:
    """Each, one after the other."""
    for one in servers.values():
        assert one.stop() == 0
        start(one)


class Traffic:
    """Numbers, from one client to the other."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self._targets = [f"{LOOPBACK}:{each.ports['grpc']}" for each in servers.values()]
        self.sent = 0
        self.got: list[int] = []
        self._stop = False

    async def run(self, faults: Callable[[], None]) -> None:
        """Until ``faults`` is done, and everything has arrived. Raises what producer or follower does."""
        async with Client(self._targets) as one, Client(self._targets[::-1]) as other:
            stream = one.stream("numbers", content_type="text/plain")
            await stream.create()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._follow(other))
                producing = both.create_task(self._produce(one))
                await asyncio.to_thread(faults)
                self._stop = True
                await producing
                await stream.close()

    async def _produce(self, client: Client) -> None:
        stream = client.stream("numbers", content_type="text/plain")
        async with stream.producer(limits=ProducerLimits(batch_records=200)) as producer:
            while not self._stop:
                await producer.append(f"{self.sent}\n")
                self.sent += 1
                if self.sent % 1000 == 0:
                    await asyncio.sleep(0.02)  # Some fifty thousand a second: others need the processors, too.

    async def _follow(self, client: Client) -> None:
        rest = b""
        async for page in client.stream("numbers").follow():
            *lines, rest = (rest + page.data).split(b"\n")
            self.got += map(int, lines)


@pytest.mark.parametrize("fault", [killed, silent, restarted])
def test_each_record_is_there_once_and_in_order_and_nobody_sees_an_exception(
    fault: Callable[[dict[str, Server]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with three(tmp_path) as servers:
        traffic = Traffic(servers)

        def calm() -> None:
            goal = traffic.sent + CALM
            until(lambda: traffic.sent >= goal, "nothing is sent any more")

        def faults() -> None:
            for _ in range(FAULTS):
                calm()
                fault(servers)
            calm()

        asyncio.run(traffic.run(faults))
        assert traffic.got == list(range(traffic.sent))
        with capsys.disabled():
            print(f"\n{fault.__name__} {FAULTS} times: {traffic.sent} records, each once and in order")
