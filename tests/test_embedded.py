"""A node inside a program: what it takes, what it leaves alone, and how it starts, fails and ends."""

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from durable_streams_client import Client
from durable_streams_client.testing import running_node
from durable_streams_cluster import EmbeddedNode, embedded
from durable_streams_cluster.errors import ConfigError, DataDirLocked, DiskHangs, StorageError
from durable_streams_cluster.limits import MIB
from durable_streams_proto.v1.admin_pb2 import StatusRequest
from durable_streams_proto.v1.admin_pb2_grpc import AdminStub
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest
from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.runtime.peering import run

PUT = "PUT /v1/stream/s\ncontent-type: text/plain\n\none"
POST = "POST /v1/stream/s\ncontent-type: text/plain\n\ntwo"
TAIL = "GET /v1/stream/s?offset=-1&live=sse\n\n"


def begin(node: EmbeddedNode, request: str) -> Exchange:
    exchange = asgi.parse(request)
    exchange.begin(node.asgi)
    return exchange


async def ask(node: EmbeddedNode, request: str) -> Exchange:
    exchange = begin(node, request)
    await exchange.finish()
    return exchange


async def read(node: EmbeddedNode) -> tuple[int | None, bytes]:
    answered = await ask(node, "GET /v1/stream/s?offset=-1\n\n")
    return answered.status, answered.body


async def first_page(tail: Exchange) -> None:
    """Wait until it has sent something."""
    while not tail.pieces:  # noqa: ASYNC110  # of a plain ASGI exchange nothing tells
        await asyncio.sleep(0)


