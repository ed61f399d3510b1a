"""Two gateways in front of three nodes: many who read one stream through one, while it is written through the other.

Nodes are restarted, the leader is killed, and at last the readers' gateway is. ``GATEWAY_READERS=1000``: so many read.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.gateway_process import GatewayServer
from tests.server import LOOPBACK, Server, running
from tests.system.test_sdk import killed, restarted
from tests.system.three import three

READERS = int(os.environ.get("GATEWAY_READERS", "200"))
PAUSE_S = 0.02
"""Between two appends."""
CALM = 50
"""Appends between two faults."""
PATIENCE_S = 180.0
STREAM = "numbers"
EVENT = re.compile(rb"event: (data|control)\n((?:data:.*\n)+)\n")


class Reader:
    """Reads numbers, one a line, and takes them with the control event that follows them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.next = 0
        """The number that has to come."""
        self.offset = "-1"
        self.events = 0
        self.cut: list[str] = []
        """How its connections ended."""
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        request = f"GET /v1/stream/{STREAM}?offset={self.offset}&live=sse HTTP/1.1\r\nhost: h\r\n\r\n"
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            while size := int(await reader.readuntil(b"\r\n"), 16):
                self._take((await reader.readexactly(size + 2))[:-2])
            self.cut.append("its end")
        except (OSError, EOFError) as error:
            self.cut.append(repr(error))
        finally:
            writer.close()

    def _take(self, chunk: bytes) -> None:
        came: list[bytes] = []
        for kind, lines in EVENT.findall(chunk):
            if kind == b"data":
                came += b"\n".join(re.findall(rb"data: ?(.*)\n", lines)).split()
                continue
            self.events += 1
            self.offset = json.loads(lines[5:])["streamNextOffset"]
            expected = [b"%d" % number for number in range(self.next, self.next + len(came))]
            assert came == expected, f"{self.next} was to come, and {came[:3]} did"
            self.next += len(came)
            came = []
        assert not came, "data without its control event"

    def again(self) -> None:
        """Go on where it was."""
        self.task = asyncio.ensure_future(self._run())


class Traffic:
    """A writer through one gateway and readers through another."""

    def __init__(self, written: GatewayServer, read: GatewayServer) -> None:
        self.url = written.stream(STREAM)
        self.readers = [Reader(read.ports["http"]) for _ in range(READERS)]
        self.sent = 0
        self.again = 0
        """Requests that were made another time."""
        self._stop = asyncio.Event()
        self.writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            while not self._stop.is_set():
                batch = {"Producer-Id": "w", "Producer-Epoch": "0", "Producer-Seq": str(self.sent)}
                try:
                    answer = await client.post(
                        self.url, headers={"Content-Type": "text/plain", **batch}, content=b"%d\n" % self.sent
                    )
                except httpx.TransportError:
                    self.again += 1
                    continue
                if answer.status_code in (429, 503, 504):
                    self.again += 1
                    await asyncio.sleep(0.1)
                    continue
                assert answer.status_code in (200, 204), answer.text
                self.sent += 1
                await asyncio.sleep(PAUSE_S)

    async def during(self, faults: Callable[[], object]) -> None:
        """Nobody's read may end meanwhile, nor while some more is written."""
        breaking = asyncio.ensure_future(self._break(faults))
        tasks = {breaking, self.writing, *(each.task for each in self.readers)}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self.check()
        await breaking

    async def _break(self, faults: Callable[[], object]) -> None:
        await asyncio.to_thread(faults)
        calm = self.sent + CALM
        while self.sent < calm:  # noqa: ASYNC110  # the writer sets no event for each
            await asyncio.sleep(PAUSE_S)

    def check(self) -> None:
        """All go on."""
        ended = [each for each in self.readers if each.task.done()]
        for each in ended:
            each.task.result()
        assert not ended, f"{len(ended)} reads ended: {ended[0].cut}"
        if self.writing.done():
            self.writing.result()

    async def stop(self) -> None:
        """Write no more, and return when everybody has everything."""
        self._stop.set()
        await self.writing
        while any(each.next < self.sent for each in self.readers):
            self.check()
            await asyncio.sleep(0.05)
        assert {each.next for each in self.readers} == {self.sent}


async def run(servers: dict[str, Server], written: GatewayServer, read: GatewayServer) -> str:
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(timeout=60) as client:
        assert (await client.put(written.stream(STREAM), headers={"Content-Type": "text/plain"})).status_code == 201
        traffic = Traffic(written, read)
        while any(each.offset == "-1" for each in traffic.readers):
            traffic.check()
            await asyncio.sleep(0.05)
        for each in servers.values():
            await traffic.during(lambda: restarted({"": each}))  # noqa: B023
        for _ in range(2):
            await traffic.during(lambda: killed(servers))
        traffic.check()
        assert [each.cut for each in traffic.readers] == [[]] * READERS

        await asyncio.to_thread(read.kill)
        await asyncio.wait({each.task for each in traffic.readers})
        await asyncio.to_thread(read.start)
        for each in traffic.readers:
            each.task.result()
            each.again()
        await traffic.stop()
        assert [len(each.cut) for each in traffic.readers] == [1] * READERS
        for server in (*servers.values(), written, read):
            numbers = (await client.get(server.stream(STREAM), params={"offset": "-1"})).text.split()
            assert numbers == list(map(str, range(traffic.sent)))
        events = sum(each.events for each in traffic.readers)
        for each in traffic.readers:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in traffic.readers), return_exceptions=True)
    return f"{traffic.sent} appends, {traffic.again} of them again, {events} events to {READERS} readers"


def test_readers_notice_nothing_of_nodes_that_die(tmp_path: Path) -> None:
    with three(tmp_path) as servers:
        targets = [f"{LOOPBACK}:{each.ports['grpc']}" for each in servers.values()]
        arguments = ["--sse-lifetime", "1h"]
        with (
            running(GatewayServer(tmp_path / "written", targets, arguments)) as written,
            running(GatewayServer(tmp_path / "read", targets[::-1], arguments)) as read,
        ):
            assert isinstance(written, GatewayServer)
            assert isinstance(read, GatewayServer)
            print(asyncio.run(run(servers, written, read)))
            for each in (written, read):
                assert each.process is not None
                assert "ERROR" not in each.process.errors, each.process.errors