def listening() -> set[str]:
    """The listening sockets of this process."""
    files = {str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
    tables = [Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in files}


# --- What it is told.


def test_settings_have_the_names_and_values_of_the_configuration() -> None:
    rules = {"logs/": {"retain-age": "7d"}}
    node = EmbeddedNode(None, max_append_bytes="1MiB", sse_lifetime="5s", memory_budget=256 * MIB, prefixes=rules)
    config = node._config
    assert (config.limits.max_append_bytes, config.limits.sse_lifetime_s, config.limits.memory_budget) == (
        MIB,
        5,
        256 * MIB,
    )
    assert config.policies.of("logs/a").retain_age_s == 7 * 24 * 3600


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_apend_bytes": "1MiB"}, r"EmbeddedNode: unknown setting .*; did you mean 'max-append-bytes'\?"),
        ({"max_append_bytes": "1 MB"[::-1]}, r"max-append-bytes \(argument max_append_bytes\): .* is not a size"),
        ({"sse_lifetime": 30}, r"argument sse_lifetime: sse-lifetime must be a string, not 30"),
        ({"prefixes": {"logs/": {"ttl": []}}}, r"argument prefixes: prefixes must be tables like"),
        ({"prefixes": {"logs/": {"tll": "1h"}}}, r"prefixes \(argument prefixes\): "),
        ({"http": "127.0.0.1:80"}, r"EmbeddedNode: http is of durable-streams serve; here are node, "),
        ({"initial_cluster": "n1=a:1"}, r"initial_cluster is of durable-streams serve"),
        ({"grpc": "0.0.0.0:4438"}, r"grpc \(argument grpc\): .* can be reached by other machines"),
        ({"public_url": "ftp://x"}, r"public-url \(argument public_url\): 'ftp://x' is not http"),
    ],
)
def test_a_wrong_setting_is_told_when_the_node_is_made(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EmbeddedNode("./data", **settings)


def test_nothing_is_read_from_the_environment_and_nothing_of_the_process_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_NODE", "other")
    monkeypatch.setenv("DURABLE_STREAMS_MAX_APPEND_BYTES", "nonsense")

    def world() -> list[Any]:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        names = ("", "durable_streams_cluster", "grpc", "uvicorn")
        loggers = [(logging.getLogger(name).level, logging.getLogger(name).handlers[:]) for name in names]
        return [handlers, loggers, listening()]

    async def main() -> None:
        before = world()
        async with EmbeddedNode(tmp_path / "data") as node:
            assert world() == before
            assert node._config.node == "n1"
            assert node.target is None
        assert world() == before

    run(main())


def test_the_package_is_light_until_the_node_is_asked_for() -> None:
    script = (
        "import sys, durable_streams_cluster as c; light = set(sys.modules); c.EmbeddedNode; "
        "print([n for n in ('asyncio', 'grpc', 'rocksdict', 'msgspec') if n in light], 'rocksdict' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"


def test_what_to_install_is_told_where_the_extra_is_missing() -> None:
    script = "import sys; sys.modules['rocksdict'] = None; from durable_streams_cluster import EmbeddedNode"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "EmbeddedNode needs the package 'rocksdict'; try: pip install 'durable-streams-cluster[cluster]'" in done.stderr
    )


# --- Start and end.


def test_it_answers_503_until_it_runs_and_after_it_ran_and_keeps_what_it_stored(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path / "data")
    app = node.asgi

    async def main() -> None:
        for content in (b"one", b"onetwo", b"onetwotwo"):
            assert (await read(node))[0] == 503
            async with node as entered:
                assert entered is node
                assert node.asgi is app
                await ask(node, PUT)
                assert await read(node) == (200, content)
                await ask(node, POST)
        assert (await read(node))[0] == 503

    run(main())


def test_it_is_entered_once_at_a_time() -> None:
    async def main() -> None:
        node = EmbeddedNode(None)
        async with node:
            with pytest.raises(RuntimeError, match="runs already"):
                await node.__aenter__()
            assert (await ask(node, PUT)).status == 201

    run(main())


def test_a_directory_is_of_one_process_and_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with EmbeddedNode(tmp_path / "data"):
            second = EmbeddedNode(tmp_path / "data")
            with pytest.raises(DataDirLocked, match=r"in use by another process .*run one worker process; or one node"):
                await second.__aenter__()
            assert (await read(second))[0] == 503
        async with second:
            assert (await ask(second, PUT)).status == 201

    run(main())


def test_the_command_serves_the_same_directory_before_and_after(tmp_path: Path) -> None:
    async def embed() -> bytes:
        async with EmbeddedNode(tmp_path / "data") as node:
            await ask(node, POST)
            return (await read(node))[1]

    with running_node(tmp_path / "data") as serving, httpx.Client(trust_env=False) as client:
        stream = f"{serving.url}/v1/stream/s"
        assert client.put(stream, headers={"content-type": "text/plain"}, content=b"one").status_code == 201
    assert asyncio.run(embed()) == b"onetwo"
    with running_node(tmp_path / "data") as serving, httpx.Client(trust_env=False) as client:
        assert client.get(f"{serving.url}/v1/stream/s").content == b"onetwo"


def test_leaving_it_ends_live_reads_with_a_control_event() -> None:
    async def main() -> None:
        async with EmbeddedNode(None) as node:
            await ask(node, PUT)
            tail = begin(node, TAIL)
            await first_page(tail)
        await tail.finish()
        assert tail.ended
        assert tail.pieces[-1].startswith(b"event: control\n")

    run(main())


def test_it_can_be_drained_before_it_is_left() -> None:
    """Servers wait for open responses before they end the application."""

    async def main() -> None:
        node = EmbeddedNode(None)
        node.drain()
        async with node:
            await ask(node, PUT)
            tail = begin(node, TAIL)
            await first_page(tail)
            node.drain()
            await tail.finish()
            assert tail.pieces[-1].startswith(b"event: control\n")
            assert (await ask(node, POST)).status == 204

    run(main())


def test_a_start_that_is_cancelled_leaves_the_directory_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens, opened = asyncio.Event(), embedded.opening.open_alone

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def opening(config: Any) -> Any:
            loop.call_soon_threadsafe(opens.set)
            return opened(config)

        monkeypatch.setattr(embedded.opening, "open_alone", opening)
        node = EmbeddedNode(tmp_path / "data")
        entering = asyncio.ensure_future(node.__aenter__())
        await opens.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        async with node:
            assert (await ask(node, PUT)).status == 201

    run(main())


def test_a_start_that_fails_leaves_the_directory_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with EmbeddedNode(None, grpc="127.0.0.1:0") as other:
            node = EmbeddedNode(tmp_path / "data", grpc=other.target)
            with pytest.raises(ConfigError, match=r"grpc: cannot listen on .*the address is in use"):
                await node.__aenter__()
        async with node:
            assert (await ask(node, PUT)).status == 201

    run(main())


# --- Failures.


@asynccontextmanager
async def failing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[EmbeddedNode, Any]]:
    """A node in whose store a sync hangs, and what ends it with a failure."""
    monkeypatch.setattr(embedded, "GRACE_S", 0.0)
    node = EmbeddedNode(None)
    async with node:
        await ask(node, PUT)
        assert node._run is not None
        driver = node._run._serving.driver
        driver._disk.sync = lambda *_, **__: None  # type: ignore[method-assign]
        yield node, lambda: driver.fail(StorageError("the disk is gone"))


def test_a_store_that_fails_is_told_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        async with failing(monkeypatch) as (node, fail):
            nodes.append(node)
            tail, append = begin(node, TAIL), begin(node, POST)
            await first_page(tail)
            assert not node.failed.is_set()
            assert not append.done
            fail()
            await node.failed.wait()
            assert str(node.failure) == "the disk is gone"
            refused = await ask(node, POST)
            assert refused.status == 503
            assert b"has failed: the disk is gone" in refused.body
            await append.finish()
            assert (append.status, b'"outcome_unknown"' in append.body) == (409, True)
            await tail.finish()
            assert tail.ended

    async def main() -> None:
        with pytest.raises(StorageError, match="the disk is gone"):
            await fails()
        (node,) = nodes
        assert node.failure is None
        async with node:
            assert not node.failed.is_set()
            assert (await ask(node, PUT)).status == 201

    nodes: list[EmbeddedNode] = []
    run(main())


def test_what_the_program_raises_is_not_hidden_by_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        async with failing(monkeypatch) as (_, fail):
            fail()
            raise KeyError

    async def main() -> None:
        with pytest.raises(KeyError):
            await fails()

    run(main())


def test_a_disk_that_does_not_answer_at_the_end_is_told() -> None:
    async def main() -> None:
        node = EmbeddedNode(None)
        await node.__aenter__()
        assert node._run is not None
        driver = node._run._serving.driver
        close, driver.close = driver.close, lambda: False  # type: ignore[method-assign]
        with pytest.raises(DiskHangs):
            await node.__aexit__(None, None, None)
        close()
        assert (await read(node))[0] == 503

    run(main())


# --- Over gRPC.


def test_a_listener_for_the_sdk_if_that_is_asked_for() -> None:
    async def main() -> None:
        node = EmbeddedNode(None, grpc="127.0.0.1:0")
        assert node.target is None
        async with node:
            assert node.target is not None
            assert len(listening()) == 1
            async with Client(node.target) as client:
                await client.stream("s").create(content_type="text/plain", body="one")
                assert (await client.stream("s").read()).text() == "one"
            assert await read(node) == (200, b"one")
            async with grpc.aio.insecure_channel(node.target) as channel:
                health, admin = HealthStub(channel), AdminStub(channel)
                watch: Any = health.Watch(HealthCheckRequest())
                assert (await watch.read()).status == HealthCheckResponse.SERVING
                assert (await admin.Status(StatusRequest())).members[0].member.node == "n1"
                refused = await admin.Change(ChangeRequest(remove="n1"))
                assert (refused.result, refused.text) == (
                    ChangeReply.REFUSED,
                    "this node is part of another program, and stays alone",
                )
                assert node._run is not None
                assert node._run._clients is not None
                looking = node._run._clients._looking
                assert looking is not None
                looking.cancel()  # It is told at once, and not by the next look.
                node.drain()
                assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert node.target is None

    run(main())
